"""`evm::GatedNorm`: LayerNorm(x) * SiLU(z), so that one kernel does both in one pass over memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evm_deploy.operators.operator import NORM, ROWS, Operator, Shapes

if TYPE_CHECKING:
    from evm_deploy.operators.body import Body


def write_body(b: Body) -> None:
    """y (..., C) of x, z (..., C), scale and bias (C)."""
    normed = b.layer_norm("x", "scale", "bias", name="normed")
    b("Mul", normed, b("Mul", "z", b("Sigmoid", "z")), name="y")


def flops(shapes: Shapes) -> int:
    """Seven of the norm for each number, and five of the gate."""
    return 12 * math.prod(shapes["x"])


OPERATOR = Operator(
    "GatedNorm",
    NORM,
    inputs={"x": ROWS, "z": ROWS, "scale": ROWS, "bias": ROWS},
    attributes={"epsilon": float},
    write_body=write_body,
    flops=flops,
    affine=("scale", "bias"),
    page=True,
)
