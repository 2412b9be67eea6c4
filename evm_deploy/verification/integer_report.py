"""Reports what really runs on integers: reads the graph that the runtime made from a model, and runs it once."""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from evm_deploy.bundle import Bundle
from evm_deploy.operators import OPERATORS
from evm_deploy.runtimes.onnxruntime import LIBRARY, STOCK, profile_graph

WEIGHTS = {name: operator.weight for name, operator in OPERATORS.items() if operator.weight is not None}
# Products with constant weights, by the names of the runtime's operators: the place of the weight, and whether they
# multiply integers. The projections of our scans have a second one, which is float in both.
PRODUCTS: dict[str, tuple[int, bool]] = {
    "Conv": (1, False),
    "FusedConv": (1, False),
    "MatMul": (1, False),
    "FusedMatMul": (1, False),
    "Gemm": (1, False),
    "FusedGemm": (1, False),
    "QLinearConv": (3, True),
    "QLinearMatMul": (3, True),
    "QGemm": (3, True),
    "MatMulInteger": (1, True),
    "MatMulIntegerToFloat": (1, True),
    "ConvInteger": (1, True),
    **{name: (OPERATORS[name].place(weight.input), weight.integer) for name, weight in WEIGHTS.items()},
}
SECOND = {name: OPERATORS[name].place(weight.second) for name, weight in WEIGHTS.items()}
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Product:
    """One product with constant weights, as the runtime runs it."""

    node: str
    operator: str
    integer: bool
    multiply_adds: int
    weights: int


@dataclass(frozen=True)
class IntegerReport:
    """How much of a model runs on integers in one runtime."""

    runtime: str
    products: tuple[Product, ...]
    conversions: int  # nodes that turn floats to integers or back

    @property
    def multiply_adds(self) -> float:
        """The share, 0 to 1, of the multiply-adds of convolutions and matrix products with weights."""
        return _compute_share([(product.multiply_adds, product.integer) for product in self.products])

    @property
    def weights(self) -> float:
        """The share, 0 to 1, of their weights."""
        return _compute_share([(product.weights, product.integer) for product in self.products])

    @property
    def floats(self) -> tuple[str, ...]:
        """The nodes that run in float, largest first."""
        rest = sorted((p for p in self.products if not p.integer), key=lambda product: -product.multiply_adds)
        return tuple(product.node for product in rest)

    def describe(self) -> str:
        """The report in a sentence."""
        return (
            f"{self.runtime}: {self.multiply_adds:.1%} of the multiply-adds and {self.weights:.1%} of the weights of "
            f"convolutions and matrix products on integers, {self.conversions} conversions"
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "runtime": self.runtime,
            "multiply_adds": self.multiply_adds,
            "weights": self.weights,
            "integer_nodes": sum(product.integer for product in self.products),
            "float_nodes": list(self.floats),
            "conversions": self.conversions,
        }


def report_integers(bundle: Bundle, *, library: bool) -> IntegerReport:
    """Runs the bundle's sample once on onnxruntime, with or without our operators, and reports what ran on integers."""
    return report_model_integers(bundle.read_model(), bundle.sample().input, library=library)


def report_model_integers(model: bytes, image: npt.NDArray[np.generic], *, library: bool) -> IntegerReport:
    """Reports the same for a model on one input."""
    with tempfile.TemporaryDirectory() as folder:
        optimised, trace = profile_graph(model, image, Path(folder), library=library)
        proto = onnx.load(optimised)
        shapes = _read_output_shapes(trace)
    weights = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    products = tuple(product for node in proto.graph.node for product in _find_products(node, weights, shapes))
    conversions = sum(node.op_type in CONVERSIONS for node in proto.graph.node)
    return IntegerReport(LIBRARY if library else STOCK, products, conversions)


def _find_products(
    node: onnx.NodeProto, weights: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[Product]:
    index, integer = PRODUCTS.get(node.op_type, (-1, False))
    if index < 0 or node.name not in shapes or len(node.input) <= index or node.input[index] not in weights:
        return  # a product of two values, as in the body of the scan, is not a layer
    weight, out = weights[node.input[index]], shapes[node.name]
    yield Product(node.name, node.op_type, integer, _count_multiply_adds(node, weight, out), math.prod(weight))
    if node.op_type in SECOND:
        weight, name = weights[node.input[SECOND[node.op_type]]], WEIGHTS[node.op_type].second  # (K, R, D)
        multiply_adds = math.prod(out) * weight[1] * _count_groups(node, weight)
        yield Product(f"{node.name}.{name}", node.op_type, False, multiply_adds, math.prod(weight))


def _count_multiply_adds(node: onnx.NodeProto, weight: tuple[int, ...], out: tuple[int, ...]) -> int:
    if node.op_type in WEIGHTS:  # (.., D) times (D, R+2N)
        ours = WEIGHTS[node.op_type]
        return math.prod(out[:-1]) * weight[ours.in_axis] * weight[ours.out_axis] * _count_groups(node, weight)
    if "Conv" in node.op_type:  # (O, I, kh, kw)
        return math.prod(out) * math.prod(weight[1:])
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return math.prod(out) * weight[-1 if transposed else -2]


def _count_groups(node: onnx.NodeProto, weight: tuple[int, ...]) -> int:
    """How many groups multiply each token by the weight (K, ..)."""
    return weight[0] if WEIGHTS[node.op_type].every_group else 1


def _read_output_shapes(trace: Path) -> dict[str, tuple[int, ...]]:
    """The shape of the first output of each node that ran."""
    suffix = "_kernel_time"
    shapes = {}
    for event in json.loads(trace.read_text(encoding="utf-8")):
        outputs = event.get("args", {}).get("output_type_shape")
        if event.get("name", "").endswith(suffix) and outputs:
            (shape,) = outputs[0].values()
            shapes[event["name"].removesuffix(suffix)] = tuple(int(np.int64(side)) for side in shape)
    return shapes


def _compute_share(parts: list[tuple[int, bool]]) -> float:
    total = sum(size for size, _ in parts)
    return sum(size for size, integer in parts if integer) / total if total else 0.0
