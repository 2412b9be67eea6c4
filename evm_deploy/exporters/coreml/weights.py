"""How a Core ML model stores its weights: as they are, in 8 bits, or as indices into a table of 64 or 16 values."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evm_deploy.errors import CheckFailed
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.optional import coremltools

# Only these have weights that bear it: A, dt_bias and D are inputs of elementwise operations and stay as they are.
COMPRESSED = {("conv", "weight"), ("linear", "weight"), ("matmul", "x"), ("matmul", "y")}
SMALLEST = 2048  # elements: below, a table or scales would take what the indices save
GROUP = 16  # output channels that share a table, where the system can


@dataclass(frozen=True)
class Weight:
    """A constant of the program: its shape, and whether its first axis is the output channels."""

    shape: tuple[int, ...]
    channels_first: bool


def compress(model: Any, options: ExportOptions) -> Any:
    """The model with the weights of `COMPRESSED` stored as the options ask. Raises CheckFailed if any is not."""
    if options.weights == "float":
        return model
    cto = coremltools().optimize.coreml
    method, config = _METHODS[options.weights]
    chosen = _weights(model)
    configs = {name: config(cto, options, weight) for name, weight in chosen.items()}
    found = getattr(cto, method)(model, cto.OptimizationConfig(op_name_configs=configs))
    stored = sum(operation.type.startswith("constexpr") for operation in _operations(found))
    if stored != len(chosen):
        raise CheckFailed(
            f"coremltools stored {stored} of {len(chosen)} weights as {options.weights}.",
            "choose another form of weights, or report this with the output of `evm-deploy doctor`.",
        )
    return found


def _weights(model: Any) -> dict[str, Weight]:
    """The constants that are weights of `COMPRESSED` and nothing else: equal constants are one in the program."""
    users: dict[str, set[tuple[str, str]]] = {}
    for operation in _operations(model):
        for parameter, argument in operation.inputs.items():
            for binding in argument.arguments:
                users.setdefault(binding.name, set()).add((operation.type, parameter))
    chosen = {}
    for operation in _operations(model):
        output = operation.outputs[0]
        shape = tuple(side.constant.size for side in output.type.tensorType.dimensions)
        used = users.get(output.name, set())
        if operation.type == "const" and used and used <= COMPRESSED and math.prod(shape) > SMALLEST:
            chosen[output.name] = Weight(shape, channels_first=all(kind != "matmul" for kind, _ in used))
    return chosen


def _operations(model: Any) -> Any:
    (function,) = model.get_spec().mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    return block.operations


def _linear(cto: Any, options: ExportOptions, weight: Weight) -> Any:
    return cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", granularity="per_channel")


def _palette(bits: int) -> Callable[[Any, ExportOptions, Weight], Any]:
    def config(cto: Any, options: ExportOptions, weight: Weight) -> Any:
        if options.coreml_generation >= 18 and weight.channels_first and weight.shape[0] % GROUP == 0:
            return cto.OpPalettizerConfig(nbits=bits, granularity="per_grouped_channel", group_size=GROUP)
        return cto.OpPalettizerConfig(nbits=bits)

    return config


_METHODS: dict[str, tuple[str, Callable[[Any, ExportOptions, Weight], Any]]] = {
    "int8": ("linear_quantize_weights", _linear),
    "palette6": ("palettize_weights", _palette(6)),
    "palette4": ("palettize_weights", _palette(4)),
}
