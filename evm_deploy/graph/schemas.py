"""Our operators made known to `onnx` (checker, shape inference) and to the PyTorch exporter."""

import functools
from collections.abc import Callable
from typing import Any

import onnx
import torch

from evm_deploy.graph.functions import DOMAIN, VERSION
from evm_deploy.scan import ops as ops  # registers torch.ops.evm

_ROW = "T"  # float or float16: what the graph computes in
_STATE = "tensor(float)"  # parameters of the recurrence, float32 in every precision
# What a node may carry for TensorRT: which plugin takes it.
PLUGIN_ATTRIBUTES = {
    "plugin_namespace": onnx.defs.OpSchema.AttrType.STRING,
    "plugin_version": onnx.defs.OpSchema.AttrType.STRING,
    "aot": onnx.defs.OpSchema.AttrType.INT,
}
_ENTRY = "E"  # float or uint8: what a table holds
_TYPES = {
    _ROW: (["tensor(float)", "tensor(float16)"], "what the graph computes in"),
    _ENTRY: (["tensor(float)", "tensor(uint8)"], "what the table holds"),
}
OPERATORS: dict[str, tuple[dict[str, str], str | None, Any]] = {  # inputs; the attribute and its type
    "SelectiveScan": (
        {"u": _ROW, "delta": _ROW, "A": _STATE, "B": _ROW, "C": _ROW, "D": _STATE, "delta_bias": _STATE},
        "delta_softplus",
        onnx.defs.OpSchema.AttrType.INT,
    ),
    "EfficientScan2D": (
        {"x": _ROW, "x_proj": _ROW, "dt_proj": _ROW, "dt_bias": _STATE, "A": _STATE, "D": _STATE},
        "step",
        onnx.defs.OpSchema.AttrType.INT,
    ),
    "QuantizedEfficientScan2D": (
        {
            "x": _ROW,
            "x_scale": _STATE,
            "x_zero_point": "tensor(uint8)",
            "x_proj": "tensor(int8)",
            "x_proj_scale": _STATE,
            "dt_proj": _ROW,
            "dt_bias": _STATE,
            "A": _STATE,
            "D": _STATE,
        },
        "step",
        onnx.defs.OpSchema.AttrType.INT,
    ),
    "GatedNorm": (
        {"x": _ROW, "z": _ROW, "scale": _ROW, "bias": _ROW},
        "epsilon",
        onnx.defs.OpSchema.AttrType.FLOAT,
    ),
    "MeanOfNorm": ({"x": _ROW, "scale": _ROW, "bias": _ROW}, "epsilon", onnx.defs.OpSchema.AttrType.FLOAT),
    "Lookup": ({"x": "tensor(uint8)", "table": _ENTRY}, None, None),
}


@functools.cache
def register() -> None:
    """Registers the schemas with `onnx`, once a process."""
    schema = onnx.defs.OpSchema
    for name, (inputs, attribute, kind) in OPERATORS.items():
        row = _ENTRY if _ENTRY in inputs.values() else _ROW
        onnx.defs.register_schema(
            schema(
                name,
                DOMAIN,
                VERSION,
                inputs=[schema.FormalParameter(key, type_) for key, type_ in inputs.items()],
                outputs=[schema.FormalParameter("y", row)],
                type_constraints=[(row, *_TYPES[row])],
                attributes=[
                    *([schema.Attribute(attribute, kind, "", required=True)] if attribute else []),
                    *(schema.Attribute(key, type_, "", required=False) for key, type_ in PLUGIN_ATTRIBUTES.items()),
                ],
            )
        )


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For `torch.onnx.export(custom_translation_table=...)`: each torch operator as one node."""
    from onnxscript import opset18 as op
    from onnxscript import values

    register()
    evm = values.Opset(DOMAIN, VERSION)

    def scan(u, delta, A, B, C, D=None, delta_bias=None, delta_softplus=False):  # type: ignore[no-untyped-def]
        rates = op.Gather(A, op.Constant(value_int=0), axis=1)  # type: ignore[type-var]  # (K, D)
        zeros = op.Sub(rates, rates)
        D, delta_bias = (zeros if given is None else given for given in (D, delta_bias))
        return evm.SelectiveScan(u, delta, A, B, C, D, delta_bias, delta_softplus=int(delta_softplus))

    def scan_2d(x, x_proj, dt_proj, dt_bias, A, D, step=2):  # type: ignore[no-untyped-def]
        return evm.EfficientScan2D(x, x_proj, dt_proj, dt_bias, A, D, step=step)

    return {torch.ops.evm.selective_scan.default: scan, torch.ops.evm.efficient_scan_2d.default: scan_2d}
