"""A graph of standard operators alone: bodies in the place of our operators, and what is constant computed."""

import onnx
import onnx.inliner
import onnx_ir.passes.common as common
from onnxscript import ir, optimizer

from evm_deploy.graph.blocks import block_of
from evm_deploy.graph.scan_results import find_scans, name_results

MOST = 2**18  # numbers that are computed ahead, or that something is computed of: 1 MB in float32
_PASSES = (
    common.IdentityEliminationPass(),
    common.RemoveUnusedNodesPass(),
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    common.DeduplicateInitializersPass(),
    common.CommonSubexpressionEliminationPass(),
    common.OutputFixPass(),
    common.RemoveUnusedOpsetsPass(),
)


def inline_bodies(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without functions. The results of scans and blocks have the names by which they are found."""
    name_results(proto)
    return _fold(onnx.inliner.inline_local_functions(proto))


def _fold(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Computes what depends on constants and on sizes that are fixed; repeated nodes and weights become one."""
    given = len(proto.graph.output)
    named = map(onnx.helper.make_empty_tensor_value_info, _list_named(proto.graph))
    proto.graph.output.extend(named)  # no pass takes away the name of an output
    model = ir.from_proto(proto)
    optimizer.fold_constants(model, onnx_shape_inference=True, input_size_limit=MOST, output_size_limit=MOST)
    for change in _PASSES:
        change(model)
    folded: onnx.ModelProto = ir.to_proto(model)
    del folded.graph.output[given:]
    for holder in (*folded.graph.node, *folded.graph.value_info, *folded.graph.output, *folded.graph.initializer):
        del holder.metadata_props[:]  # what was folded from what
    return folded


def _list_named(graph: onnx.GraphProto) -> list[str]:
    """The values that verification and profiles find by their names, outputs aside."""
    values = [name for node in graph.node for name in node.output]
    scans = [name for scan in find_scans(values) for name in scan.names]
    fixed = {value.name for value in graph.output}
    return [name for name in dict.fromkeys([*scans, *filter(block_of, values)]) if name not in fixed]
