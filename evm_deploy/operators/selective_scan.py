"""`evm::SelectiveScan`: h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t, y_t = C_t h_t + D u_t."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from evm_deploy.operators.operator import ROWS, SCAN, STATE, GpuKernel, Operator, Shape, Shapes

if TYPE_CHECKING:
    from evm_deploy.cuda.plan import LaunchPlan
    from evm_deploy.operators.body import Body


CHUNK = 28  # tokens; two levels of it are a map of 28 by 28


def write_body(b: Body, chunk: int = CHUNK) -> None:
    """y (B, K, L, D) of u, delta (B, K, L, D), A (K, N, D), B, C (B, K, L, N), D, delta_bias (K, D).

    No Loop, Scan, If or Einsum; any batch and length; every exponent is a sum of non-positive terms. The recurrence
    is float32 whatever the type of the inputs. All seven inputs are needed: a body cannot ask whether an optional
    input is there, so the exporter writes zeros.
    """
    u, B, C = (b.floats(name) for name in ("u", "B", "C"))
    delta = b("Add", b.floats("delta"), b.unsqueeze("delta_bias", 1))
    flag = b.refer("Constant", name="flag", attribute="delta_softplus", fills="value_int", type=int)
    delta = b("Where", b.booleans(flag), b("Softplus", delta), delta)

    L = b.size(u, 2)
    missing = {2: b.missing(L, chunk)}
    padded_u, delta, B, C = (b.pad(t, 4, after=missing) for t in (u, delta, B, C))  # delta = 0 keeps the state
    x = b("Mul", b.unsqueeze(b("Mul", delta, padded_u), 3), b.unsqueeze(B, 4))  # (B, K, L', N, D)
    h = _states(b, b.unsqueeze(delta, 3), b.unsqueeze("A", 1), x, chunk, levels=2)
    y = b("Squeeze", b("MatMul", b.unsqueeze(C, 3), h), b.ints(3))  # (B, K, L', D)
    y = b("Slice", y, b.ints(0), L, b.ints(2))
    y = b("Add", y, b("Mul", u, b.unsqueeze("D", 1)))
    b("CastLike", y, "u", name="y")


def _states(b: Body, delta: str, A: str, x: str, T: int, levels: int) -> str:
    """h_t = exp(delta_t A) h_{t-1} + x_t. delta (B, K, L, 1, D), A (K, 1, N, D), x and h (B, K, L, N, D), L = 0 mod T.

    T steps in all chunks at once give the states at the chunks' ends; those are a scan over chunks (the next level);
    T steps more, from what that scan carries in, give every state.
    """
    if levels == 0:
        return _states_of_all_pairs(b, delta, A, x)
    rest = (b.size(x, 3), b.size(x, 4))  # N, D
    delta = b("Reshape", delta, b.shape(0, 0, -1, T, 1, b.size(delta, 4)))
    x = b("Reshape", x, b.shape(0, 0, -1, T, *rest))  # (B, K, chunks, T, N, D)
    decays = b.many("Split", b("Exp", b("Mul", delta, b.unsqueeze(A, 1))), names=T, axis=3, num_outputs=T)
    tokens = b.many("Split", x, names=T, axis=3, num_outputs=T)

    h = tokens[0]
    for decay, token in zip(decays[1:], tokens[1:], strict=True):
        h = b("Add", b("Mul", decay, h), token)
    elapsed = b("ReduceSum", delta, b.ints(3), keepdims=0)  # (B, K, chunks, 1, D)
    chunks = b.size(elapsed, 2)
    ends = b("Squeeze", h, b.ints(3))
    if levels > 1:
        missing = {2: b.missing(chunks, T)}
        elapsed, ends = b.pad(elapsed, 5, after=missing), b.pad(ends, 5, after=missing)
    carried = b.pad(_states(b, elapsed, A, ends, T, levels - 1), 5, before={2: 1})
    h = b.unsqueeze(b("Slice", carried, b.ints(0), chunks, b.ints(2)), 3)  # what enters each chunk

    states = []
    for decay, token in zip(decays, tokens, strict=True):
        h = b("Add", b("Mul", decay, h), token)
        states.append(h)
    return b("Reshape", b("Concat", *states, axis=3), b.shape(0, 0, -1, *rest))


def _states_of_all_pairs(b: Body, delta: str, A: str, x: str) -> str:
    """The same without steps, over M = L / T^2 tokens (1 at 224): h_i = sum of exp(A sum(delta_j+1..i)) x_j, j <= i.

    Quadratic in M, yet smaller than the states themselves up to L = T^4; and exact for any L.
    """
    M = b("Squeeze", b.size(x, 2))
    m = b("Range", b.scalar(0), M, b.scalar(1))
    i, j = b.unsqueeze(m, 1), m  # (M, 1), (M,)
    past = b("GreaterOrEqual", i, j)  # (M, M): j <= i
    between = b("And", b.unsqueeze(past, 1), b("Greater", m, i))  # (i, j, m): j < m <= i
    between = b("Reshape", b.floats(between), b.shape(-1, b.size(x, 2)))  # (M*M, M)
    span = b("MatMul", between, b("Squeeze", delta, b.ints(3)))  # (B, K, M*M, D)
    span = b("Reshape", span, b.shape(0, 0, b.size(x, 2), b.size(x, 2), 1, b.size(x, 4)))  # (B, K, M, M, 1, D)
    decay = b("Mul", b("Exp", b("Mul", span, b.unsqueeze(A, 1))), b.unsqueeze(b.floats(past), 2, 3))
    return b("ReduceSum", b("Mul", decay, b.unsqueeze(x, 2)), b.ints(3), keepdims=0)


def fit_body(tokens: int) -> dict[str, int]:
    """Smaller chunks, so fewer nodes to load, where two levels of them are a sequence of so many tokens."""
    return {"chunk": min(CHUNK, max(2, math.isqrt(tokens - 1) + 1))}


def count_tokens(shapes: Shapes, delta_softplus: int) -> int:
    """Of u (B, K, L, D)."""
    return shapes["u"][2]


def torch_op() -> Any:
    """As `scan.ops` defines it."""
    from evm_deploy.scan import ops

    return ops.find_overload("selective_scan")


def translate(op: Any, evm: Any) -> Callable[..., Any]:
    """The node of a call; zeros for the inputs that it leaves out."""

    def scan(u, delta, A, B, C, D=None, delta_bias=None, delta_softplus=False):  # type: ignore[no-untyped-def]
        rates = op.Gather(A, op.Constant(value_int=0), axis=1)  # (K, D)
        zeros = op.Sub(rates, rates)
        D, delta_bias = (zeros if given is None else given for given in (D, delta_bias))
        return evm.SelectiveScan(u, delta, A, B, C, D, delta_bias, delta_softplus=int(delta_softplus))

    return scan


def static_form(*arguments: Any, **options: Any) -> Any:
    """As `scan.static` computes it."""
    from evm_deploy.scan import static
    from evm_deploy.scan.inputs import ScanInputs

    return static.run(ScanInputs(*arguments), **options)


def recurrence_flops(states: int) -> int:
    """Of a token and channel: seven for each state (delta A, its exponential, times the state, delta u B, their sum,
    times C, summed), and six (bias, softplus in three, delta u, D u)."""
    return 7 * states + 6


def flops(shapes: Shapes) -> int:
    """Of u (B, K, L, D) and A (K, N, D)."""
    return math.prod(shapes["u"]) * recurrence_flops(shapes["A"][-2])


def plan(shapes: Sequence[Shape], dtype: str, sm_count: int, delta_softplus: int) -> LaunchPlan:
    """The launch for u (B, K, L, D) and A (K, N, D), with D and delta_bias."""
    from evm_deploy.cuda.plan import plan_selective_scan

    (batch, K, L, D), N = shapes[0], shapes[2][1]
    return plan_selective_scan(batch, K, L, D, N, dtype, sm_count, softplus=bool(delta_softplus))


SIDES = (("u", 0), ("u", 1), ("u", 2), ("u", 3))
OPERATOR = Operator(
    "SelectiveScan",
    SCAN,
    inputs={"u": ROWS, "delta": ROWS, "A": STATE, "B": ROWS, "C": ROWS, "D": STATE, "delta_bias": STATE},
    attributes={"delta_softplus": int},
    write_body=write_body,
    count_tokens=count_tokens,
    fit_body=fit_body,
    torch_op=torch_op,
    translate=translate,
    static_form=static_form,
    skip="D",
    flops=flops,
    page=True,
    gpu=GpuKernel(plan, sizes=SIDES[1:], result=SIDES),
)
