"""Checks that the layers of a network or an engine have the requested precision."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from evm_deploy.errors import CheckFailed
from evm_deploy.exporters.tensorrt.layers import EngineLayer
from evm_deploy.operators import OPERATORS
from evm_deploy.operators.operator import SCAN

# Convolutions and matrix products: their kinds in a network, and the builders' names for them in an engine.
PRODUCTS = {
    "CONVOLUTION",
    "MATRIX_MULTIPLY",
    "correlation",
    "gemm",
    "runtime_fusion",
    "Convolution",
    "CaskConvolution",
    "CaskGemm",
}
# The kinds of integer products. A `runtime_fusion` may take integers, but converts them to floats first.
INTEGER_PRODUCTS = PRODUCTS - {"runtime_fusion"} | {"CaskGemmConvolution", "CaskGemmMatrixMultiply", "MatrixMultiply"}
INTEGERS = ("int8",)  # the precisions with such products, which are of the same type
PLUGINS = {"PLUGIN_V3", "PLUGIN", "custom_layer", "PluginV3"}
# How the parser ends the names of what it made of a function; the recurrence is the scan that no other is part of.
SCANS = tuple(f"({operator.name})" for operator in OPERATORS.values() if operator.kind == SCAN)
RECURRENCES = tuple(f"({name})" for name, operator in OPERATORS.items() if operator.kind == SCAN and not operator.calls)
CASTS = ("node_of_cast", "node_of_y")  # y, the result of an operator, is cast to the type of its input


def _is_product(layer: EngineLayer) -> bool:
    return layer.kind in PRODUCTS and not _is_scan(layer)


def _is_recurrence(layer: EngineLayer) -> bool:
    """Whether the layer is entirely inside the recurrence, and not a cast: casts convert between it and float16."""
    inside = all(_is_inside(node, RECURRENCES) and not node.startswith(CASTS) for node in layer.nodes)
    return inside and bool(layer.nodes) and layer.kind != "CAST"


def _is_scan_product(layer: EngineLayer) -> bool:
    return layer.kind in PRODUCTS and _is_scan(layer)


def _is_scan(layer: EngineLayer) -> bool:
    return any(_is_inside(node, SCANS) for node in layer.nodes)


def _is_inside(node: str, functions: Iterable[str]) -> bool:
    return any(function in node for function in functions)


def _is_any(layer: EngineLayer) -> bool:
    return True


def _get_factors(layer: EngineLayer) -> tuple[str, ...]:
    return layer.weights or layer.inputs


def _get_types(layer: EngineLayer) -> tuple[str, ...]:
    return (*layer.inputs, *layer.outputs)


@dataclass(frozen=True)
class Rule:
    """The floating-point inputs, or inputs and outputs, of some layers must have one type.

    needed: every network has such layers.
    """

    what: str
    of: Callable[[EngineLayer], bool]
    side: Callable[[EngineLayer], tuple[str, ...]]
    type: str
    needed: bool = False


# The output of a fused layer may have another type than its computation, if a cast was fused into it, and a sum in it
# other inputs: products are checked by their weights, where these are known, or their inputs. The projections inside
# the scans are float32 in every precision, like the recurrence.
RULES = {
    "fp32": (Rule("every layer", _is_any, _get_types, "float32"),),
    "fp16": (
        Rule("every convolution and matrix product", _is_product, _get_factors, "float16", needed=True),
        Rule("every matrix product of the scan", _is_scan_product, _get_factors, "float32"),
        Rule("the recurrence", _is_recurrence, _get_types, "float32"),
    ),
    "int8": (Rule("every layer that is not on integers", _is_any, _get_types, "float32"),),
}


def check_precision(layers: Iterable[EngineLayer], precision: str, *, where: str) -> None:
    """Raises CheckFailed, which names the first wrong layer, when a layer does not have the requested precision.

    Also when no layer has it, since the types are then unknown.
    """
    layers = tuple(layers)
    for rule in RULES[precision]:
        for layer in filter(rule.of, layers):
            others = [kind for kind in rule.side(layer) if "float" in kind and kind != rule.type]
            if others:
                raise _make_failure(
                    f"{rule.what} must be {rule.type}, but {layer.name} ({layer.kind}) is {others[0]}", where
                )
    if not any(RULES[precision][0].type in _get_types(layer) for layer in layers):
        raise _make_failure(f"no layer is {RULES[precision][0].type}", where)


def check_network(
    layers: Iterable[EngineLayer], precision: str, *, scans: int, plugins: int | None = None, where: str
) -> None:
    """Checks a parsed network, where nothing is fused yet: it must also contain every layer that the rules require.

    scans: the number of scan nodes in the graph; each must be found by the layers made from it, unless `plugins` is the
    number of plugins that there must be.
    """
    layers = tuple(layers)
    check_precision(layers, precision, where=where)
    for rule in RULES[precision]:
        if rule.needed and not any(map(rule.of, layers)):
            raise _make_failure(f"there is no layer to hold: {rule.what} must be {rule.type}", where)
    if plugins is not None:
        what, wanted, found = "plugins", plugins, sum(layer.kind in PLUGINS for layer in layers)
    else:
        what, wanted = "scans", scans
        found = len({node.split(" | ")[-1] for layer in layers for node in layer.nodes if node.endswith(SCANS)})
    if found != wanted:
        raise _make_failure(f"{found} of {wanted} {what} were found", where)


def check_integers(layers: Iterable[EngineLayer], products: Collection[str], *, where: str) -> None:
    """Raises CheckFailed unless each of the ONNX nodes `products` is a product on int8 in the engine, and no scan is.

    The parsed network does not show this: its products take dequantised values.
    """
    layers = tuple(layers)
    for layer in layers:
        if (_is_recurrence(layer) or _is_scan_product(layer)) and "int8" in _get_types(layer):
            raise _make_failure(f"the scan must be float32, but {layer.name} ({layer.kind}) is int8", where)
    on_integers = {
        node for layer in layers if layer.kind in INTEGER_PRODUCTS and "int8" in layer.inputs for node in layer.nodes
    }
    if missing := sorted(set(products) - on_integers):
        kinds = sorted({layer.kind for layer in layers if missing[0] in layer.nodes})
        became = f" ({', '.join(kinds)})" if kinds else ""
        raise _make_failure(
            f"{len(missing)} of {len(products)} products are not on int8, the first is {missing[0]}{became}", where
        )


def _make_failure(what: str, where: str) -> CheckFailed:
    return CheckFailed(f"{where} is not of the precision asked for: {what}.", "report it with `evm-deploy doctor`.")
