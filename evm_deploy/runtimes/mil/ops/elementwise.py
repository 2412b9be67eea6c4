"""Operations on each element, with broadcasting: arithmetic, activations, comparisons, logic, casts."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.runtimes.mil.dtypes import NAMED
from evm_deploy.runtimes.mil.ops.row import Function
from evm_deploy.runtimes.mil.problems import damaged, shown

INTEGERS = ("int8", "uint8")  # that `quantize` gives


def _unary(function: Callable[[Tensor], Tensor]) -> Function:
    def apply(x: Tensor) -> Tensor:
        return function(x)

    return apply


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    def apply(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    return apply


def real_div(x: Tensor, y: Tensor) -> Tensor:
    """x / y, of floats."""
    if not x.is_floating_point():
        raise damaged("it divides integers, which is not supported")
    return x / y


def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """x Φ(x), or one of its two approximations."""
    match mode:
        case "EXACT":
            return F.gelu(x)
        case "TANH_APPROXIMATION":
            return F.gelu(x, approximate="tanh")
        case "SIGMOID_APPROXIMATION":
            return x * torch.sigmoid(1.702 * x)
    raise damaged(f"its mode {shown(mode)} is not supported")


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), which is x from 20 on."""
    return F.softplus(x)


def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    """log(x + epsilon)."""
    return torch.log(x + epsilon)


def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    """1 / (x + epsilon)."""
    return 1 / (x + epsilon)


def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """(x + epsilon) ** -0.5."""
    return torch.rsqrt(x + epsilon)


def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """x within alpha to beta."""
    return x.clamp(alpha, beta)


def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """x, times alpha where it is negative."""
    return F.leaky_relu(x, alpha)


def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha x + beta, within 0 to 1."""
    return (alpha * x + beta).clamp(0, 1)


def threshold(x: Tensor, alpha: float) -> Tensor:
    """The larger of x and alpha."""
    return x.clamp(min=alpha)


def cast(x: Tensor, dtype: str) -> Tensor:
    """x in another type: floats are rounded to nearest even, or towards zero to an integer."""
    if dtype not in NAMED:
        raise damaged(f"its dtype {shown(dtype)} is not supported")
    target = NAMED[dtype].torch
    if x.is_floating_point() and not target.is_floating_point and target != torch.bool:
        return x.double().trunc().to(torch.int64).to(target)  # what is too large wraps, on every machine
    return x.to(target)


def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where cond, else b."""
    if a.dtype != b.dtype:
        raise damaged(f"its inputs mix {a.dtype} and {b.dtype}")
    return torch.where(cond, a, b)


def quantize(
    input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    """clip(round(input / scale) + zero_point) as int8 or uint8; halves are rounded to even."""
    if output_dtype not in INTEGERS:
        raise damaged(f"its output_dtype {shown(output_dtype)} is not supported")
    target = NAMED[output_dtype].torch
    values = torch.round(input.float() / along(scale.float(), input, axis))
    if zero_point is not None:
        values = values + along(zero_point.float(), input, axis)
    bounds = torch.iinfo(target)
    return values.clamp(bounds.min, bounds.max).to(target)


def dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None) -> Tensor:
    """scale (input - zero_point), in the type of scale."""
    values = input.float()
    if zero_point is not None:
        values = values - along(zero_point.float(), input, axis)
    return (along(scale.float(), input, axis) * values).to(scale.dtype)


def along(parameter: Tensor, data: Tensor, axis: int | None) -> Tensor:
    """A scalar as it is; a vector with one value for each place of `axis`, shaped to broadcast over the data."""
    if parameter.ndim == 0:
        return parameter
    if axis is None or parameter.ndim != 1 or parameter.shape[0] != data.shape[axis]:
        raise damaged(f"{tuple(parameter.shape)} values do not fit axis {axis} of {tuple(data.shape)}")
    shape = [1] * data.ndim
    shape[axis] = parameter.shape[0]
    return parameter.reshape(shape)


WIDENED: dict[str, Function] = {
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "real_div": real_div,
    "floor_div": _binary(torch.floor_divide),
    "mod": _binary(torch.remainder),
    "pow": _binary(torch.pow),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "equal": _binary(torch.eq),
    "not_equal": _binary(torch.ne),
    "less": _binary(torch.lt),
    "less_equal": _binary(torch.le),
    "greater": _binary(torch.gt),
    "greater_equal": _binary(torch.ge),
    "abs": _unary(torch.abs),
    "ceil": _unary(torch.ceil),
    "clip": clip,
    "cos": _unary(torch.cos),
    "erf": _unary(torch.erf),
    "exp": _unary(torch.exp),
    "exp2": _unary(torch.exp2),
    "floor": _unary(torch.floor),
    "gelu": gelu,
    "inverse": inverse,
    "leaky_relu": leaky_relu,
    "log": log,
    "relu": _unary(torch.relu),
    "relu6": _unary(F.relu6),
    "round": _unary(torch.round),
    "rsqrt": rsqrt,
    "sigmoid": _unary(torch.sigmoid),
    "sigmoid_hard": sigmoid_hard,
    "sign": _unary(torch.sign),
    "silu": _unary(F.silu),
    "sin": _unary(torch.sin),
    "softplus": softplus,
    "sqrt": _unary(torch.sqrt),
    "square": _unary(torch.square),
    "tanh": _unary(torch.tanh),
    "threshold": threshold,
}
AS_STORED: dict[str, Function] = {
    "cast": cast,
    "dequantize": dequantize,
    "identity": _unary(lambda x: x),
    "logical_and": _binary(torch.logical_and),
    "logical_not": _unary(torch.logical_not),
    "logical_or": _binary(torch.logical_or),
    "logical_xor": _binary(torch.logical_xor),
    "quantize": quantize,
    "select": select,
}
