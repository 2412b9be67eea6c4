"""The scans of the published networks at 224 on a GPU: error, time, and what bounds the time.

python benchmarks/cuda_scan.py [--variants tiny small base] [--batches 1 8 64] [--rounds 50]

Each time is that of one launch, out of a captured graph of several, so that Python's part is not in it. Bounds: the
bytes that inputs and output have, at the speed of a copy measured in the same run, and the exponentials that one pass
needs, at 16 a cycle and multiprocessor. "sequential" is the obvious kernel: a thread for each channel.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rows import save, table
from torch import Tensor

from evm_deploy.cuda import driver
from evm_deploy.cuda.compile import compile_kernel
from evm_deploy.cuda.plan import LaunchPlan
from evm_deploy.models import VARIANTS
from evm_deploy.profiling.agent.timing import compute_quartiles
from evm_deploy.scan import cuda, reference
from evm_deploy.scan.inputs import Scan2DInputs, ScanInputs
from evm_deploy.scan.kernel_inputs import CausalConvInputs, OrderedScanInputs
from evm_deploy.scan.orders import make_cross_order, make_two_way_order, number_tokens
from evm_deploy.tolerances import FP16_IO_RELATIVE, KERNEL_RELATIVE

N, STEP, CALLS = 16, 2, 10
TOLERANCES = {torch.float32: KERNEL_RELATIVE, torch.float16: FP16_IO_RELATIVE}
SEQUENTIAL = Path(__file__).parent / "sequential.cu"
# side, channels, states and rank of the first stage
VMAMBA = [("vmamba tiny s1l8", 56, 96, 1, 6), ("vmamba tiny v0", 56, 192, N, 6)]
EXPONENTIALS = 16  # a cycle, of a multiprocessor


def main() -> None:
    """Prints a Markdown table, writes benchmarks/results/cuda_scan.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=50)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("This benchmark needs an NVIDIA GPU and a PyTorch for CUDA: there is none here.")
    copied = _copy_bytes_per_us(arguments.rounds)
    rows = []
    for name in arguments.variants:
        for stage in (0, 1):
            for batch in arguments.batches:
                for dtype in TOLERANCES:
                    for operator in (_selective_scan, _efficient_scan_2d):
                        rows.append(operator(name, stage, batch, dtype, copied, arguments.rounds))
    for batch in arguments.batches:
        for dtype in TOLERANCES:
            for name, side, D, states, R in VMAMBA:
                order = make_cross_order(side, side, torch.device("cuda"))
                rows.append(
                    _ordered_scan(name, batch, D, states, R, side * side, order, dtype, copied, arguments.rounds)
                )
            tokens, back = number_tokens(2, 197, torch.device("cuda")), make_two_way_order(197, torch.device("cuda"))[1]
            rows.append(
                _ordered_scan("vim tiny", batch, 384, N, 12, 394, (tokens, back), dtype, copied, arguments.rounds)
            )
            rows.append(_causal_conv(batch, dtype, copied, arguments.rounds))
    print(table(rows))
    gpu = torch.cuda.get_device_name()
    results = Path(__file__).parent / "results" / "cuda_scan.json"
    save(results, rows, gpu=gpu, copy_gb_per_s=copied / 1e3, cuda=torch.version.cuda)


def _selective_scan(
    name: str, stage: int, batch: int, dtype: torch.dtype, copied: float, rounds: int
) -> dict[str, Any]:
    D, L, K = 2 * VARIANTS[name].dims[stage], (28 >> stage) ** 2, STEP**2
    u, delta = _normal(batch, K, L, D).to(dtype), (_normal(batch, K, L, D) - 4).to(dtype)
    B, C = _normal(batch, K, L, N).to(dtype), _normal(batch, K, L, N).to(dtype)
    inputs = [u, delta, _decays(K, D), B, C, _normal(K, D), _normal(K, D)]
    expected = reference.run(ScanInputs(*[t.double() for t in inputs], True))
    return {"operator": "SelectiveScan", "variant": name, "stage": stage + 1, "batch": batch, **_dtype(dtype)} | _row(
        lambda: cuda.run(ScanInputs(*inputs, True)), expected, inputs, u.numel(), dtype, copied, rounds,
        _sequential(inputs),
    )  # fmt: skip


def _efficient_scan_2d(
    name: str, stage: int, batch: int, dtype: torch.dtype, copied: float, rounds: int
) -> dict[str, Any]:
    D, side, K, R = 2 * VARIANTS[name].dims[stage], 56 >> stage, STEP**2, VARIANTS[name].rank(stage)
    x, x_proj = _normal(batch, side, side, D).to(dtype), (_normal(K, D, R + 2 * N) / D**0.5).to(dtype)
    inputs = [x, x_proj, _normal(K, R, D).to(dtype), _normal(K, D) - 4, _decays(K, D), _normal(K, D)]
    expected = reference.run(Scan2DInputs(*[t.double() for t in inputs], STEP))
    return {"operator": "EfficientScan2D", "variant": name, "stage": stage + 1, "batch": batch, **_dtype(dtype)} | _row(
        lambda: cuda.run(Scan2DInputs(*inputs, STEP)),
        expected,
        inputs,
        batch * side * side * D,
        dtype,
        copied,
        rounds,
    )


def _ordered_scan(
    name: str, batch: int, D: int, states: int, R: int, T: int, order: tuple[Tensor, Tensor], dtype: torch.dtype,
    copied: float, rounds: int,
) -> dict[str, Any]:  # fmt: skip
    K, L = order[0].shape
    x, x_proj = _normal(batch, T, D).to(dtype), (_normal(K, D, R + 2 * states) / D**0.5).to(dtype)
    dt_proj, A = _normal(K, R, D).to(dtype), _decays(K, D, states)
    inputs = [x, x_proj, dt_proj, _normal(K, D) - 4, A, _normal(K, D), *order]
    wide = [t if t.dtype == torch.int64 else t.double() for t in inputs]
    expected = reference.run(OrderedScanInputs(*wide))
    return {"operator": "OrderedScan", "variant": name, "stage": 1, "batch": batch, **_dtype(dtype)} | _row(
        lambda: cuda.run(OrderedScanInputs(*inputs)), expected, inputs, batch * K * L * D, dtype, copied, rounds,
        states=states,
    )  # fmt: skip


def _causal_conv(batch: int, dtype: torch.dtype, copied: float, rounds: int) -> dict[str, Any]:
    x, weight, bias = (_normal(*shape).to(dtype) for shape in ((batch, 197, 384), (2, 4, 384), (2, 384)))
    inputs = [x, weight, bias, make_two_way_order(197, x.device)[0]]
    expected = reference.run(CausalConvInputs(*[t.double() for t in inputs[:3]], inputs[3]))
    return {"operator": "CausalConv", "variant": "vim tiny", "stage": 1, "batch": batch, **_dtype(dtype)} | _row(
        lambda: cuda.run(CausalConvInputs(*inputs)), expected, inputs, 2 * x.numel(), dtype, copied, rounds, states=1
    )


def _row(
    run: Callable[[], Tensor],
    expected: Tensor,
    inputs: list[Tensor],
    elements: int,
    dtype: torch.dtype,
    copied: float,
    rounds: int,
    sequential: Callable[[], Tensor] | None = None,
    states: int = N,
) -> dict[str, Any]:
    error = _checked(run(), expected, dtype, "the kernel")
    low, middle, high = compute_quartiles(_microseconds(run, rounds))
    moved = (sum(t.nbytes for t in inputs) + inputs[0].nbytes) / copied
    plain = None
    if sequential:
        _checked(sequential(), expected, dtype, "the sequential kernel")
        plain = compute_quartiles(_microseconds(sequential, rounds))[1]
    bounds = {"bytes us": moved, "exponentials us": elements * states / _exponentials_per_us()}
    return {
        "us": middle, "us p25": low, "us p75": high, **bounds, "of the larger bound": middle / max(bounds.values()),
        "sequential us": plain, "relative error": error,
    }  # fmt: skip


def _checked(y: Tensor, expected: Tensor, dtype: torch.dtype, what: str) -> float:
    error = float((y.double() - expected).abs().max() / expected.abs().max())
    if not error < TOLERANCES[dtype]:
        raise SystemExit(f"{what} is wrong by {error:.1e}: not timed")
    return error


def _microseconds(run: Callable[[], Tensor], rounds: int) -> list[float]:
    """Of one call, `rounds` times: the mean of CALLS that one graph holds."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            run()
    times = []
    for _ in range(rounds + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1e3 * start.elapsed_time(end) / CALLS)
    return times[3:]


def _sequential(inputs: list[Tensor]) -> Callable[[], Tensor]:
    """`sequential.cu` on these inputs, with softplus."""
    u, threads = inputs[0], 128
    batch, K, L, D = u.shape
    image = compile_kernel(
        (f"EVM_HALF={int(u.dtype == torch.float16)}", f"EVM_N={N}"), driver.find_gpu().architecture, source=SEQUENTIAL
    )
    blocks = batch * K * -(-D // threads)
    plan = LaunchPlan("sequential_scan", (), (blocks, 1, 1), (threads, 1, 1), 0)
    function, y = driver.load_kernel(image, plan.entry), torch.empty_like(u)

    def run() -> Tensor:
        stream = torch.cuda.current_stream().cuda_stream
        driver.launch(function, plan, [t.data_ptr() for t in inputs], (K, L, D), y.data_ptr(), stream)
        return y

    return run


def _copy_bytes_per_us(rounds: int) -> float:
    """Bytes read and written a microsecond by a copy that no cache holds."""
    source = torch.empty(2**28, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / compute_quartiles(_microseconds(lambda: target.copy_(source), rounds))[1]


def _exponentials_per_us() -> float:
    properties = torch.cuda.get_device_properties(0)
    return EXPONENTIALS * float(properties.multi_processor_count) * properties.clock_rate / 1e3


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, device="cuda")


def _decays(K: int, D: int, states: int = N) -> Tensor:
    return -torch.arange(1.0, states + 1, device="cuda")[:, None] * torch.exp(0.1 * _normal(K, states, D))


def _dtype(dtype: torch.dtype) -> dict[str, str]:
    return {"dtype": str(dtype).removeprefix("torch.")}


if __name__ == "__main__":
    main()
