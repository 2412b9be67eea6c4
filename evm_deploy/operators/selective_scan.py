"""`evm::SelectiveScan`: h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t, y_t = C_t h_t + D u_t."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from evm_deploy.operators.operator import ROWS, SCAN, STATE, GpuKernel, Operator, Shape, Shapes

if TYPE_CHECKING:
    from evm_deploy.cuda.plan import LaunchPlan
    from evm_deploy.operators.body import Body


CHUNK = 20  # tokens, where the length of the sequences is not known
LONGEST_CHUNK = 28


def write_body(b: Body, chunk: int = CHUNK) -> None:
    """y (B, K, L, D) of u, delta (B, K, L, D), A (K, N, D), B, C (B, K, L, N), D, delta_bias (K, D).

    No Loop, Scan, If or Einsum; any batch and length; every exponent is a sum of non-positive terms. The recurrence
    is float32 whatever the type of the inputs. All seven inputs are needed: a body cannot ask whether an optional
    input is there, so the exporter writes zeros.
    """
    u, B, C = (b.floats(name) for name in ("u", "B", "C"))
    delta = b("Add", b.floats("delta"), b.unsqueeze("delta_bias", 1))
    flag = b.refer("Constant", name="flag", attribute="delta_softplus", fills="value_int", type=int)
    delta = b("Where", b.booleans(flag), _softplus(b, delta), delta)

    L = b.size(u, 2)
    missing = {2: b.missing(L, chunk)}
    padded_u, delta, B, C = (b.pad(t, 4, after=missing) for t in (u, delta, B, C))  # delta = 0 keeps the state
    delta = b.unsqueeze(delta, 3)  # (B, K, L', 1, D)
    tokens = _list_tokens(b, b("Mul", delta, b.unsqueeze(padded_u, 3)), chunk)
    into, out_of = _list_tokens(b, b.unsqueeze(B, 4), chunk), _list_tokens(b, b.unsqueeze(C, 3), chunk)
    # Twice, in two spellings: a runtime would merge two of one spelling, and keep all of them from pass to pass.
    first = [b("Mul", token, B) for token, B in zip(tokens, into, strict=True)]  # (B, K, chunks, N, D)
    again = [b("Mul", B, token) for token, B in zip(tokens, into, strict=True)]
    states = _states(b, delta, b.unsqueeze("A", 1), first, again, levels=2)
    read = [b("MatMul", C, h) for C, h in zip(out_of, states, strict=True)]  # (B, K, chunks, 1, D)
    y = b("Reshape", b("Concat", *read, axis=3), b.shape(0, 0, -1, b.size(u, 3)))
    y = b("Slice", y, b.ints(0), L, b.ints(2))
    y = b("Add", y, b("Mul", u, b.unsqueeze("D", 1)))
    b("CastLike", y, "u", name="y")


def _softplus(b: Body, x: str) -> str:
    """max(x, 0) + log(1 + z), z = exp(-|x|): runtimes compute each of these in vectors, and Softplus number by number.

    log(1 + z) = z log(w) / (w - 1) for w = 1 + z as it is rounded: what it lost is in both (Goldberg 1991, theorem 4).
    Where nothing is left of z, both are less than the least step above 1, and the quotient is 1.
    """
    one, less_than_a_step = b.number(1), b.number(1e-7)
    z = b("Exp", b("Neg", b("Abs", x)))
    w = b("Add", z, one)
    kept, log = (b("Max", part, less_than_a_step) for part in (b("Sub", w, one), b("Log", w)))
    return b("Add", b("Relu", x), b("Mul", z, b("Div", log, kept)))


def _states(b: Body, delta: str, A: str, first: list[str], again: list[str], levels: int) -> list[str]:
    """h_t = exp(delta_t A) h_{t-1} + x_t, as lists of the T tokens of every chunk.

    delta (B, K, L, 1, D), A (K, 1, N, D), L = 0 mod T; x, `first` and `again` for the two passes, and h: T of
    (B, K, L / T, N, D). T steps in all chunks at once give the states at the chunks' ends; those are a scan over
    chunks (the next level); T steps more, from what that scan carries in, give every state.
    """
    T = len(first)
    # All decays are written before the first state: onnxruntime then computes each shortly before it is needed.
    decays = [b("Exp", b("Mul", step, A)) for step in _list_tokens(b, delta, T)]
    h = first[0]
    for decay, token in zip(decays[1:], first[1:], strict=True):
        h = b("Add", b("Mul", decay, h), token)
    N, D = b.size(h, 3), b.size(h, 4)
    elapsed = b("ReduceSum", b("Reshape", delta, b.shape(0, 0, -1, T, D)), b.ints(3), keepdims=1)
    chunks = b.size(elapsed, 2)
    if levels > 1:
        missing = {2: b.missing(chunks, T)}
        elapsed, h = b.pad(elapsed, 5, after=missing), b.pad(h, 5, after=missing)
        ends = _list_tokens(b, h, T)
        carried = b("Concat", *_states(b, elapsed, A, ends, ends, levels - 1), axis=3)  # (B, K, chunks / T, T * N, D)
        carried = b("Reshape", carried, b.shape(0, 0, -1, N, D))
    else:
        carried = _states_of_all_pairs(b, elapsed, A, h)
    h = b("Slice", b.pad(carried, 5, before={2: 1}), b.ints(0), chunks, b.ints(2))  # what enters each chunk

    states = []
    for decay, token in zip(decays, again, strict=True):
        h = b("Add", b("Mul", decay, h), token)
        states.append(h)
    return states


def _list_tokens(b: Body, sequences: str, T: int) -> list[str]:
    """(B, K, L, *) as T of (B, K, L / T, *): the first token of every chunk, the second and so on.

    Not by one Split: in a browser's WebGPU a kernel has few buffers.
    """
    axis, every = b.ints(2), b.ints(T)
    return [b("Slice", sequences, b.ints(i), b.end(1), axis, every) for i in range(T)]


def _states_of_all_pairs(b: Body, delta: str, A: str, x: str) -> str:
    """The same without steps, over M = L / T^2 tokens (4 at 224): h_i = sum of exp(A sum(delta_j+1..i)) x_j, j <= i.

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
    """Chunks of which two levels leave four tokens of so many: shorter ones are fewer nodes, and as fast."""
    return {"chunk": min(LONGEST_CHUNK, max(2, math.ceil(math.sqrt(tokens / 4))))}


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
