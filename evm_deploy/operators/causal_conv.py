"""`evm::CausalConv`: Mamba's causal depthwise convolution with its SiLU, of tokens in given orders."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from evm_deploy.operators.operator import CONVOLUTION, INDICES, ROWS, GpuKernel, Operator, Shape, Shapes

if TYPE_CHECKING:
    from evm_deploy.cuda.plan import LaunchPlan
    from evm_deploy.operators.body import Body


def write_body(b: Body, taps: int = 4) -> None:
    """y (B, K, L, D) of x (B, T, D), weight (K, taps, D), bias (K, D) and order (K, L).

    A node of the graph carries `taps`; the body is written for that one value.
    """
    x, weight, bias = (b.floats(name) for name in ("x", "weight", "bias"))
    tokens = b("Gather", x, b("Reshape", "order", b.ints(-1)), axis=1)
    u = b("Reshape", tokens, b("Concat", b.size(x, 0), b("Shape", "order"), b.size(x, 2), axis=0))  # (B, K, L, D)
    padded, L = b.pad(u, 4, before={2: taps - 1}), b.size("order", 1)
    y = b.unsqueeze(bias, 1)
    for j in range(taps):
        tokens = b("Slice", padded, b.ints(j), b("Add", L, b.ints(j)), b.ints(2))
        y = b("Add", y, b("Mul", tokens, b("Slice", weight, b.ints(j), b.ints(j + 1), b.ints(1))))
    b("CastLike", b("Mul", y, b("Sigmoid", y)), "x", name="y")


def torch_op() -> Any:
    """As `scan.ops` defines it."""
    from evm_deploy.scan import ops

    return ops.find_overload("causal_conv")


def translate(op: Any, evm: Any) -> Callable[..., Any]:
    """The node of a call."""

    def convolve(x, weight, bias, order, taps=4):  # type: ignore[no-untyped-def]
        return evm.CausalConv(x, weight, bias, order, taps=taps)

    return convolve


def static_form(*arguments: Any, **options: Any) -> Any:
    """As `scan.static` computes it."""
    from evm_deploy.scan import static
    from evm_deploy.scan.kernel_inputs import CausalConvInputs

    return static.run(CausalConvInputs(*arguments), **options)


def flops(shapes: Shapes) -> int:
    """Of x (B, T, D), weight (K, taps, D) and order (K, L): two for each tap, and five of the bias and the SiLU."""
    batch, _, D = shapes["x"]
    return batch * D * math.prod(shapes["order"]) * (2 * shapes["weight"][1] + 5)


def plan(shapes: Sequence[Shape], dtype: str, sm_count: int, taps: int) -> LaunchPlan:
    """The launch for x (B, T, D) and an order (K, L)."""
    from evm_deploy.cuda.conv_plan import plan_causal_conv

    (batch, T, D), (K, L) = shapes[0], shapes[3]
    return plan_causal_conv(batch, T, K, L, D, taps, dtype, sm_count)


OPERATOR = Operator(
    "CausalConv",
    CONVOLUTION,
    inputs={"x": ROWS, "weight": ROWS, "bias": ROWS, "order": INDICES},
    attributes={"taps": int},
    write_body=write_body,
    specialised=("taps",),
    torch_op=torch_op,
    translate=translate,
    static_form=static_form,
    flops=flops,
    page=True,
    gpu=GpuKernel(
        plan,
        sizes=(("x", 1), ("order", 0), ("order", 1), ("x", 2)),
        result=(("x", 0), ("order", 0), ("order", 1), ("x", 2)),
    ),
)
