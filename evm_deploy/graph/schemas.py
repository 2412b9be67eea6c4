"""Our operators made known to `onnx` (checker, shape inference) and to the PyTorch exporter."""

import functools
from collections.abc import Callable
from typing import Any

import onnx

from evm_deploy.operators import DOMAIN, OPERATORS, VERSION, Operator
from evm_deploy.operators.operator import CHOICES

_KINDS = {int: onnx.defs.OpSchema.AttrType.INT, float: onnx.defs.OpSchema.AttrType.FLOAT}
# What a node may carry for TensorRT: which plugin takes it.
PLUGIN_ATTRIBUTES = {
    "plugin_namespace": onnx.defs.OpSchema.AttrType.STRING,
    "plugin_version": onnx.defs.OpSchema.AttrType.STRING,
    "aot": onnx.defs.OpSchema.AttrType.INT,
}


@functools.cache
def register() -> None:
    """Registers the schemas with `onnx`, once a process."""
    for operator in OPERATORS.values():
        onnx.defs.register_schema(_schema(operator))


def _schema(operator: Operator) -> onnx.defs.OpSchema:
    schema = onnx.defs.OpSchema
    (row,) = set(operator.inputs.values()) & CHOICES.keys()
    return schema(
        operator.name,
        DOMAIN,
        operator.version,
        inputs=[schema.FormalParameter(name, type_) for name, type_ in operator.inputs.items()],
        outputs=[schema.FormalParameter("y", operator.result or row)],
        type_constraints=[(row, list(CHOICES[row][0]), CHOICES[row][1])],
        attributes=[
            *(schema.Attribute(name, _KINDS[kind], "", required=True) for name, kind in operator.attributes.items()),
            *(schema.Attribute(name, kind, "", required=False) for name, kind in PLUGIN_ATTRIBUTES.items()),
        ],
    )


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For `torch.onnx.export(custom_translation_table=...)`: each torch operator as one node."""
    import torch
    from onnxscript import opset18, values

    from evm_deploy.regions import list_translations

    register()
    evm = values.Opset(DOMAIN, VERSION)
    ours = {
        operator.torch_op(): operator.translate(opset18, evm)
        for operator in OPERATORS.values()
        if operator.torch_op is not None and operator.translate is not None
    }
    return ours | list_translations(opset18) | {torch.ops.aten.sort.stable: _translate_sort(opset18)}


def _translate_sort(op: Any) -> Callable[..., Any]:
    """`aten.sort.stable`, which the exporter of PyTorch lacks: TopK takes the first of equals first."""

    def sort(self, stable=None, dim=-1, descending=False):  # type: ignore[no-untyped-def]
        count = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]))
        return op.TopK(self, count, axis=dim, largest=int(descending), sorted=1)

    return sort
