"""Measures the roofline of this machine, its peak arithmetic and memory rates, in about a second.

A peak is the best of many short tries, the one that nothing disturbed. It is measured anew each time, because clocks
and other programs change.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from evm_deploy.profiling.costs import Cost
from evm_deploy.profiling.report import Roofline
from evm_deploy.runtimes.onnxruntime import OnnxRunner

SIDE = 768  # side of the square matrices: large enough for the peak, small enough for 8 ms at 100 GFLOPS
SECONDS = 0.3  # for each figure
CACHED = 1 << 19  # bytes per thread that fit into a cache of every common processor
STREAMED = 1 << 28  # bytes of all threads together that fit into no cache
LLC = Path("/sys/devices/system/cpu/cpu0/cache")
USUAL_LLC = 4 << 20  # assumed size of the last cache if the system does not tell it


def measure_roofline(threads: int = 0) -> Roofline:
    """Measures the peaks with `threads` threads; 0: one for each core that this process may use."""
    threads = threads or count_cores()
    return Roofline(
        gflops=_measure_products(np.float32, threads),
        gbytes=_measure_stream(max(STREAMED // threads, CACHED), threads),
        int8_gops=_measure_products(np.uint8, threads),
        cache_gbytes=_measure_stream(CACHED, threads),
        cache_bytes=find_last_cache(LLC),
    )


def compute_least_ms(cost: Cost, roofline: Roofline) -> float | None:
    """The least time in milliseconds that `roofline` allows for this cost; None: its operations are not known."""
    if cost.flops is None:
        return None
    integers = cost.integer_ops if roofline.int8_gops else 0
    compute = (cost.flops - integers) / roofline.gflops + (integers / roofline.int8_gops if roofline.int8_gops else 0.0)
    cached = roofline.cache_gbytes and cost.bytes <= (roofline.cache_bytes or 0)
    bandwidth = roofline.cache_gbytes if cached and roofline.cache_gbytes else roofline.gbytes
    return max(compute, cost.bytes / bandwidth) / 1e6


def count_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_last_cache(folder: Path) -> int:
    """The size in bytes of the largest cache that Linux lists in `folder`."""
    sizes = [USUAL_LLC]
    for file in folder.glob("index*/size"):
        text = file.read_text().strip()
        number, unit = text.rstrip("KMG"), text[-1:]
        if number.isdigit():
            sizes.append(int(number) << {"K": 10, "M": 20, "G": 30}.get(unit, 0))
    return max(sizes)


def _measure_products(dtype: type[np.generic], threads: int) -> float:
    """Multiplies two square matrices. Returns 1e9 multiplications and additions per second."""
    weights = np.random.default_rng(0).integers(-8, 8, (SIDE, SIDE))
    floats = dtype is np.float32
    operator, weight = ("MatMul", np.float32) if floats else ("MatMulInteger", np.int8)
    given, result = (TensorProto.FLOAT,) * 2 if floats else (TensorProto.UINT8, TensorProto.INT32)
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", given, [SIDE, SIDE])],
        [helper.make_tensor_value_info("y", result, [SIDE, SIDE])],
        [numpy_helper.from_array(weights.astype(weight), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    image: npt.NDArray[np.generic] = np.abs(weights).astype(dtype)
    with OnnxRunner(onnx.ModelProto.SerializeToString(model), library=False, threads=threads) as runner:
        return 2 * SIDE**3 / 1e9 / _time_best(lambda: runner.run(image))


def _measure_stream(size: int, threads: int) -> float:
    """Changes an array of `size` bytes per thread in place. Returns 1e9 bytes read and written per second."""
    arrays = [np.ones(size // 4, np.float32) for _ in range(threads)]
    repeats = max(1, (1 << 23) // size)  # so that a try takes much longer than its start

    def change(array: npt.NDArray[np.float32]) -> None:
        for _ in range(repeats):
            np.negative(array, out=array)

    with ThreadPoolExecutor(threads) as pool:
        best = _time_best(lambda: list(pool.map(change, arrays)))
    return 2 * sum(array.nbytes for array in arrays) * repeats / 1e9 / best


def _time_best(work: Callable[[], object]) -> float:
    """The seconds of the fastest try, of as many as fit into SECONDS, at least three."""
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
