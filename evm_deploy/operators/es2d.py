"""What both forms of ES2D share: groups of the map as sequences, each scanned and put back, and their arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from evm_deploy.cuda.plan import MOST_STEPS
from evm_deploy.errors import InputError
from evm_deploy.operators import selective_scan
from evm_deploy.operators.operator import Shapes

if TYPE_CHECKING:
    from evm_deploy.operators.body import Body


def write_atrous_scan(b: Body, x: str, dt_proj: str, step: int, project: Callable[[str], str]) -> None:
    """y of x (B, H, W, D); `project` makes (B, K, L, R+2N) of the tokens (B, K, L, D).

    Raises InputError: a step that no scan has.
    """
    if not 1 <= step <= MOST_STEPS:
        raise InputError(f"step is {step}.", f"use scans with a step of 1 to {MOST_STEPS}.")
    H, W = b.size(x, 1), b.size(x, 2)
    x = b.pad(x, 4, after={1: b.missing(H, step), 2: b.missing(W, step)})
    u = b("Concat", *(_group(b, x, k, step) for k in range(step * step)), axis=1)  # (B, K, L, D)
    R, N = b.size("dt_proj", 1), b.size("A", 1)
    dt, B, C = b.many("Split", project(u), b.shape(R, N, N), names=3, axis=-1)
    delta = b("MatMul", dt, dt_proj)
    y = b.call(selective_scan.OPERATOR, u, delta, "A", B, C, "D", "dt_bias", delta_softplus=1)
    y = b("Slice", _ungroup(b, y, x, step), b.ints(0, 0), b("Concat", H, W, axis=0), b.ints(1, 2))
    b("CastLike", y, "x", name="y")


def count_tokens(shapes: Shapes, step: int) -> int:
    """Of a group of x (B, H, W, D)."""
    _, H, W, _ = shapes["x"]
    return -(-H // step) * -(-W // step)


def flops(shapes: Shapes) -> int:
    """Of x (B, H, W, D) with x_proj (K, D, R+2N), dt_proj (K, R, D) and A (K, N, D)."""
    projections = shapes["x_proj"][-1] + shapes["dt_proj"][-2]
    return math.prod(shapes["x"]) * (2 * projections + selective_scan.recurrence_flops(shapes["A"][-2]))


def _group(b: Body, x: str, k: int, step: int) -> str:
    """Tokens of group k of the padded x, (B, 1, L, D): rows k % step, columns k // step; odd groups by columns."""
    group = b("Slice", x, b.ints(k % step, k // step), b.end(2), b.ints(1, 2), b.ints(step, step))
    if k % 2:
        group = b("Transpose", group, perm=[0, 2, 1, 3])
    return b("Reshape", group, b.shape(0, 1, -1, b.size(x, 3)))


def _ungroup(b: Body, y: str, x: str, step: int) -> str:
    """(B, K, L, D) back to the places in the padded x, (B, H', W', D)."""
    D, divisor = b.size(x, 3), b.ints(step)
    h, w = b("Div", b.size(x, 1), divisor), b("Div", b.size(x, 2), divisor)
    by_row, by_column = b.shape(0, h, w, D), b.shape(0, w, h, D)
    groups = b.many("Split", y, names=step * step, axis=1, num_outputs=step * step)
    placed = []
    for k, group in enumerate(groups):
        group = b("Reshape", b("Squeeze", group, b.ints(1)), by_column if k % 2 else by_row)
        placed.append(b("Transpose", group, perm=[0, 2, 1, 3]) if k % 2 else group)  # (B, h, w, D)
    columns = []
    for c in range(step):
        rows = [b.unsqueeze(group, 2) for group in placed[c * step : (c + 1) * step]]
        columns.append(b.unsqueeze(b("Concat", *rows, axis=2), 4))  # (B, h, step, w, 1, D)
    return b("Reshape", b("Concat", *columns, axis=4), b.shape(0, b.size(x, 1), b.size(x, 2), D))
