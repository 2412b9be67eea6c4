"""`evm::OrderedScan`: selective scans of tokens in given orders, with the projections of delta, B and C, added up.

The cross-scan of VMamba, the two directions of Vim, windows: the orders are inputs, so that one body is right for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from evm_deploy.operators import grouped_scan
from evm_deploy.operators.operator import INDICES, SCAN, Operator, ProductWeight, Shapes

GROUPS = "scan_groups"  # the name of what is added up, where the scan is written out

if TYPE_CHECKING:
    from evm_deploy.operators.body import Body


def write_body(b: Body) -> None:
    """y (B, T', D) of x (B, T, D), x_proj (K, D, R+2N), dt_proj (K, R, D), dt_bias (K, D), A (K, N, D), D (K, D),
    order (K, L) and back (M, T')."""
    D = b.size("x", 2)
    y = b.call(grouped_scan.OPERATOR, *grouped_scan.OPERATOR.inputs, name=GROUPS)  # (B, K, L, D)
    results = b("Gather", b("Reshape", y, b.shape(0, -1, D)), b("Reshape", "back", b.ints(-1)), axis=1)
    results = b("Reshape", results, b("Concat", b.size("x", 0), b("Shape", "back"), D, axis=0))  # (B, M, T', D)
    b("CastLike", b("ReduceSum", results, b.ints(1), keepdims=0), "x", name="y")


def count_tokens(shapes: Shapes) -> int:
    """Of order (K, L)."""
    return shapes["order"][1]


def torch_op() -> Any:
    """As `scan.ops` defines it."""
    from evm_deploy.scan import ops

    return ops.find_overload("ordered_scan")


def translate(op: Any, evm: Any) -> Callable[..., Any]:
    """The node of a call."""

    def scan(x, x_proj, dt_proj, dt_bias, A, D, order, back):  # type: ignore[no-untyped-def]
        return evm.OrderedScan(x, x_proj, dt_proj, dt_bias, A, D, order, back)

    return scan


def static_form(*arguments: Any, **options: Any) -> Any:
    """As `scan.static` computes it."""
    from evm_deploy.scan import static
    from evm_deploy.scan.kernel_inputs import OrderedScanInputs

    return static.run(OrderedScanInputs(*arguments), **options)


def flops(shapes: Shapes) -> int:
    """Of x (B, T, D) with x_proj (K, D, R+2N), dt_proj (K, R, D), A (K, N, D) and order (K, L)."""
    batch, _, D = shapes["x"]
    sums = math.prod(shapes["back"]) if shapes.get("back") else 0
    return grouped_scan.flops(shapes) + batch * D * sums


OPERATOR = Operator(
    "OrderedScan",
    SCAN,
    inputs={**grouped_scan.OPERATOR.inputs, "back": INDICES},
    write_body=write_body,
    count_tokens=count_tokens,
    calls=(grouped_scan.OPERATOR,),
    torch_op=torch_op,
    translate=translate,
    static_form=static_form,
    skip="D",
    flops=flops,
    weight=ProductWeight("x_proj", in_axis=1, out_axis=2, scale_axes=(0, 2), second="dt_proj", every_group=True),
    page=True,
)
