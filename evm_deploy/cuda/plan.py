"""How a scan is cut into blocks of threads: the shape of the launch, and the defines that its kernel is compiled with.

A block takes a tile of channels of one sequence, and all of its tokens. Wide tiles share the work that all channels
need (B and C, and in EfficientScan2D the projection); narrow ones, and tokens cut into chunks, keep a large GPU busy
with few sequences. A chunked scan computes every decay twice. `_cycles` weighs the two against each other.

What bounds a scan of many sequences is not memory: each of the B K L D N decays is an exponential, and a multiprocessor
computes 16 a cycle. For 64 images in T's first stage that takes 83 us on an H200 (132 multiprocessors at 1.755 GHz);
inputs and output are 257 MB in float32, 64 us at 4 TB/s, and half of that in float16. On a Jetson AGX Orin (16 at
1.3 GHz, 205 GB/s) one image takes 14 us of exponentials, and 20 us of memory in float32 or 10 us in float16.
EfficientScan2D moves less and computes more: at batch 1 the projection, which every tile repeats, takes most of it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

from evm_deploy.cuda.compile import SOURCE
from evm_deploy.errors import OptionError, check_choice

ELEMENT_BYTES = {"float32": 4, "float16": 2}
# What every GPU from compute capability 7.5 on gives a block without being asked.
SHARED_LIMIT = 48 * 1024
MAX_THREADS = 512
MOST_STEPS = 64  # `step` of ES2D, as in native/sizes.h: a body writes step * step groups down one by one
# Multiprocessors of a common GPU of each architecture, for plans made on a machine that has none.
SM_COUNTS = {
    "sm_75": 40,  # T4
    "sm_80": 108,  # A100
    "sm_86": 84,  # A10, RTX 3090
    "sm_87": 16,  # Jetson AGX Orin
    "sm_89": 58,  # L4
    "sm_90": 132,  # H100, H200
    "sm_100": 148,  # B200
    "sm_110": 20,  # Jetson Thor
    "sm_120": 170,  # RTX 5090
}


@dataclasses.dataclass(frozen=True)
class LaunchPlan:
    """One launch of one kernel. A plan made for one batch is right for every other: grid[0] is proportional to it.

    entry: the name of the kernel. Its arguments, in order: the inputs that the operator was given (pointers to
    contiguous tensors, aligned to 16 bytes), its sizes (int32), y (pointer).
        evm_selective_scan(u, delta, A, B, C[, D][, delta_bias], K, L, D, y)
        evm_efficient_scan_2d(x, x_proj, dt_proj, dt_bias, A, D, H, W, D, y)
        evm_grouped_scan(x, x_proj, dt_proj, dt_bias, A, D, order, T, K, L, D, y)
        evm_causal_conv(x, weight, bias, order, T, K, L, D, y)
    A, D, delta_bias and dt_bias are float32, as is y of the grouped scan, and order int64; all else is of the planned
    dtype. defines: what `compile_kernel` needs besides the architecture. shared_bytes: dynamic shared memory, at most
    48 KB. source: the file of the kernel.
    """

    entry: str
    defines: tuple[str, ...]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    source: Path = SOURCE


def plan_selective_scan(
    B: int,
    K: int,
    L: int,
    D: int,
    N: int,
    dtype: str,
    sm_count: int,
    *,
    skip: bool = True,
    bias: bool = True,
    softplus: bool = True,
) -> LaunchPlan:
    """The launch of `SelectiveScan` for u of shape (B, K, L, D) and N states on a GPU of `sm_count` multiprocessors.

    dtype: "float32" or "float16", of u, delta, B, C and y. skip, bias: whether the inputs D and delta_bias are given.
    softplus: the operator's attribute delta_softplus. Raises OptionError for another dtype and for sizes that are not
    positive or not addressable with 32 bits.
    """
    check_sizes(L * max(D, N), K * N * D, B=B, K=K, L=L, D=D, N=N, sm_count=sm_count)
    flags = {"EVM_SKIP": int(skip), "EVM_BIAS": int(bias), "EVM_SOFTPLUS": int(softplus)}
    return _plan("evm_selective_scan", _Work(dtype, B * K, L, D, N, 0, sm_count), flags)


def plan_efficient_scan_2d(
    B: int, H: int, W: int, D: int, K: int, N: int, R: int, step: int, dtype: str, sm_count: int
) -> LaunchPlan:
    """The launch of `EfficientScan2D` for x of shape (B, H, W, D), N states and a dt of rank R; K = step * step.

    dtype: "float32" or "float16", of x, x_proj, dt_proj and y. Raises OptionError as `plan_selective_scan` does, and
    for a K that is not step * step.
    """
    if not 1 <= step <= MOST_STEPS:
        raise OptionError(f"step is {step}.", f"Give a step of 1 to {MOST_STEPS}.")
    check_sizes(H * W * max(D, N), K * D * (R + 2 * N), B=B, H=H, W=W, D=D, N=N, R=R, sm_count=sm_count)
    if step * step != K:
        raise OptionError(f"K is {K} for a step of {step}.", "Give one group for each place of a step by step square.")
    work = _Work(dtype, B * K, math.ceil(H / step) * math.ceil(W / step), D, N, R, sm_count)
    return _plan("evm_efficient_scan_2d", work, {"EVM_RANK": R, "EVM_STEP": step})


def plan_grouped_scan(B: int, T: int, K: int, L: int, D: int, N: int, R: int, dtype: str, sm_count: int) -> LaunchPlan:
    """The launch of `GroupedScan` for x of shape (B, T, D), an order of (K, L), N states and a dt of rank R.

    dtype: "float32" or "float16", of x, x_proj and dt_proj. Raises OptionError as `plan_selective_scan` does.
    """
    sizes = {"B": B, "T": T, "K": K, "L": L, "D": D, "N": N, "R": R}
    check_sizes(max(T, L) * max(D, N), K * D * (R + 2 * N), **sizes, sm_count=sm_count)
    return _plan("evm_grouped_scan", _Work(dtype, B * K, L, D, N, R, sm_count), {"EVM_RANK": R})


def sm_count_of(architecture: str) -> int:
    """Multiprocessors to plan for where the GPU is not there to be asked; those of the smallest for an unknown one."""
    return SM_COUNTS.get(architecture, min(SM_COUNTS.values()))


@dataclasses.dataclass(frozen=True)
class _Work:
    """What there is to scan: `sequences` of L tokens and D channels; R is 0 where delta, B and C are given."""

    dtype: str
    sequences: int
    L: int
    D: int
    N: int
    R: int
    sm_count: int


@dataclasses.dataclass(frozen=True)
class _Tile:
    """How the threads of a block share out its work; the names are those of the kernel source."""

    channels: int  # of the block
    groups: int  # threads that share a channel's states
    states: int  # of each thread
    chunks: int  # of tokens that are scanned at once
    tokens: int  # of each chunk
    projected: int  # tokens whose dt, B and C are computed, or copied, at once
    slice: int  # channels of x that the projection reads at once
    rank: int

    @property
    def threads(self) -> int:
        return self.channels * self.groups * self.chunks

    @property
    def segment(self) -> int:
        return self.chunks * self.tokens

    @property
    def row(self) -> int:
        """Floats of a token's dt, B and C, each padded."""
        return _up(_up(self.rank, 4) + 2 * self.groups * self.states, 4)

    @property
    def shared_bytes(self) -> int:
        """As the kernel lays it out; the kernel asserts that the two agree."""
        pairs = 2 * self.segment * self.channels
        if self.rank:
            pairs = max(pairs, self.projected * (self.slice + 4) + self.slice * self.row)
        rows = self.projected * self.row + (self.projected if self.rank else 0)
        lanes = self.channels * self.groups
        ends = (self.chunks + 1) * self.states * lanes + (self.chunks - 1) * lanes if self.chunks > 1 else 0
        return 4 * (pairs + rows + ends)


def _plan(entry: str, work: _Work, flags: dict[str, int]) -> LaunchPlan:
    check_choice("dtype", work.dtype, tuple(ELEMENT_BYTES))
    tile = min(_tiles(work), key=lambda tile: (_cycles(work, tile), tile.threads))
    values = {
        entry.upper(): 1,
        "EVM_HALF": int(work.dtype == "float16"),
        "EVM_N": work.N,
        "EVM_CHANNELS": tile.channels,
        "EVM_GROUPS": tile.groups,
        "EVM_STATES": tile.states,
        "EVM_CHUNKS": tile.chunks,
        "EVM_TOKENS": tile.tokens,
        "EVM_PROJECTED": tile.projected,
        "EVM_SLICE": tile.slice,
        "EVM_VECTOR": 4 if work.D % 4 == 0 and tile.channels % 4 == 0 else 1,
        "EVM_SHARED": tile.shared_bytes,
    }
    defines = tuple(f"{name}={value}" for name, value in (values | flags).items())
    blocks = work.sequences * math.ceil(work.D / tile.channels)
    return LaunchPlan(entry, defines, count_blocks(blocks), (tile.threads, 1, 1), tile.shared_bytes)


def _tiles(work: _Work) -> Iterator[_Tile]:
    """Every way to cut that the kernel can be compiled for, within its limits."""
    found = False
    for groups, states in _state_splits(work.N):
        width = 32 // groups  # channels of a warp
        widest = _up(work.D, width)
        channels = [width * m for m in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32) if width * m <= widest]
        for C, P, T in itertools.product(channels, (1, 2, 4, 7, 8, 14, 16), (4, 8, 16, 32)):
            T = max(T, groups)
            if C * groups * P > MAX_THREADS:
                continue
            for projected, size in _projections(work, P * T):
                tile = _Tile(C, groups, states, P, T, projected, size, work.R)
                if tile.shared_bytes <= SHARED_LIMIT:
                    found = True
                    yield tile
    if not found:
        raise OptionError(
            f"{work.N} states and a rank of {work.R} do not fit the {SHARED_LIMIT} bytes of a block.",
            "Use a network with fewer states.",
        )


def _state_splits(N: int) -> Iterator[tuple[int, int]]:
    """Threads for a channel's states, and the states of each, a multiple of four from N = 3 on."""
    if N <= 2:
        yield 1, N
        return
    for groups in (1, 2, 4, 8, 16, 32):
        states = _up(math.ceil(N / groups), 4)
        if states <= 8 or groups == 32:
            yield groups, states
        if states == 4:
            return


def _projections(work: _Work, segment: int) -> Iterator[tuple[int, int]]:
    if not work.R:
        yield segment, 0
        return
    for size in (16, 32, 64):
        for projected in {segment, _up(32, segment), _up(64, segment)}:
            if projected % 4 == 0:
                yield projected, size


def _cycles(work: _Work, tile: _Tile) -> float:
    """Estimated clock cycles of the launch. What matters is which of two tiles is faster, not the number itself.

    A multiprocessor issues 4 instructions of a warp a cycle, half of one where it is an exponential. It is as fast as
    that only with enough warps; one block by itself takes the latency of its dependent steps.
    """
    blocks = work.sequences * math.ceil(work.D / tile.channels)
    segments = math.ceil(work.L / tile.segment)
    warps, passes = tile.threads / 32, 1 if tile.chunks == 1 else 2
    fold = (tile.chunks - 1) / 2  # states of earlier chunks that a thread combines, on average
    token = tile.states * 5.5 + 10 + 2 * math.log2(tile.groups)
    scan = tile.tokens * (token + (passes - 1) * (tile.states * 4.5 + 4)) + fold * tile.states * 4
    fill = tile.segment * tile.channels * (24 + 1.5 * work.R) / 32 + tile.segment * tile.row / 32 * 6
    project = tile.segment * tile.row * work.D / 32 * 1.7 if work.R else 0.0
    issue = warps * (scan + 60) + fill + project
    exponentials = warps * tile.states * (tile.tokens * passes + fold) + 2 * tile.segment * tile.channels / 32
    busy = segments * max(issue / 4, exponentials * 2)

    lanes = min(tile.projected * tile.row / 16, tile.threads) if work.R else 1  # threads that the projection occupies
    wait = 1200 + tile.tokens * passes * max(token, tile.states * 8) + (tile.chunks - 1) * 30 * (passes - 1)
    if work.R:
        wait += tile.segment * tile.row * work.D / lanes * 1.7
        wait += math.ceil(work.D / tile.slice) * 600 * tile.segment / tile.projected
    each = math.ceil(blocks / work.sm_count)  # blocks of the multiprocessor that has most
    resident = max(1, min(16, 576 // tile.threads, 96 * 1024 // tile.shared_bytes))
    sector = max(1.0, 32 / (tile.channels * ELEMENT_BYTES[work.dtype]))
    memory = each * work.L * tile.channels * 3 * ELEMENT_BYTES[work.dtype] * sector / 20
    return max(math.hypot(each * busy, math.ceil(each / resident) * segments * wait), memory)


def check_sizes(numbers: int, weights: int, **sizes: int) -> None:
    """Raises OptionError for a size that is not positive, and for sequences and weights that 32 bits do not address."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise OptionError(f"{name} is {size!r}.", "Give sizes that are whole numbers of at least 1.")
    if numbers >= 2**31:
        raise OptionError(f"A sequence of {numbers} numbers is too long for 32-bit offsets.", "Use smaller images.")
    if weights >= 2**31:
        raise OptionError(f"{weights} weights are too many for 32-bit offsets.", "Use a smaller network.")


def count_blocks(blocks: int) -> tuple[int, int, int]:
    """The grid of so many blocks. Raises OptionError for more than a launch has."""
    if blocks >= 2**31:
        raise OptionError(f"It needs {blocks} blocks, a launch has fewer than 2^31.", "Use a smaller batch.")
    return blocks, 1, 1


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
