"""Operations on each element, with broadcasting: arithmetic, activations, comparisons, logic, casts."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.runtimes.mil.dtypes import NAMED
from evm_deploy.runtimes.mil.ops.row import Function
from evm_deploy.runtimes.mil.problems import make_package_error, quote

INTEGERS = ("int8", "uint8")  # the output types of `quantize`


def _make_unary(function: Callable[[Tensor], Tensor]) -> Function:
    def apply(x: Tensor) -> Tensor:
        return function(x)

    return apply


def _make_binary(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    def apply(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    return apply


def real_div(x: Tensor, y: Tensor) -> Tensor:
    """x / y, of floats."""
    if not x.is_floating_point():
        raise make_package_error("it divides integers, which is not supported")
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
    raise make_package_error(f"its mode {quote(mode)} is not supported")


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), taken as x from 20 on."""
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
    """x in another type. Floats are rounded to nearest even; to an integer, towards zero."""
    if dtype not in NAMED:
        raise make_package_error(f"its dtype {quote(dtype)} is not supported")
    target = NAMED[dtype].torch
    if x.is_floating_point() and not target.is_floating_point and target != torch.bool:
        return x.double().trunc().to(torch.int64).to(target)  # values that are too large wrap, on every machine
    return x.to(target)


def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where cond, else b."""
    if a.dtype != b.dtype:
        raise make_package_error(f"its inputs mix {a.dtype} and {b.dtype}")
    return torch.where(cond, a, b)


def quantize(
    input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    """clip(round(input / scale) + zero_point) as int8 or uint8; halves are rounded to even."""
    if output_dtype not in INTEGERS:
        raise make_package_error(f"its output_dtype {quote(output_dtype)} is not supported")
    target = NAMED[output_dtype].torch
    values = torch.round(input.float() / align(scale.float(), input, axis))
    if zero_point is not None:
        values = values + align(zero_point.float(), input, axis)
    bounds = torch.iinfo(target)
    return values.clamp(bounds.min, bounds.max).to(target)


def dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None) -> Tensor:
    """scale (input - zero_point), in the type of scale."""
    values = input.float()
    if zero_point is not None:
        values = values - align(zero_point.float(), input, axis)
    return (align(scale.float(), input, axis) * values).to(scale.dtype)


def align(parameter: Tensor, data: Tensor, axis: int | None) -> Tensor:
    """Shapes a vector with one value for each position along `axis` to broadcast over the data; a scalar stays."""
    if parameter.ndim == 0:
        return parameter
    if axis is None or parameter.ndim != 1 or parameter.shape[0] != data.shape[axis]:
        raise make_package_error(f"{tuple(parameter.shape)} values do not fit axis {axis} of {tuple(data.shape)}")
    shape = [1] * data.ndim
    shape[axis] = parameter.shape[0]
    return parameter.reshape(shape)


WIDENED: dict[str, Function] = {
    "add": _make_binary(torch.add),
    "sub": _make_binary(torch.sub),
    "mul": _make_binary(torch.mul),
    "real_div": real_div,
    "floor_div": _make_binary(torch.floor_divide),
    "mod": _make_binary(torch.remainder),
    "pow": _make_binary(torch.pow),
    "maximum": _make_binary(torch.maximum),
    "minimum": _make_binary(torch.minimum),
    "equal": _make_binary(torch.eq),
    "not_equal": _make_binary(torch.ne),
    "less": _make_binary(torch.lt),
    "less_equal": _make_binary(torch.le),
    "greater": _make_binary(torch.gt),
    "greater_equal": _make_binary(torch.ge),
    "abs": _make_unary(torch.abs),
    "ceil": _make_unary(torch.ceil),
    "clip": clip,
    "cos": _make_unary(torch.cos),
    "erf": _make_unary(torch.erf),
    "exp": _make_unary(torch.exp),
    "exp2": _make_unary(torch.exp2),
    "floor": _make_unary(torch.floor),
    "gelu": gelu,
    "inverse": inverse,
    "leaky_relu": leaky_relu,
    "log": log,
    "relu": _make_unary(torch.relu),
    "relu6": _make_unary(F.relu6),
    "round": _make_unary(torch.round),
    "rsqrt": rsqrt,
    "sigmoid": _make_unary(torch.sigmoid),
    "sigmoid_hard": sigmoid_hard,
    "sign": _make_unary(torch.sign),
    "silu": _make_unary(F.silu),
    "sin": _make_unary(torch.sin),
    "softplus": softplus,
    "sqrt": _make_unary(torch.sqrt),
    "square": _make_unary(torch.square),
    "tanh": _make_unary(torch.tanh),
    "threshold": threshold,
}
AS_STORED: dict[str, Function] = {
    "cast": cast,
    "dequantize": dequantize,
    "identity": _make_unary(lambda x: x),
    "logical_and": _make_binary(torch.logical_and),
    "logical_not": _make_unary(torch.logical_not),
    "logical_or": _make_binary(torch.logical_or),
    "logical_xor": _make_binary(torch.logical_xor),
    "quantize": quantize,
    "select": select,
}
