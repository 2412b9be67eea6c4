"""Scales of channels that move through a network: it stays the same function, and its values suit integers better."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir

from evm_deploy.bundle import Bundle
from evm_deploy.calib.onnx import equalise as equalisation
from evm_deploy.calib.onnx.equalise import equalise, find_groups
from evm_deploy.calib.onnx.layers import find_layers
from evm_deploy.calib.onnx.measure import finish_model
from evm_deploy.calib.onnx.rewrites import rewrite_pools
from evm_deploy.calib.onnx.taps import Tap
from evm_deploy.tolerances import PARITY

Networks = Callable[..., Path]


def loaded(path: Path) -> ir.Model:
    model = ir.from_proto(onnx.load(path / "model.onnx"))
    rewrite_pools(model.graph)
    return model


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), spread=st.sampled_from([0.5, 2.0]))
def test_the_network_stays_the_same_function(networks: Networks, seed: int, spread: float) -> None:
    """Whatever the scales are, for every group at once."""
    path, rng = networks(), np.random.default_rng(seed)
    model = loaded(path)
    for group in find_groups(find_layers(model)):
        channels = len(equalisation._arrange_by_input(group.takers[0])[0])
        equalisation._rescale(group, np.exp(spread * rng.standard_normal(channels)))
    image = Bundle.open(path).sample().input
    expected = Tap(onnx.load(path / "model.onnx"), ["logits"])(image)["logits"]
    found = Tap(finish_model(model), ["logits"])(image)["logits"]
    assert np.abs(found - expected).max() <= PARITY["fp32"] * max(1, np.abs(expected).max())


def test_every_kind_of_group_is_found(networks: Networks) -> None:
    found = {
        group.maker.op_type: [taker.node.op_type for taker in group.takers]
        for group in find_groups(find_layers(loaded(networks())))
    }
    assert found.keys() == {"LayerNormalization", "GatedNorm", "MatMul", "Conv"}
    norm = next(g for g in find_groups(find_layers(loaded(networks()))) if len(g.takers) == 3)
    assert [taker.node.op_type for taker in norm.takers] == ["MatMul", "MatMul", "Conv"]  # x, z, and the conv branch


def small_graph(*nodes: onnx.NodeProto, **weights: np.ndarray) -> ir.Model:
    """x (1, 2, 4, 4) to y, float32."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


FIRST = helper.make_node("Conv", ["x", "a"], ["v"], name="first")
ONES = np.ones((2, 2, 1, 1))


@pytest.mark.parametrize("between", ["Relu", "Sigmoid"])
def test_only_what_is_homogeneous_lets_a_scale_pass(between: str) -> None:
    model = small_graph(
        FIRST,
        helper.make_node(between, ["v"], ["w"]),
        helper.make_node("Conv", ["w", "b"], ["y"], name="second"),
        a=ONES,
        b=ONES,
    )
    assert len(find_groups(find_layers(model))) == (1 if between == "Relu" else 0)


@pytest.mark.parametrize("other", ["Add", "Identity"])
def test_a_value_that_anything_else_takes_is_left_alone(other: str) -> None:
    inputs = ["v", "v"] if other == "Add" else ["v"]
    model = small_graph(
        FIRST,
        helper.make_node(other, inputs, ["z"]),
        helper.make_node("Conv", ["v", "b"], ["y"], name="second"),
        a=ONES,
        b=ONES,
    )
    assert find_groups(find_layers(model)) == []


def statistics(reach: list[float]) -> Any:
    values = np.array(reach)
    return SimpleNamespace(channel_min=-values, channel_max=values, channel_mean_square=values**2 / 9)


def test_a_loud_channel_becomes_as_quiet_as_the_others() -> None:
    model = small_graph(FIRST, helper.make_node("Conv", ["v", "b"], ["y"], name="second"), a=ONES, b=ONES)
    (group,) = find_groups(find_layers(model))
    assert equalise(group, statistics([100.0, 1.0]), {layer.name for layer in find_layers(model)}) > 0
    first, second = (np.abs(layer.weights) for layer in find_layers(model))
    assert first[0].max() < first[1].max()  # the loud channel is divided
    assert second[:, 0].max() > second[:, 1].max()  # and taken back


@pytest.mark.parametrize(("reach", "chosen"), [([1.0, 1.0], {"b"}), ([0.0, 0.0], {"b"}), ([100.0, 1.0], set())])
def test_where_nothing_is_won_nothing_is_changed(reach: list[float], chosen: set[str]) -> None:
    """Even channels, a value that is always zero, and layers that stay float."""
    model = small_graph(FIRST, helper.make_node("Conv", ["v", "b"], ["y"], name="second"), a=ONES, b=ONES)
    (group,) = find_groups(find_layers(model))
    names = {layer.name for layer in find_layers(model)} if chosen else set()
    assert equalise(group, statistics(reach), names) == 0
    assert all((layer.weights == 1).all() for layer in find_layers(model))
