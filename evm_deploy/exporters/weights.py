"""How a Core ML model stores its weights: as they are, in 8 bits, or as indices into a table of 64 or 16 values."""

from collections.abc import Callable
from typing import Any

from evm_deploy.exporters.options import ExportOptions
from evm_deploy.optional import coremltools

# Only these have weights that bear it: A, dt_bias and D are inputs of elementwise operations and stay as they are.
COMPRESSED = ("conv", "linear", "matmul")


def compress(model: Any, options: ExportOptions) -> Any:
    """A coremltools model with the weights of `COMPRESSED` stored as the options ask."""
    if options.weights == "float":
        return model
    cto = coremltools().optimize.coreml
    quantise, config = _METHODS[options.weights]
    choice = cto.OptimizationConfig(op_type_configs=dict.fromkeys(COMPRESSED, config(cto, options)))
    return getattr(cto, quantise)(model, choice)


def _linear(cto: Any, options: ExportOptions) -> Any:
    return cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", granularity="per_channel")


def _palette(bits: int) -> Callable[[Any, ExportOptions], Any]:
    def config(cto: Any, options: ExportOptions) -> Any:
        if options.deployment_target == "iOS18":
            return cto.OpPalettizerConfig(nbits=bits, granularity="per_grouped_channel", group_size=16)
        return cto.OpPalettizerConfig(nbits=bits)

    return config


_METHODS: dict[str, tuple[str, Callable[[Any, ExportOptions], Any]]] = {
    "int8": ("linear_quantize_weights", _linear),
    "palette6": ("palettize_weights", _palette(6)),
    "palette4": ("palettize_weights", _palette(4)),
}
