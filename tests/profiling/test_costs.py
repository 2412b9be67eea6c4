"""Operations and bytes of operators, counted by hand, and that none is left without a kind."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from evm_deploy.profiling.costs import BY_ELEMENT, RULES, VIEWS, Cost, Value, cost
from evm_deploy.profiling.kinds import BY_OPERATOR, KINDS, kind

SIDES = st.integers(1, 40)


def of(op: str, inputs: list[tuple[int, ...]], out: tuple[int, ...], item: int = 4, **attributes: Any) -> Cost | None:
    names = [f"i{index}" for index in range(len(inputs))]
    values = {name: Value(shape, item) for name, shape in zip(names, inputs, strict=True)} | {"y": Value(out, item)}
    return cost(helper.make_node(op, names, ["y"], **attributes), values)


@given(SIDES, SIDES, SIDES, st.lists(SIDES, max_size=2))
def test_a_matrix_product(m: int, n: int, k: int, batch: list[int]) -> None:
    found = of("MatMul", [(*batch, m, k), (k, n)], (*batch, m, n))
    size = math.prod(batch)
    assert found == Cost(2 * size * m * n * k, 4 * (size * m * k + k * n + size * m * n))


@given(SIDES, SIDES, SIDES, st.booleans())
def test_gemm_may_have_its_first_matrix_turned(m: int, n: int, k: int, turned: bool) -> None:
    found = of("Gemm", [(k, m) if turned else (m, k), (k, n), (n,)], (m, n), transA=int(turned))
    assert found is not None
    assert found.flops == 2 * m * n * k


def test_a_convolution_by_counting_products_of_every_pixel() -> None:
    found = of("Conv", [(1, 4, 6, 6), (16, 4, 3, 3), (16,)], (1, 16, 4, 4))
    assert found is not None
    assert found.flops == 2 * sum(4 * 3 * 3 for _ in np.ndindex(16, 4, 4))
    assert found.bytes == 4 * (4 * 36 + 16 * 36 + 16 + 16 * 16)


def test_a_convolution_of_each_channel_alone() -> None:
    found = of("Conv", [(1, 48, 56, 56), (48, 1, 3, 3)], (1, 48, 56, 56), group=48)
    assert found is not None
    assert found.flops == 2 * 9 * 48 * 56 * 56


def test_products_of_integers_are_told_from_those_of_floats() -> None:
    shapes = [(1, 3136, 48), (48, 96)]
    floats, integers = of("MatMul", shapes, (1, 3136, 96)), of("MatMulInteger", shapes, (1, 3136, 96), item=1)
    assert floats is not None
    assert integers is not None
    assert (floats.integer_ops, integers.integer_ops) == (0, integers.flops)
    assert floats.flops == integers.flops


def test_of_a_scan_in_int8_the_first_projection_is() -> None:
    scan = [(1, 56, 56, 96), (), (), (4, 96, 35), (4, 35), (4, 3, 96), (4, 96), (4, 16, 96), (4, 96)]
    found = of("QuantizedEfficientScan2D", scan, (1, 56, 56, 96))
    plain = of("EfficientScan2D", [scan[0], *[scan[place] for place in (3, 5, 6, 7, 8)]], (1, 56, 56, 96))
    assert found is not None
    assert plain is not None
    tokens = 56 * 56
    assert plain.flops == found.flops == tokens * 96 * (2 * 35 + 2 * 3 + 7 * 16 + 6)
    assert (plain.integer_ops, found.integer_ops) == (0, tokens * 96 * 2 * 35)


def test_a_selective_scan_has_no_projections() -> None:
    found = of("SelectiveScan", [(1, 4, 784, 96)] * 2 + [(4, 16, 96)], (1, 4, 784, 96))
    assert found is not None
    assert found.flops == 4 * 784 * 96 * (7 * 16 + 6)


def test_a_view_moves_nothing() -> None:
    assert {op: of(op, [(8, 8)], (64,)) for op in VIEWS} == dict.fromkeys(VIEWS, Cost(0, 0))


def test_a_slice_reads_what_it_gives() -> None:
    assert of("Slice", [(1, 56, 56, 96)], (1, 28, 28, 96)) == Cost(0, 2 * 28 * 28 * 96 * 4)


def test_an_input_that_is_taken_twice_is_read_once() -> None:
    node = helper.make_node("Mul", ["x", "x"], ["y"])
    assert cost(node, {"x": Value((10,), 4), "y": Value((10,), 4)}) == Cost(10, 80)


def test_an_input_that_is_left_out_costs_nothing() -> None:
    node = helper.make_node("Clip", ["x", "", "high"], ["y"])
    values = {"x": Value((10,), 4), "high": Value((), 4), "y": Value((10,), 4)}
    assert cost(node, values) == Cost(10, 84)


def test_what_is_not_known_is_none() -> None:
    unknown = of("Mystery", [(4,)], (4,))
    assert unknown is not None
    assert (unknown.flops, unknown.bytes) == (None, 32)
    assert cost(helper.make_node("Add", ["x", "z"], ["y"]), {"x": Value((4,), 4), "y": Value((4,), 4)}) is None
    assert cost(helper.make_node("Add", ["x"], ["y"]), {"x": Value((4,), 4)}) is None


@given(st.sampled_from(sorted(BY_ELEMENT)), st.lists(SIDES, max_size=4))
def test_elementwise_work_grows_with_the_elements(op: str, shape: list[int]) -> None:
    found = of(op, [tuple(shape)], tuple(shape))
    assert found == Cost(BY_ELEMENT[op] * math.prod(shape), 2 * 4 * math.prod(shape))


def test_every_operator_that_has_a_cost_has_a_kind() -> None:
    reductions = {"ReduceMean", "ReduceSum", "ReduceMax"} | {op for op in BY_ELEMENT if op.endswith("Pool")}
    assert {op for op in (*RULES, *BY_ELEMENT, *VIEWS) if op not in BY_OPERATOR} == reductions
    assert set(BY_OPERATOR.values()) <= set(KINDS)


@pytest.mark.parametrize(
    ("op", "origin", "expected"),
    [
        ("Conv", "Conv", "convolution"),
        ("Softplus", "SelectiveScan", "scan"),
        ("MatMul", "EfficientScan2D", "scan"),
        ("EfficientScan2D", "EfficientScan2D", "scan"),
        ("QuickGelu", "GatedNorm", "norm"),
        ("GatherElements", "Lookup", "activation"),
        ("ReorderInput", "Conv", "layout"),
        ("QuantizeLinear", "QuantizeLinear", "conversion"),
        ("QGemm", "Conv", "matmul"),
        ("Mystery", "", "other"),
    ],
)
def test_the_kind_is_that_of_our_function_or_else_of_the_operator(op: str, origin: str, expected: str) -> None:
    assert kind(op, origin) == expected


@pytest.mark.parametrize(("op", "flops"), [("GatedNorm", 12), ("MeanOfNorm", 8), ("Lookup", 0)])
def test_our_operators_on_rows_count_each_number_that_they_take(op: str, flops: int) -> None:
    maps = [(1, 7, 7, 32)] * (2 if op == "GatedNorm" else 1)
    found = of(op, [*maps, (32,), (32,)], (1, 1, 1, 32) if op == "MeanOfNorm" else (1, 7, 7, 32))
    assert found is not None
    assert (found.flops, found.integer_ops) == (flops * 7 * 7 * 32, 0)
