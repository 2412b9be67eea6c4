r"""Whole networks at 224, batch 1, in one process and in turns: ours portable and native, beside timm's peers.

python benchmarks/latency.py [--networks tiny small base] [--peers regnety_008 ...] [--threads 1 2] [--rounds 30]
                             [--unrolled]
python benchmarks/latency.py --networks vmamba-t vmamba-t-v0 vim-t \
                             --peers swin_tiny_patch4_window7_224 deit_tiny_patch16_224
Weights are those that training starts from: a scan is the faster the smaller its steps are. Every artifact is compared
with PyTorch before it is timed.
"""

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from peers import import_timm
from rows import save, table
from unroll import unroll

from evm_deploy import ExportOptions, ModelConfig
from evm_deploy.exporters import onnx as exporter
from evm_deploy.exporters.record import make_manifest
from evm_deploy.models import VARIANTS, EfficientVMamba
from evm_deploy.models.module import open_module
from evm_deploy.models.vim import config as vim
from evm_deploy.models.vim.network import Vim
from evm_deploy.models.vmamba import config as vmamba
from evm_deploy.models.vmamba.network import VMamba
from evm_deploy.profiling.agent.timing import compute_quartiles, time_interleaved
from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.scan import native
from evm_deploy.tolerances import PARITY

OURS: dict[str, Callable[[], torch.nn.Module]] = {
    **{name: lambda name=name: EfficientVMamba(ModelConfig.variant(name)) for name in VARIANTS},
    "vmamba-t": lambda: VMamba(vmamba.VARIANTS["tiny s1l8"]),
    "vmamba-t-v0": lambda: VMamba(vmamba.VARIANTS["tiny v0"]),
    "vim-t": lambda: Vim(vim.VARIANTS["tiny"]),
}
PEERS = ("regnety_008", "pvt_v2_b0", "mobilevit_xs", "deit_tiny_patch16_224")
SIZE = (224, 224)
Contender = tuple[bytes, bool]  # a model, and whether our operator library is loaded


def main() -> None:
    """Prints a Markdown table for each number of threads, writes benchmarks/results/latency_<threads>.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", choices=OURS, default=list(VARIANTS))
    parser.add_argument("--peers", nargs="*", default=list(PEERS), help="of timm; all is compared with each")
    parser.add_argument("--name", default="latency", help="of the file of results")
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--unrolled", action="store_true", help="also T with every token a node: minutes to load")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    image = np.random.default_rng(0).standard_normal((1, 3, *SIZE), dtype=np.float32)

    contenders: dict[str, Contender] = {}
    for name in arguments.networks:
        proto = ours(OURS[name]().eval(), image)
        contenders[f"{name}, portable"] = proto.SerializeToString(), False
        if native.available():
            contenders[f"{name}, native"] = proto.SerializeToString(), True
        if arguments.unrolled and name == "tiny":
            contenders["tiny, unrolled"] = unroll(proto).SerializeToString(), False
    contenders |= peers(arguments.peers, image)

    for threads in arguments.threads:
        rows = measure(contenders, image, threads, arguments.rounds)
        print(f"\n{threads} thread{'s' if threads > 1 else ''}\n\n{table(rows)}")
        save(Path(__file__).parent / "results" / f"{arguments.name}_{threads}.json", rows, threads=threads)


def ours(model: torch.nn.Module, image: np.ndarray) -> onnx.ModelProto:
    """The exported network, after both of its forms agreed with PyTorch."""
    network, options = open_module(model), ExportOptions(image_size=SIZE)
    proto = exporter.export(network, make_manifest(network, options), options)
    for library in [False, True] if native.available() else [False]:
        agrees(proto.SerializeToString(), model, image, library)
    return proto


def peers(names: Sequence[str], image: np.ndarray) -> dict[str, Contender]:
    """timm's models of about the same size, exported by the same exporter; none where timm is not installed."""
    timm = import_timm()
    if timm is None:
        return {}
    found: dict[str, Contender] = {}
    for name in names:
        model = timm.create_model(name).eval()
        program = torch.onnx.export(model, (torch.from_numpy(image),), dynamo=True, verbose=False)
        data = program.model_proto.SerializeToString()
        agrees(data, model, image, library=False)
        found[f"timm {name}"] = data, False
    return found


def agrees(data: bytes, model: torch.nn.Module, image: np.ndarray, library: bool) -> None:
    """Stops the benchmark when a model does not give what PyTorch gives."""
    with torch.inference_mode():
        expected = model(torch.from_numpy(image)).numpy()
    with OnnxRunner(data, library=library) as runner:
        error = np.abs(runner.run(image)[0] - expected).max() / max(1.0, np.abs(expected).max())
    if not error <= PARITY["fp32"]:
        raise SystemExit(f"{type(model).__name__} differs from PyTorch by {error:.1e}: not timed")


def measure(contenders: dict[str, Contender], image: np.ndarray, threads: int, rounds: int) -> list[dict[str, object]]:
    """One row a contender; ratios are of medians."""
    calls: dict[str, Callable[[], object]] = {}
    loads, nodes = {}, {}
    for name, (data, library) in contenders.items():
        start = time.perf_counter()
        runner = OnnxRunner(data, library=library, threads=threads)
        loads[name] = time.perf_counter() - start
        nodes[name] = len(onnx.load_from_string(data).graph.node)
        calls[name] = lambda runner=runner: runner.run(image)
    times = time_interleaved(calls, rounds)
    medians = {name: compute_quartiles(samples)[1] for name, samples in times.items()}
    rows = []
    for name, samples in times.items():
        low, middle, high = compute_quartiles(samples)
        portable = medians.get(name.split(",")[0] + ", portable")
        rows.append(
            {
                "model": name,
                "ms": middle,
                "ms p25": low,
                "ms p75": high,
                "of portable": middle / portable if portable else None,
                **{f"of {peer}": middle / medians[peer] for peer in medians if peer.startswith("timm ")},
                "load s": loads[name],
                "nodes": nodes[name],
            }
        )
    return rows


if __name__ == "__main__":
    main()
