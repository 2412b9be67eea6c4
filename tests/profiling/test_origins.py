"""Which operator and which block a node of the runtime's graph comes from, by graphs as the runtime writes them."""

from onnx import GraphProto, NodeProto, helper

from evm_deploy.profiling.origins import Origin, find_origins


def node(op: str, given: str, taken: str, name: str = "", domain: str = "") -> NodeProto:
    return helper.make_node(op, given.split(), taken.split(), name=name or f"node_{taken.split()[0]}", domain=domain)


def graph(*nodes: NodeProto) -> GraphProto:
    return helper.make_graph(list(nodes), "g", [], [])


# A stem, a block with two branches, and a head.
BUNDLED = graph(
    node("Conv", "image w0", "conv"),
    node("LayerNormalization", "conv s b", "model.patch_embed.output"),
    node("Conv", "model.patch_embed.output w1", "conv_1"),
    node("EfficientScan2D", "conv_1 p", "scan", domain="evm"),
    node("MatMul", "model.patch_embed.output w2", "linear"),
    node("Add", "scan linear", "model.layers.0.blocks.0.output"),
    node("MeanOfNorm", "model.layers.0.blocks.0.output model.classifier.norm.weight", "mean", domain="evm"),
    node("MatMul", "mean model.classifier.head.weight", "logits"),
)
STEM, BLOCK = "patch_embed", "layers.0.blocks.0"


def found(*nodes: NodeProto) -> list[tuple[str, str]]:
    return [(origin.op, origin.block) for origin in find_origins(BUNDLED, graph(*nodes))]


def test_the_graph_itself_is_told_by_block() -> None:
    blocks = [origin.block for origin in find_origins(BUNDLED, BUNDLED)]
    assert blocks == [STEM, STEM, BLOCK, BLOCK, BLOCK, BLOCK, "classifier", "classifier"]


def test_what_follows_the_last_block_of_a_backbone_is_outside_of_all() -> None:
    norms = [node("Mul", f"model.patch_embed.output model.outnorm{i}.weight", f"feature{i}") for i in range(2)]
    backbone = graph(*BUNDLED.node[:6], *norms)
    assert [origin.block for origin in find_origins(backbone, backbone)][-2:] == ["", ""]


def test_a_graph_whose_blocks_have_no_names_has_none() -> None:
    plain = graph(node("Conv", "image w", "a"), node("MatMul", "a w", "b"))
    assert find_origins(plain, plain) == [Origin("Conv", ""), Origin("MatMul", "")]


def test_the_order_in_which_branches_run_does_not_matter() -> None:
    turned = [BUNDLED.node[place] for place in (0, 1, 4, 2, 3, 5, 6, 7)]
    assert found(*turned)[2:5] == [("MatMul", BLOCK), ("Conv", BLOCK), ("EfficientScan2D", BLOCK)]


def test_a_change_of_layout_belongs_to_what_takes_its_value() -> None:
    nodes = (
        node("ReorderInput", "model.patch_embed.output", "reorder_token_1", "ReorderInput"),
        node("Conv", "reorder_token_1 w", "reorder_token_2", "conv_1_nchwc"),
        node("ReorderOutput", "reorder_token_2", "conv_1", "ReorderOutput"),
    )
    assert found(*nodes) == [("Conv", BLOCK)] * 3


def test_what_two_blocks_take_belongs_to_the_first() -> None:
    nodes = (
        node("Cast", "image", "made_up", "made_up"),
        node("Conv", "made_up w1", "conv_1"),
        node("MatMul", "made_up w3", "logits"),
    )
    assert found(*nodes)[0] == ("Conv", BLOCK)


def test_names_made_of_others_are_understood() -> None:
    for name in ("node_linear", "node_linear_token_12", "node_linear/MatMulAddFusion", "node_linear_token_1_nchwc"):
        assert found(node("QLinearConv", "a", "made_up", name)) == [("MatMul", BLOCK)], name
    assert found(node("QLinearConv", "a", "node_linear", "made_up")) == [("MatMul", BLOCK)]  # a value named after it


def test_a_name_that_only_begins_like_another_says_nothing() -> None:
    assert found(node("MatMul", "a", "made_up", "node_linear_1")) == [("", "")]


def test_a_node_from_nowhere_that_nothing_takes_is_outside() -> None:
    assert found(node("Shape", "image", "made_up", "made_up")) == [("", "")]


def test_all_of_an_inlined_body_is_of_its_function() -> None:
    inner, nested = "_inlfunc_EfficientScan2D_pad_2", "_inlfunc_SelectiveScan_add_4"
    nodes = (
        node("Pad", "conv_1", inner, " "),
        node("Add", inner, nested, " "),
        node("Reshape", nested, "scan", " "),
        node("Add", "scan linear", "model.layers.0.blocks.0.output"),
    )
    scans = ["EfficientScan2D", "SelectiveScan", "EfficientScan2D"]
    assert found(*nodes) == [(op, BLOCK) for op in scans] + [("Add", BLOCK)]


def test_a_body_whose_last_value_was_fused_away_keeps_its_function_and_block() -> None:
    body = "_inlfunc_EfficientScan2D_reshape_9"
    nodes = (node("Reshape", "conv_1", body, " "), node("Add", body + " linear", "model.layers.0.blocks.0.output"))
    assert found(*nodes) == [("EfficientScan2D", BLOCK), ("Add", BLOCK)]


def test_what_the_runtime_adds_within_a_body_is_of_its_function() -> None:
    body = "_inlfunc_SelectiveScan_matmul_3"
    nodes = (node("Reshape", "conv_1", "gemm_input", "gemm_input_reshape"), node("Gemm", "gemm_input", body, " "))
    taker = node("Add", body, "model.layers.0.blocks.0.output")
    assert found(*nodes, taker)[0] == ("SelectiveScan", BLOCK)


def test_a_scan_that_stands_written_out_in_the_bundle_is_one() -> None:
    """The exporter numbers its calls: 1 is the scan, 2 the recurrence within, 3 a norm, 4 what only comes before."""
    written = graph(
        node("Mul", "image", "before", "gate__4"),
        node("Pad", "before", "a", "pad__1"),
        node("Softplus", "a before", "b", "softplus__2"),
        node("Exp", "b", "c", "exp__2"),
        node("Reshape", "c", "d", "reshape__1"),
        node("LayerNormalization", "d", "e", "norm__3"),
        node("Add", "e a", "f"),
    )
    assert [origin.op for origin in find_origins(written, written)] == [
        "Mul",
        *["SelectiveScan"] * 4,
        "LayerNormalization",
        "Add",
    ]
