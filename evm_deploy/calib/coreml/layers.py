"""Finds the layers of a Core ML program, the operations that multiply by weights, and which of them use integers."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evm_deploy.runtimes.mil.program import Function, Literal, Operation, read_tensor_type

# For each kind of layer: the parameter that holds its weights, and their output and input axes.
WEIGHTS = {"conv": ("weight", 0, 1), "linear": ("weight", 0, 1), "matmul": ("y", -1, -2)}
CHANNELS = {"conv": 1, "linear": -1, "matmul": -1}  # the axis of the input's channels
# Operations that change the layout of one value, and all that move numbers without changing them.
LAYOUT = frozenset({"expand_dims", "reshape", "squeeze", "transpose"})
MOVES = LAYOUT | {"slice_by_index", "split"}
INTEGERS = ("int8", "uint8")
# Operations that store weights in 8 bits, and the parameter that holds them.
STORED = {"constexpr_affine_dequantize": "quantized_data", "constexpr_blockwise_shift_scale": "data"}


@dataclass(frozen=True)
class CoreMLLayer:
    """A product with constant weights. Names are those of values in the program."""

    kind: str
    output: str
    input: str
    root: str  # the input before changes of layout: the value that is converted, once for all layers that use it
    weight: str
    bias: str | None
    weight_shape: tuple[int, ...]
    groups: int
    multiply_adds: int
    makes_delta: bool  # it projects the result of another matrix product: the scan's Δ, which stays float
    integer_input: bool
    integer_weight: bool

    @property
    def name(self) -> str:
        """The name in messages and for `--exclude`: that of its weight, with underscores: layers_0_blocks_0_op_in_x."""
        return re.sub(r"^[bp]_model_|(_weight)?(_to_fp16)?(_quantized)?$", "", self.weight)

    @property
    def on_integers(self) -> bool:
        """Whether both its input and its weight are integers."""
        return self.integer_input and self.integer_weight


@dataclass(frozen=True)
class Shares:
    """How much of a program is on integers. Shares are of all products with weights, 0 to 1."""

    layers: int
    on_integers: int
    multiply_adds: float
    weights: float
    conversions: int  # quantize and dequantize operations
    floats: tuple[str, ...]  # the layers that are not on integers


def find_layers(function: Function) -> list[CoreMLLayer]:
    """Lists every layer, in the order of the program. A matrix product of two computed values is not a layer."""
    makers = {value.name: operation for operation in function.operations for value in operation.outputs}
    found: dict[str, CoreMLLayer] = {}
    for operation in function.operations:
        layer = _read_layer(operation, makers, found)
        if layer is not None:
            found[layer.output] = layer
    return list(found.values())


def measure_shares(function: Function) -> Shares:
    """Measures how much of the program uses integers."""
    found = find_layers(function)
    work = sum(layer.multiply_adds for layer in found)
    sizes = {layer.weight: math.prod(layer.weight_shape) for layer in found}  # weights may be shared
    stored = {layer.weight for layer in found if layer.integer_weight}
    return Shares(
        len(found),
        sum(layer.on_integers for layer in found),
        sum(layer.multiply_adds for layer in found if layer.on_integers) / max(work, 1),
        sum(sizes[name] for name in stored) / max(sum(sizes.values()), 1),
        sum(operation.kind in ("quantize", "dequantize") for operation in function.operations),
        tuple(layer.name for layer in found if not layer.on_integers),
    )


def _read_layer(
    operation: Operation, makers: Mapping[str, Operation], before: Mapping[str, CoreMLLayer]
) -> CoreMLLayer | None:
    if operation.kind not in WEIGHTS:
        return None
    parameter, _, in_axis = WEIGHTS[operation.kind]
    x, weight = _find_argument(operation, "x"), _find_argument(operation, parameter)
    maker = makers.get(weight)
    if maker is None or not maker.is_constant or (x in makers and makers[x].is_constant):
        return None
    shape, out = _find_shape(makers, weight), _find_shape(makers, operation.outputs[0].name)
    depth = math.prod(shape[1:]) if operation.kind == "conv" else shape[in_axis]
    source = _find_source(x, makers, MOVES)
    return CoreMLLayer(
        operation.kind,
        operation.outputs[0].name,
        x,
        _find_source(x, makers),
        weight,
        _find_argument(operation, "bias") or None,
        shape,
        _read_number(operation, "groups", makers),
        math.prod(out) * depth,
        operation.kind == "matmul" and source in before and before[source].kind == "matmul",
        _comes_from_integers(x, makers),
        _is_stored_in_integers(maker),
    )


def _find_argument(operation: Operation, parameter: str) -> str:
    """The name of the value bound to the parameter; "" for an inline constant, or if the parameter is absent."""
    bound = operation.arguments.get(parameter, ())
    return bound[0] if len(bound) == 1 and isinstance(bound[0], str) else ""


def _find_shape(makers: Mapping[str, Operation], name: str) -> tuple[int, ...]:
    types = (value.type for value in makers[name].outputs if value.name == name)
    return tuple(side or 1 for kind in types if kind is not None for side in kind.shape)


def _read_number(operation: Operation, parameter: str, makers: Mapping[str, Operation]) -> int:
    """The integer constant bound to the parameter; 1 if it is absent."""
    bound: Iterable[Any] = operation.arguments.get(parameter, ())
    for argument in bound:
        literal = argument if isinstance(argument, Literal) else makers[argument].arguments["val"][0]
        assert isinstance(literal, Literal)
        return int(literal.message.immediateValue.tensor.ints.values[0])
    return 1


def _find_source(name: str, makers: Mapping[str, Operation], through: frozenset[str] = LAYOUT) -> str:
    """The value from which this one is made by changes of layout alone."""
    while name in makers and makers[name].kind in through:
        name = _find_argument(makers[name], "x")
    return name


def _comes_from_integers(name: str, makers: Mapping[str, Operation]) -> bool:
    """Whether the value was dequantised from an integer, apart from changes of layout."""
    maker = makers.get(_find_source(name, makers))
    if maker is None or maker.kind != "dequantize":
        return False
    before = makers.get(_find_source(_find_argument(maker, "input"), makers))
    return before is not None and before.kind == "quantize"


def _is_stored_in_integers(maker: Operation) -> bool:
    for argument in maker.arguments.get(STORED.get(maker.kind, ""), ()):
        if isinstance(argument, Literal):
            found = read_tensor_type(argument.message.type.tensorType, maker.place).dtype
            return found is not None and found.name in INTEGERS
    return False
