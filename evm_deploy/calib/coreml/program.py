"""Writes integers into a Core ML program: conversions of values, and weights stored in 8 bits."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evm_deploy.calib.coreml.layers import LAYOUT, WEIGHTS, CoreMLLayer
from evm_deploy.calib.ranges import Range
from evm_deploy.errors import CheckFailed
from evm_deploy.optional import coremltools

IOS18 = 9  # the specification that has a scale for each block of a weight
LEVELS = {"int8": 127, "uint8": 255}


@dataclass(frozen=True)
class ValueScale:
    """How a value becomes an integer, round(value / scale), as in Core ML's own tools: int8 around 0, or uint8 from 0
    if the value is never negative.
    """

    scale: float
    dtype: str

    @classmethod
    def for_range(cls, found: Range) -> "ValueScale":
        """The scale that covers the range."""
        dtype = "uint8" if found.low >= 0 else "int8"
        largest = max(abs(found.low), abs(found.high))
        return cls(largest / LEVELS[dtype] if largest > 0 else 1.0, dtype)


@dataclass(frozen=True)
class Weights:
    """Integers from -127 to 127, scales that broadcast over them, and the new bias if it changes."""

    integers: npt.NDArray[np.int8]
    scales: npt.NDArray[np.floating[Any]]
    bias: npt.NDArray[np.floating[Any]] | None = None


def quantise_weights(layer: CoreMLLayer, weights: npt.NDArray[np.float32], dtype: Any, version: int) -> Weights:
    """Quantises weights with a scale of type `dtype` for each output channel. Before iOS 18, the K groups of a grouped
    projection (K, D, M) share their scales.
    """
    axes = {WEIGHTS[layer.kind][1] % weights.ndim} | ({0} if layer.kind == "matmul" and version >= IOS18 else set())
    others = tuple(axis for axis in range(weights.ndim) if axis not in axes)
    largest = np.abs(weights).max(others, keepdims=True)
    scales = round_up(largest / np.float32(127), np.dtype(dtype))
    integers = np.clip(np.round(weights / scales.astype(np.float32)), -127, 127).astype(np.int8)
    return Weights(integers, scales)


def write_integers(package: Path, values: Mapping[str, ValueScale], weights: Mapping[str, Weights]) -> Any:
    """Returns the coremltools model of the package with integers written into it.

    values: the inputs of the layers by name, before changes of layout; weights: by the name of the layer's output.
    Raises CheckFailed: the program, as coremltools reads it, has no value of that name.
    """
    ct: Any = coremltools()
    base: Any = ct.converters.mil.mil.passes.graph_pass.AbstractGraphPass

    class WriteIntegers(base):  # type: ignore[misc]
        """A graph pass, which coremltools runs as it runs those of its own quantisation."""

        def apply(self, prog: Any) -> None:
            (function,) = prog.functions.values()
            with function:
                _ProgramWriter(function, values, weights).run()

    model = ct.models.MLModel(str(package), skip_model_load=True)
    version = model.get_spec().specificationVersion
    return ct.models.utils._apply_graph_pass(model, WriteIntegers(), spec_version=version, skip_model_load=True)


class _ProgramWriter:
    """Changes one function in place."""

    def __init__(self, function: Any, values: Mapping[str, ValueScale], weights: Mapping[str, Weights]) -> None:
        self.mb, self.function = coremltools().converters.mil.Builder, function
        self.values, self.weights = values, weights
        self._integers: dict[str, Any] = {}  # by name; each value is converted only once
        self._floats: dict[str, Any] = {}
        self._stored: dict[tuple[str, bytes], Any] = {}

    def run(self) -> None:
        operations = {operation.outputs[0].name: operation for operation in self.function.operations}
        if missing := sorted(self.weights.keys() - operations.keys()):
            raise CheckFailed(f"coremltools does not find the layer {missing[0]} again.", "report this.")
        for name, operation in operations.items():
            if name in self.weights:
                self._replace_layer(operation, self.weights[name])

    def _replace_layer(self, operation: Any, weights: Weights) -> None:
        """Replaces a layer by the same layer with a converted input and stored weights."""
        parameter = WEIGHTS[operation.op_type][0]
        with self.mb.set_before_op(operation):
            given = dict(operation.inputs)
            given["x"] = self._convert(given["x"])
            if weights.bias is not None:
                given["bias"] = weights.bias
            new = getattr(self.mb, operation.op_type)(**given, name=operation.name)
            stored = self._store(given[parameter].name, weights, new.op)
        self.function.replace_uses_of_var_after_op(
            anchor_op=stored.op, old_var=given[parameter], new_var=stored, end_op=new.op, force_replace=True
        )
        new.name = operation.outputs[0].name
        self.function.replace_uses_of_var_after_op(
            anchor_op=new.op, old_var=operation.outputs[0], new_var=new, force_replace=True
        )
        self.function.remove_ops([operation])

    def _convert(self, value: Any) -> Any:
        """Converts the value to integers and back. Changes of layout happen on the integers, which are smaller."""
        if value.name not in self._floats:
            integer, scale = self._find_integer(value)
            self._floats[value.name] = self.mb.dequantize(input=integer, scale=scale, name=f"{value.name}_dequantized")
        return self._floats[value.name]

    def _find_integer(self, value: Any) -> Any:
        """The value as integers, and their scale."""
        if value.name not in self._integers:
            self._integers[value.name] = (
                self._quantise(value) if value.name in self.values else self._change_layout(value)
            )
        return self._integers[value.name]

    def _quantise(self, value: Any) -> Any:
        wanted = self.values[value.name]
        scale = round_up(np.float32(wanted.scale).reshape(1), _find_dtype(value))[0]
        name = f"{value.name}_quantized"
        return self.mb.quantize(input=value, scale=scale, output_dtype=wanted.dtype, name=name), scale

    def _change_layout(self, value: Any) -> Any:
        """Repeats a change of layout on the integers of a value."""
        if value.op is None or value.op.op_type not in LAYOUT:
            raise CheckFailed(f"coremltools does not find how {value.name} is made.", "report this.")
        integer, scale = self._find_integer(value.op.inputs["x"])
        given = {name: bound for name, bound in value.op.inputs.items() if name != "x"}
        return getattr(self.mb, value.op.op_type)(x=integer, **given, name=f"{value.name}_quantized"), scale

    def _store(self, name: str, weights: Weights, before: Any) -> Any:
        """Stores the weights as a constant of 8 bits, equal ones only once."""
        key = (name, weights.scales.tobytes())
        if key not in self._stored:
            self._stored[key] = self._add_constant(f"{name}_quantized", weights, before)
        return self._stored[key]

    def _add_constant(self, name: str, weights: Weights, before: Any) -> Any:
        scales = weights.scales
        if self.function.opset_version.value >= IOS18:
            return self.mb.constexpr_blockwise_shift_scale(
                data=weights.integers, scale=scales, before_op=before, name=name
            )
        axis = next((axis for axis, side in enumerate(scales.shape) if side > 1), 0)
        return self.mb.constexpr_affine_dequantize(
            quantized_data=weights.integers,
            zero_point=np.int8(0),
            scale=scales.reshape(-1),
            axis=np.int32(axis),
            before_op=before,
            name=name,
        )


def _find_dtype(value: Any) -> np.dtype[Any]:
    """The NumPy type of a coremltools value."""
    found: np.dtype[Any] = np.dtype(coremltools().converters.mil.mil.types.nptype_from_builtin(value.dtype))
    return found


def round_up(exact: npt.NDArray[np.float32], dtype: np.dtype[Any]) -> npt.NDArray[np.floating[Any]]:
    """Rounds scales up to values of the type, so that nothing is clipped. The results are never 0 or infinite."""
    info = np.finfo(dtype)
    least = np.maximum(exact, float(info.smallest_subnormal))
    near = np.minimum(least, float(info.max)).astype(dtype)
    above = np.nextafter(near, info.max, dtype=dtype)
    return np.asarray(np.where(near.astype(np.float64) < least, above, near))
