"""LayerNormalization with what follows it as one operator: the normalised map is never written to memory."""

from typing import Any

import onnx
from onnxscript import ir
from onnxscript.rewriter import pattern

from evm_deploy.operators import DOMAIN


def fuse_norms(proto: onnx.ModelProto) -> None:
    """LayerNorm(x) * SiLU(z) becomes `evm::GatedNorm`; the mean of LayerNorm(x) over H and W `evm::MeanOfNorm`."""
    model = ir.from_proto(proto)
    pattern.RewriteRuleSet([_GATED_NORM, _MEAN_OF_NORM], commute=True).apply_to_model(model)
    model.opset_imports[DOMAIN] = 1
    proto.CopyFrom(ir.to_proto(model))


def _gated(op: Any, x: Any, z: Any, scale: Any, bias: Any) -> Any:
    return op.Mul(_norm(op, x, scale, bias), op.Mul(z, op.Sigmoid(z)))


def _as_gated_norm(op: Any, x: Any, z: Any, scale: Any, bias: Any, normed: Any) -> Any:
    return op.GatedNorm(x, z, scale, bias, epsilon=_epsilon(normed), _domain=DOMAIN)


def _mean(op: Any, x: Any, scale: Any, bias: Any, axes: Any) -> Any:
    return op.ReduceMean(_norm(op, x, scale, bias), axes, _allow_other_attributes=True, _outputs=["mean"])


def _as_mean_of_norm(op: Any, x: Any, scale: Any, bias: Any, axes: Any, normed: Any, mean: Any) -> Any:
    return op.MeanOfNorm(x, scale, bias, epsilon=_epsilon(normed), _domain=DOMAIN)


def _norm(op: Any, x: Any, scale: Any, bias: Any) -> Any:
    return op.LayerNormalization(x, scale, bias, _allow_other_attributes=True, _outputs=["normed"])


def _epsilon(normed: ir.Value) -> float:
    return float(_attribute(normed, "epsilon", 1e-5))


def _attribute(value: ir.Value, name: str, default: Any) -> Any:
    node = value.producer()
    assert node is not None  # it is part of the pattern
    return node.attributes[name].value if name in node.attributes else default


def _over_last_axis(context: Any, normed: ir.Value, **_: Any) -> bool:
    rank = normed.shape.rank() if normed.shape is not None else None
    return _attribute(normed, "axis", -1) in (-1, rank and rank - 1)


def _over_rows_and_columns(context: Any, normed: ir.Value, mean: ir.Value, axes: ir.Value, **_: Any) -> bool:
    over = axes.const_value.numpy().tolist() if axes.const_value is not None else None
    kept = _attribute(mean, "keepdims", 1) == 1
    return kept and over == [1, 2] and _over_last_axis(context, normed)


_GATED_NORM = pattern.RewriteRule(_gated, _as_gated_norm, _over_last_axis, name="GatedNorm")
_MEAN_OF_NORM = pattern.RewriteRule(_mean, _as_mean_of_norm, _over_rows_and_columns, name="MeanOfNorm")
