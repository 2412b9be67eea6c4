"""`evm::MeanOfNorm`: the mean of LayerNorm(x) over H and W, so that one kernel does both in one pass over memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evm_deploy.operators.operator import NORM, ROWS, Operator, Shapes

if TYPE_CHECKING:
    from evm_deploy.operators.body import Body


def write_body(b: Body) -> None:
    """y (B, 1, 1, C) of x (B, H, W, C), scale and bias (C)."""
    normed = b.layer_norm("x", "scale", "bias", name="normed")
    b("ReduceMean", normed, b.ints(1, 2), name="y", keepdims=1)


def flops(shapes: Shapes) -> int:
    """Seven of the norm for each number, and one of the mean."""
    return 8 * math.prod(shapes["x"])


OPERATOR = Operator(
    "MeanOfNorm",
    NORM,
    inputs={"x": ROWS, "scale": ROWS, "bias": ROWS},
    attributes={"epsilon": float},
    write_body=write_body,
    flops=flops,
    page=True,
)
