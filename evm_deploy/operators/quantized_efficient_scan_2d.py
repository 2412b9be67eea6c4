"""`evm::QuantizedEfficientScan2D`: ES2D whose first projection multiplies integers. dt, B and C come out as floats."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evm_deploy.operators import selective_scan
from evm_deploy.operators.es2d import count_tokens, flops, write_atrous_scan
from evm_deploy.operators.operator import ROWS, SCAN, STATE, Operator, ProductWeight, Shapes

if TYPE_CHECKING:
    from evm_deploy.operators.body import Body


def write_body(b: Body, step: int = 2) -> None:
    """As ES2D, with x_proj in int8, x_proj_scale (K, R+2N), and for its sake alone x in uint8: scale and zero point.

    What is scanned is x as it was.
    """
    scale = b.unsqueeze(b("Mul", "x_proj_scale", "x_scale"), 1)  # (K, 1, R+2N)

    def project(u: str) -> str:
        integers = b("QuantizeLinear", u, "x_scale", "x_zero_point")
        return b("Mul", b.floats(b("MatMulInteger", integers, "x_proj", "x_zero_point")), scale)

    write_atrous_scan(b, "x", "dt_proj", step, project)


def integer_ops(shapes: Shapes) -> int:
    """Those of the first projection."""
    return 2 * math.prod(shapes["x"]) * shapes["x_proj"][-1]


OPERATOR = Operator(
    "QuantizedEfficientScan2D",
    SCAN,
    inputs={
        "x": ROWS,
        "x_scale": STATE,
        "x_zero_point": "tensor(uint8)",
        "x_proj": "tensor(int8)",
        "x_proj_scale": STATE,
        "dt_proj": ROWS,
        "dt_bias": STATE,
        "A": STATE,
        "D": STATE,
    },
    attributes={"step": int},
    write_body=write_body,
    count_tokens=count_tokens,
    calls=(selective_scan.OPERATOR,),
    specialised=("step",),
    flops=flops,
    integer_ops=integer_ops,
    weight=ProductWeight("x_proj", in_axis=1, out_axis=2, scale_axes=(0, 2), second="dt_proj", integer=True),
    page=True,
)
