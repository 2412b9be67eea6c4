"""`evm::EfficientScan2D` (ES2D): the atrous selective scan of a map, with the projections of delta, B and C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from evm_deploy.operators import quantized_efficient_scan_2d, selective_scan
from evm_deploy.operators.es2d import count_tokens, flops, write_atrous_scan
from evm_deploy.operators.operator import ROWS, SCAN, STATE, GpuKernel, Operator, ProductWeight, Shape

if TYPE_CHECKING:
    from evm_deploy.cuda.plan import LaunchPlan
    from evm_deploy.operators.body import Body


def write_body(b: Body, step: int = 2) -> None:
    """y (B, H, W, D) of x (B, H, W, D), x_proj (K, D, R+2N), dt_proj (K, R, D), dt_bias (K, D), A (K, N, D), D (K, D).

    A node of the graph carries `step` for the kernel; the body is written for that one value.
    """
    x, x_proj, dt_proj = (b.floats(name) for name in ("x", "x_proj", "dt_proj"))
    write_atrous_scan(b, x, dt_proj, step, lambda u: b("MatMul", u, x_proj))


def torch_op() -> Any:
    """As `scan.ops` defines it."""
    from evm_deploy.scan import ops

    return ops.find_overload("efficient_scan_2d")


def translate(op: Any, evm: Any) -> Callable[..., Any]:
    """The node of a call."""

    def scan_2d(x, x_proj, dt_proj, dt_bias, A, D, step=2):  # type: ignore[no-untyped-def]
        return evm.EfficientScan2D(x, x_proj, dt_proj, dt_bias, A, D, step=step)

    return scan_2d


def static_form(*arguments: Any, **options: Any) -> Any:
    """As `scan.static` computes it."""
    from evm_deploy.scan import static
    from evm_deploy.scan.inputs import Scan2DInputs

    return static.run(Scan2DInputs(*arguments), **options)


def plan(shapes: Sequence[Shape], dtype: str, sm_count: int, step: int) -> LaunchPlan:
    """The launch for x (B, H, W, D), dt_proj (K, R, D) and A (K, N, D)."""
    from evm_deploy.cuda.plan import plan_efficient_scan_2d

    (batch, H, W, D), (K, R, _), N = shapes[0], shapes[2], shapes[4][1]
    return plan_efficient_scan_2d(batch, H, W, D, K, N, R, step, dtype, sm_count)


SIDES = (("x", 0), ("x", 1), ("x", 2), ("x", 3))
OPERATOR = Operator(
    "EfficientScan2D",
    SCAN,
    inputs={"x": ROWS, "x_proj": ROWS, "dt_proj": ROWS, "dt_bias": STATE, "A": STATE, "D": STATE},
    attributes={"step": int},
    write_body=write_body,
    count_tokens=count_tokens,
    calls=(selective_scan.OPERATOR,),
    specialised=("step",),
    torch_op=torch_op,
    translate=translate,
    static_form=static_form,
    skip="D",
    flops=flops,
    weight=ProductWeight(
        "x_proj",
        in_axis=1,
        out_axis=2,
        scale_axes=(0, 2),
        second="dt_proj",
        quantised=quantized_efficient_scan_2d.OPERATOR,
    ),
    page=True,
    gpu=GpuKernel(plan, sizes=SIDES[1:], result=SIDES),
)
