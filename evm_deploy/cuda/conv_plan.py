"""How the causal convolution is cut into threads."""

from __future__ import annotations

import math

from evm_deploy.cuda.compile import SOURCE
from evm_deploy.cuda.plan import ELEMENT_BYTES, LaunchPlan, check_sizes, count_blocks
from evm_deploy.errors import check_choice

THREADS = 128  # of a block
BUSY = 1024  # threads of a multiprocessor that hide what a load takes
SHORTEST, LONGEST = 4, 64  # tokens of a thread: each thread reads taps - 1 more


def plan_causal_conv(B: int, T: int, K: int, L: int, D: int, taps: int, dtype: str, sm_count: int) -> LaunchPlan:
    """The launch of `CausalConv` for x of shape (B, T, D), an order of (K, L) and a weight of (K, taps, D).

    dtype: "float32" or "float16", of all but the order. Raises OptionError for another dtype and for sizes that are not
    positive or not addressable with 32 bits.
    """
    check_choice("dtype", dtype, tuple(ELEMENT_BYTES))
    check_sizes(max(T, L) * D, K * taps * D, B=B, T=T, K=K, L=L, D=D, taps=taps, sm_count=sm_count)
    vector = 1 if D % 4 or taps > 8 else 4  # a thread holds all taps, of weights and tokens
    columns = D // vector
    length = min(max(B * K * L * columns // (BUSY * sm_count), SHORTEST), LONGEST)
    runs = math.ceil(L / length)
    values = {
        "EVM_CAUSAL_CONV": 1,
        "EVM_HALF": int(dtype == "float16"),
        "EVM_TAPS": taps,
        "EVM_VECTOR": vector,
        "EVM_RUNS": runs,
        "EVM_THREADS": THREADS,
    }
    defines = tuple(f"{name}={value}" for name, value in values.items())
    blocks = B * K * math.ceil(columns * runs / THREADS)
    return LaunchPlan("evm_causal_conv", defines, count_blocks(blocks), (THREADS, 1, 1), 0, SOURCE.with_name("conv.cu"))
