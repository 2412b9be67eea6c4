"""One selective scan in every form: error, time to run, time to load, nodes. The output is checked before it is timed.

python benchmarks/scan.py [--stage 1] [--threads 1] [--rounds 30] [--skip unrolled]
"""

import argparse
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from forms import FORMS, inputs, operator
from rows import save, table

from evm_deploy.profiling.agent.timing import compute_quartiles, time_interleaved
from evm_deploy.scan import chunked, native, reference
from evm_deploy.scan.inputs import ScanInputs
from evm_deploy.tolerances import KERNEL_RELATIVE

STAGES = {1: (4, 784, 96, 16), 2: (4, 196, 192, 16)}  # K, L, D, N of T at 224


def main() -> None:
    """Prints a Markdown table, writes benchmarks/results/scan.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", type=int, choices=STAGES, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--skip", nargs="*", default=[], choices=FORMS)
    arguments = parser.parse_args()
    shape = STAGES[arguments.stage]
    torch.set_num_threads(arguments.threads)
    feed = inputs(shape)
    expected = reference.run(ScanInputs(*(torch.from_numpy(a).double() for a in feed.values()), True)).numpy()

    contenders, facts = {}, {}
    for name, build in FORMS.items():
        if name not in arguments.skip:
            contenders[name], facts[name] = _onnx(build(shape), feed, arguments.threads)
    tensors = [torch.from_numpy(a) for a in feed.values()]
    contenders["PyTorch, chunked"] = lambda: chunked.run(ScanInputs(*tensors, True)).numpy()
    if native.available():
        run, found = _onnx(operator(shape), feed, arguments.threads, library=True)
        for isa in _isas():
            contenders[f"native, {isa}"], facts[f"native, {isa}"] = (
                lambda isa=isa: (native.set_isa(isa), run())[1],
                found,
            )

    errors = {
        name: float(np.abs(call() - expected).max() / np.abs(expected).max()) for name, call in contenders.items()
    }
    for name, error in errors.items():
        if error > KERNEL_RELATIVE:
            raise SystemExit(f"{name} is wrong by {error:.1e}: not timed")
    times = time_interleaved(contenders, arguments.rounds, settle=4)
    base = compute_quartiles(times["chunked (exported)"])[1]
    rows = []
    for name, samples in times.items():
        low, middle, high = compute_quartiles(samples)
        rows.append(
            {"form": name, "ms": middle, "ms p25": low, "ms p75": high, "of chunked": middle / base}
            | {"load s": None, "nodes": None}
            | facts.get(name, {})
            | {"relative error": errors[name]}
        )
    print(table(rows))
    results = Path(__file__).parent / "results" / f"scan_stage{arguments.stage}.json"
    save(results, rows, shape=dict(zip("KLDN", shape, strict=True)), threads=arguments.threads)


def _onnx(
    model: onnx.ModelProto, feed: dict[str, np.ndarray], threads: int, library: bool = False
) -> tuple[Callable[[], np.ndarray], dict[str, float]]:
    """What runs the model on buffers that are there already, as they are inside a larger graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if library:
        options.register_custom_ops_library(str(native.native_library()))
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    load = time.perf_counter() - start
    nodes = 1 if library else sum(len(body.node) for body in model.functions) or len(model.graph.node)
    binding, y = session.io_binding(), torch.empty(feed["u"].shape).numpy()
    for name, array in feed.items():
        binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    binding.bind_output("y", "cpu", 0, y.dtype, y.shape, y.ctypes.data)

    def run() -> np.ndarray:
        session.run_with_iobinding(binding)
        return y

    return run, {"load s": load, "nodes": nodes}


def _isas() -> list[str]:
    """The instruction sets that this processor and this build have, best first."""
    found = []
    for isa in ("avx512vnni", "avx512", "avx2", "neon", "baseline"):
        with contextlib.suppress(ValueError):
            native.set_isa(isa)
            found.append(isa)
    return found


if __name__ == "__main__":
    main()
