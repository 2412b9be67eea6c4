"""`evm::GroupedScan`: what `evm::OrderedScan` adds up, the scan of each group by itself. It is in bodies alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evm_deploy.operators import selective_scan
from evm_deploy.operators.operator import INDICES, ROWS, SCAN, STATE, GpuKernel, Operator, Shape, Shapes

if TYPE_CHECKING:
    from evm_deploy.cuda.plan import LaunchPlan
    from evm_deploy.operators.body import Body


def write_body(b: Body) -> None:
    """y (B, K, L, D), float32, of x (B, T, D), x_proj (K, D, R+2N), dt_proj (K, R, D), dt_bias (K, D), A (K, N, D),
    D (K, D) and order (K, L)."""
    x, x_proj, dt_proj = (b.floats(name) for name in ("x", "x_proj", "dt_proj"))
    tokens = b("Gather", x, b("Reshape", "order", b.ints(-1)), axis=1)
    u = b("Reshape", tokens, b("Concat", b.size(x, 0), b("Shape", "order"), b.size(x, 2), axis=0))  # (B, K, L, D)
    R, N = b.size("dt_proj", 1), b.size("A", 1)
    dt, B, C = b.many("Split", b("MatMul", u, x_proj), b.shape(R, N, N), names=3, axis=-1)
    delta = b("MatMul", dt, dt_proj)
    b.call(selective_scan.OPERATOR, u, delta, "A", B, C, "D", "dt_bias", name="y", delta_softplus=1)


def flops(shapes: Shapes) -> int:
    """Of x (B, T, D) with x_proj (K, D, R+2N), dt_proj (K, R, D), A (K, N, D) and order (K, L)."""
    (batch, _, D), scanned = shapes["x"], math.prod(shapes["order"])
    projections = shapes["x_proj"][-1] + shapes["dt_proj"][-2]
    return batch * D * scanned * (2 * projections + selective_scan.recurrence_flops(shapes["A"][-2]))


def plan(shapes: Sequence[Shape], dtype: str, sm_count: int) -> LaunchPlan:
    """The launch for x (B, T, D), dt_proj (K, R, D), A (K, N, D) and an order (K, L)."""
    from evm_deploy.cuda.plan import plan_grouped_scan

    (batch, T, D), R, N, (K, L) = shapes[0], shapes[2][1], shapes[4][1], shapes[6]
    return plan_grouped_scan(batch, T, K, L, D, N, R, dtype, sm_count)


OPERATOR = Operator(
    "GroupedScan",
    SCAN,
    inputs={
        "x": ROWS,
        "x_proj": ROWS,
        "dt_proj": ROWS,
        "dt_bias": STATE,
        "A": STATE,
        "D": STATE,
        "order": INDICES,
    },
    result=STATE,
    write_body=write_body,
    calls=(selective_scan.OPERATOR,),
    flops=flops,
    library=False,
    gpu=GpuKernel(
        plan,
        sizes=(("x", 1), ("order", 0), ("order", 1), ("x", 2)),
        result=(("x", 0), ("order", 0), ("order", 1), ("x", 2)),
    ),
)
