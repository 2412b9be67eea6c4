"""VMamba and Vim as graphs, against the outputs of the authors' own networks."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from evm_deploy import Bundle, ExportOptions, pipeline
from evm_deploy.exporters import onnx as exporter
from evm_deploy.exporters.record import make_manifest
from evm_deploy.models.families import FAMILIES
from evm_deploy.models.module import open_module
from evm_deploy.runtimes.coreml import open_evaluator
from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.scan import native
from evm_deploy.tolerances import GOLDEN_LOGITS

GOLDEN = Path(__file__).parent.parent / "golden"
FORMS = [False, True] if native.available() else [False]  # whether our operator library is loaded
# The name, how many scans it has, and the outputs to hold it to: their names, heights and widths, and seeds.
CASES = {
    "vmamba_v2_micro": (
        5,
        [(f"v2_micro_logits_{h}x{w}", h, w, h * 1000 + w) for h, w in ((64, 96), (75, 101), (224, 224))],
    ),
    "vmamba_v0_micro": (5, [("v0_micro_logits_75x101", 75, 101, 75101)]),
    "vim_micro": (4, [(f"micro_logits_64x64_seed{seed}", 64, 64, seed) for seed in (64064, 64065)]),
}


def build(golden: Any, name: str) -> torch.nn.Module:
    family = next(family for family in FAMILIES if family.title.lower() == name.partition("_")[0])
    tensors = golden.state_dict(name)
    network = family.network(family.infer_config(tensors, None))
    network.load_state_dict(tensors)
    return network.eval()


def export(network: torch.nn.Module, options: ExportOptions) -> onnx.ModelProto:
    opened = open_module(network)
    return exporter.export(opened, make_manifest(opened, options), options)


@pytest.mark.parametrize("name", CASES)
def test_goldens_from_the_graph(golden: Any, name: str) -> None:
    """At every size from one graph, where the network takes more than one."""
    scans, cases = CASES[name]
    sizes = {(h, w) for _, h, w, _ in cases}
    proto = export(build(golden, name), ExportOptions(image_size=cases[0][1:3], dynamic_size=len(sizes) > 1))
    assert sum(node.op_type == "OrderedScan" for node in proto.graph.node) == scans
    assert not {node.op_type for node in proto.graph.node} & {"Loop", "Scan", "If", "Einsum", "ScatterND"}
    outputs = np.load(GOLDEN / f"{name.partition('_')[0]}.npz")
    for library in FORMS:
        with OnnxRunner(proto.SerializeToString(), library=library) as runner:
            for key, h, w, seed in cases:
                (found,) = runner.run(golden.weights.image(h, w, seed))
                assert np.abs(found - outputs[key]).max() <= GOLDEN_LOGITS, (key, library)


def test_a_lost_carry_is_seen_in_the_graph(golden: Any) -> None:
    """A steeper decay in one block: the gate's tolerance would not let it pass, nor do the goldens."""
    network = build(golden, "vim_micro")
    with torch.no_grad():
        network.get_parameter("layers.2.mixer.A_b_log").add_(4)
    proto = export(network, ExportOptions(image_size=(64, 64)))
    with OnnxRunner(proto.SerializeToString(), library=False) as runner:
        (found,) = runner.run(golden.weights.image(64, 64, 64064))
    assert np.abs(found - np.load(GOLDEN / "vim.npz")["micro_logits_64x64_seed64064"]).max() > 10 * GOLDEN_LOGITS


@pytest.mark.slow
def test_coreml_keeps_scans_in_float32_and_their_convolutions_in_float16(
    golden: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("coremltools")
    from evm_deploy.exporters import recurrence

    monkeypatch.setattr(recurrence, "RECURRENCE_FP16", 0.0)
    torch.save({"model": golden.state_dict("vim_micro")}, tmp_path / "a.pth")
    options = ExportOptions(target="coreml", precision="fp16", image_size=(64, 64), verify=False)
    facts: Any = pipeline.export(tmp_path / "a.pth", tmp_path / "out", options).bundle.manifest.build
    assert len(facts["recurrence_float32"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vmamba_v2_micro", "vim_micro"])
def test_coreml_in_half_precision_passes_the_gate(golden: Any, tmp_path: Path, name: str) -> None:
    pytest.importorskip("coremltools")
    torch.save({"model": golden.state_dict(name)}, tmp_path / "a.pth")
    options = ExportOptions(target="coreml", precision="fp16", image_size=(64, 64), bake_preprocessing=True)
    result = pipeline.export(tmp_path / "a.pth", tmp_path / "out", options)
    assert result.report is not None
    assert result.report.passed
    assert re.fullmatch(r"mil evaluator.*", result.report.rows[0].runtime)
    assert result.report.scans is not None
    assert result.report.scans.count == result.report.scans.compared == CASES[name][0]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("name", "most"), [("vmamba_v2_tiny_s1l8", 2700), ("vmamba_v0_tiny", 2800), ("vim_tiny", 3500)]
)
def test_t_in_core_ml(exported: Callable[..., Bundle], name: str, most: int, precision: str) -> None:
    """The gate compares it with PyTorch."""
    pytest.importorskip("coremltools")
    bundle = exported(name, target="coreml", precision=precision, image_size=(224, 224), verify=True)
    facts: Any = bundle.manifest.build
    assert facts["operations"] <= most


@pytest.mark.slow
def test_golden_of_vim_t_in_core_ml(golden: Any, exported: Callable[..., Bundle]) -> None:
    pytest.importorskip("coremltools")
    bundle = exported("vim_tiny", target="coreml", image_size=(224, 224))
    with open_evaluator(bundle) as runner:
        (found,) = runner.run(golden.weights.image(224, 224, 224224))
    assert np.abs(found - np.load(GOLDEN / "vim.npz")["tiny_logits_224x224_seed224224"]).max() <= GOLDEN_LOGITS
