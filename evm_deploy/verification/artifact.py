"""Verifies a bundle: runs its model file in every way that this machine can, and compares the outputs with PyTorch."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from evm_deploy.bundle import Bundle
from evm_deploy.exporters.deployed import build_reference, find_last_steps
from evm_deploy.exporters.onnx import list_given
from evm_deploy.models.network import Network
from evm_deploy.runtimes import ScanRunner, Ways, find_runtime
from evm_deploy.runtimes.onnxruntime import LIBRARY, STOCK
from evm_deploy.runtimes.pytorch import TorchRunner
from evm_deploy.targets import target_of
from evm_deploy.tasks import find_task
from evm_deploy.tolerances import PARITY, RECURRENCE, find_tolerance
from evm_deploy.verification.blocks import find_divergent_block
from evm_deploy.verification.given import GivenReport, compare_given, open_heads
from evm_deploy.verification.graph_scans import GraphScans
from evm_deploy.verification.parity import ParityReport, ParityRow, compare_runners
from evm_deploy.verification.scans import ScanReport, compare_scans

NO_HEAD = GivenReport()
NOTHING_FOUND = (
    "nothing is found in any of the images compared, so that what the head gives is compared alone: name some that "
    "show what it knows, with --images"
)


def verify_against_model(bundle: Bundle, network: Network, images: Mapping[str, npt.NDArray[Any]]) -> ParityReport:
    """Compares every runtime on every image with the loaded network, and traces a failure to a block."""
    manifest = bundle.manifest
    pytorch = TorchRunner(build_reference(network, manifest, parts="both"))
    count, found = len(manifest.outputs), {name: pytorch.run(image) for name, image in images.items()}
    expected = {name: outputs[:count] for name, outputs in found.items()}
    ways = find_runtime(bundle).find_ways(bundle)
    given = _compare_given(bundle, network, images, {name: outputs[count:] for name, outputs in found.items()})
    report = _compare(bundle, ways, images, expected, "PyTorch", given)
    if find_task(manifest.task).empty_outputs and not any(len(outputs[0]) for outputs in expected.values()):
        report = dataclasses.replace(report, notes=(*report.notes, NOTHING_FOUND))
    failed = next((row for row in report.rows if not row.passed), None)
    if failed is None:
        return dataclasses.replace(report, scans=_compare_scans(bundle, ways, pytorch.model, images, report))
    if not target_of(bundle.manifest.target).is_onnx_graph:
        return report
    block = find_divergent_block(
        bundle.model_path, pytorch.model, images[failed.input], report.tolerance, library=failed.runtime == LIBRARY
    )
    return dataclasses.replace(report, first_divergent_block=block)


def _compare_given(
    bundle: Bundle, network: Network, images: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, Any]
) -> GivenReport:
    """What the head of a detector or segmenter gives; nothing where the outputs are that, or there is no head."""
    manifest = bundle.manifest
    if find_last_steps(network, manifest) is None:
        return GivenReport()
    reference = build_reference(network, manifest)

    def finish(image: npt.NDArray[Any], given: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        with torch.inference_mode():
            results = reference.finish(torch.from_numpy(image), tuple(map(torch.from_numpy, given)))
        return [result.numpy() for result in results]

    heads = open_heads(bundle, list_given(network, manifest))
    return compare_given(heads, images, expected, find_tolerance(manifest), finish)


def _compare_scans(
    bundle: Bundle, ways: Ways, model: nn.Module, images: Mapping[str, npt.NDArray[Any]], report: ParityReport
) -> ScanReport | None:
    """On one image of each shape, in the ways of the report that give what scans give; not where integers feed them."""
    manifest = bundle.manifest
    if manifest.precision not in RECURRENCE:
        return None
    names = {image.shape: name for name, image in images.items()}
    some = {name: images[name] for name in names.values()}
    runners: Iterable[Callable[[], ScanRunner]] = ways.scans
    if target_of(manifest.target).is_onnx_graph:
        graph = bundle.read_model()
        runtimes = sorted({row.runtime for row in report.rows} & {STOCK, LIBRARY})
        runners = [functools.partial(GraphScans, graph, library=runtime == LIBRARY) for runtime in runtimes]
    return compare_scans(runners, model, some, RECURRENCE[manifest.precision])


def verify_against_sample(bundle: Bundle) -> ParityReport:
    """Compares every runtime with the bundle's golden pair, which PyTorch computed at export."""
    sample = bundle.sample()
    ways = find_runtime(bundle).find_ways(bundle)
    return _compare(bundle, ways, {"sample": sample.input}, {"sample": sample.outputs}, "the bundle's golden pair")


def verify_against_float(
    bundle: Bundle, images: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, Sequence[npt.NDArray[Any]]]
) -> ParityReport:
    """Compares every runtime on every image with the outputs of the float bundle from which this one was made."""
    return _compare(bundle, find_runtime(bundle).find_ways(bundle), images, expected, "the float bundle")


def _compare(
    bundle: Bundle,
    ways: Ways,
    images: Mapping[str, Any],
    expected: Mapping[str, Any],
    source: str,
    given: GivenReport = NO_HEAD,
) -> ParityReport:
    """With what was given, where rounding may decide: the results are compared with PyTorch's of the same."""
    manifest = bundle.manifest
    task, tolerance = find_task(manifest.task), find_tolerance(manifest)
    rounded = bool(given.rows) and tolerance > PARITY["fp32"]
    rows: list[ParityRow] = []
    for open_runner in ways.open:
        with open_runner() as runner:
            exact = given.results.get(runner.name) if rounded else None
            right, most = (expected, tolerance) if exact is None else (exact, PARITY["fp32"])
            rows += compare_runners([runner], images, right, manifest.outputs, most, task=task)
    rows += given.rows
    written = (manifest.build or {}).get("notes")
    said = [note for note in written if isinstance(note, str)] if isinstance(written, list) else []
    notes = (*manifest.describe_choices(), *ways.notes, *said)
    return ParityReport(source, tolerance, tuple(rows), notes=notes)
