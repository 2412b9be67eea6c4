"""Time by operator of real networks: what ran is named, counted, and adds up."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evm_deploy
from evm_deploy import Bundle
from evm_deploy.errors import BundleError
from evm_deploy.profiling import operators
from evm_deploy.profiling.estimates import add_estimates
from evm_deploy.profiling.records import Record, Recording, read_record
from evm_deploy.profiling.report import (
    Conditions,
    DeviceFacts,
    Method,
    Operators,
    ProfileReport,
    Result,
    Roofline,
)
from evm_deploy.scan import native

ROOF = Roofline(gflops=100, gbytes=10, int8_gops=400)
BLOCKS = ["patch_embed", "layers.0.blocks.0", "layers.0.downsample", "layers.1.blocks.0", "classifier"]


@pytest.fixture(scope="module")
def bundle(exported: Callable[..., Bundle]) -> Bundle:
    return exported("micro")


@pytest.fixture(scope="module")
def portable(bundle: Bundle) -> Operators:
    return operators.measure_operators(bundle, library=False, runs=4, roofline=ROOF)


def by(found: Operators, key: str) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for row in found.rows:
        sums[getattr(row, key)] += row.ms
    return dict(sums)


def flops(found: Operators, kind: str) -> int:
    return sum(row.flops or 0 for row in found.rows if row.kind == kind)


def test_every_operator_has_its_block_and_blocks_are_in_order(portable: Operators) -> None:
    blocks = list(by(portable, "block"))
    assert "" not in blocks
    assert [block for block in blocks if block in BLOCKS] == BLOCKS


def test_the_scan_written_out_in_standard_operators_is_a_scan(portable: Operators) -> None:
    scans = {row.block for row in portable.rows if row.kind == "scan"}
    assert scans == {"layers.0.blocks.0", "layers.1.blocks.0"}
    assert {row.op for row in portable.rows if row.kind == "scan"} >= {"Exp", "Log", "MatMul", "Mul", "Pad"}
    assert not {row.op for row in portable.rows if row.kind != "scan"} & {"Exp", "Log"}


def test_shares_and_times_belong_together(portable: Operators) -> None:
    total = sum(row.ms for row in portable.rows)
    assert sum(row.share for row in portable.rows) == pytest.approx(1)
    assert all(row.share == pytest.approx(row.ms / total) for row in portable.rows)
    assert portable.runs == 2  # the quieter half
    assert total <= portable.whole_ms < 3 * total


def test_times_are_of_the_quieter_runs_and_less_what_recording_costs(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node takes 1 ms in the first runs, which do not count, then 8, 2, 4 and 9; each run 10 ms more a node."""

    def made_up(trace: Path, graph: Any) -> Record:
        count = len(graph.node)
        times = np.outer([1.0] * operators.WARM_UP + [8.0, 2.0, 4.0, 9.0], np.ones(count))
        return dataclasses.replace(read_record(trace, graph), times=times, wholes=times.sum(1) + 10 * count)

    monkeypatch.setattr(operators, "read_record", made_up)
    monkeypatch.setattr(operators, "measure_recording_cost", lambda folder: Recording(within=0.5, between=0.25))
    found = operators.measure_operators(bundle, library=False, runs=4)
    assert {row.ms for row in found.rows} == {3 - 0.5}
    assert found.whole_ms == pytest.approx((3 + 10 - 0.5 - 0.25) * len(found.rows))


def test_the_run_of_the_trace_goes_forward(portable: Operators) -> None:
    spans = [row.span_ms for row in portable.rows if row.span_ms is not None]
    assert len(spans) == len(portable.rows)
    assert spans[0][0] == 0
    assert all(start <= end for start, end in spans)
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)


def test_work_is_counted_and_has_a_least_time(portable: Operators) -> None:
    assert all(row.bytes is not None and row.flops is not None for row in portable.rows)
    assert portable.roofline == ROOF
    for row in portable.rows:
        assert row.roofline_ms == pytest.approx(max((row.flops or 0) / 100e6, (row.bytes or 0) / 10e6))


def test_without_a_roofline_there_is_no_least_time(bundle: Bundle) -> None:
    found = operators.measure_operators(bundle, library=False, runs=1)
    assert found.roofline is None
    assert {row.roofline_ms for row in found.rows} == {None}


@pytest.mark.skipif(not native.available(), reason="the operator library is not built here")
def test_with_our_operators_a_scan_is_one_operator_and_the_rest_is_the_same_work(
    bundle: Bundle, portable: Operators
) -> None:
    found = operators.measure_operators(bundle, library=True, runs=2)
    scans = [(row.op, row.block) for row in found.rows if row.kind == "scan"]
    assert scans == [("evm::EfficientScan2D", f"layers.{stage}.blocks.0") for stage in (0, 1)]
    assert len(found.rows) < len(portable.rows) / 3
    for kind in ("convolution", "matmul"):
        assert flops(found, kind) == flops(portable, kind) > 0
    assert 0.3 < flops(found, "scan") / flops(portable, "scan") < 1  # the portable form does more


def test_a_bundle_for_another_runtime_is_refused(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    other = make_bundle(tmp_path / "b", target="coreml")
    with pytest.raises(BundleError, match="onnxruntime"):
        operators.measure_operators(other, library=False)


def test_a_model_that_cannot_be_loaded_is_refused(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    with pytest.raises(BundleError, match="cannot load"):
        operators.measure_operators(make_bundle(tmp_path / "b"), library=False)


def test_a_model_that_was_replaced_is_not_run(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle(tmp_path / "b")
    bundle.model_path.write_bytes(b"another")
    with pytest.raises(BundleError, match="was replaced"):
        operators.measure_operators(bundle, library=False)


def report(*results: Result) -> ProfileReport:
    device = DeviceFacts("local", "here")
    return ProfileReport(device, Conditions(), Method(1, None, 1, True), results, "2026-01-01T00:00:00Z", "0")


def result(bundle: Bundle, **changes: Any) -> Result:
    sha256 = evm_deploy.files.sha256_file(bundle.path / "manifest.json")
    fields = {"name": "a", "bundle": "a", "runtime": "onnxruntime", "provider": None, "target": "onnx"}
    return Result(**{**fields, "precision": "fp32", "sha256": sha256, "size_bytes": 1, "samples_ms": (1.0,), **changes})


def test_estimates_stand_beside_what_was_measured(bundle: Bundle, portable: Operators) -> None:
    devices = ["raspberry-pi-5", "jetson-orin-nano-8gb"]
    (found,) = add_estimates(report(result(bundle, operators=portable)), [bundle.path], devices).results
    assert [guess.device.partition(",")[0] for guess in found.estimates] == ["Raspberry Pi 5", "Jetson Orin Nano 8 GB"]
    assert all(0 < guess.low <= guess.ms <= guess.high for guess in found.estimates)
    assert found.samples_ms == (1.0,)


def test_operators_that_were_not_timed_are_timed_in_the_way_that_was(
    bundle: Bundle, portable: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways, rooflines = list[bool](), list[int]()

    def measure(bundle: Bundle, *, library: bool, threads: int, roofline: Roofline) -> Operators:
        ways.append(library)
        return portable

    monkeypatch.setattr("evm_deploy.profiling.estimates.operators.measure_operators", measure)
    monkeypatch.setattr(
        "evm_deploy.profiling.estimates.roofline.measure_roofline",
        lambda threads: rooflines.append(threads) or portable.roofline,
    )
    stock, ours = result(bundle), result(bundle, name="b", runtime="onnxruntime + evm_ops")
    found = add_estimates(report(stock, ours), [bundle.path], ["raspberry-pi-5"]).results
    assert all(each.estimates for each in found)
    assert ways == [False, native.available()]
    assert rooflines == [1]


def test_a_result_that_allows_no_estimate_says_why(bundle: Bundle, portable: Operators) -> None:
    failed, strange = (
        result(bundle, name="failed", error="it broke", samples_ms=()),
        result(bundle, name="b", sha256="0"),
    )
    wrong = result(bundle, name="c", operators=portable, precision="int8")
    found = add_estimates(report(failed, strange, wrong), [bundle.path], ["raspberry-pi-5"]).results
    assert [each.estimates for each in found] == [(), (), ()]
    assert found[0].notes == ()
    assert "not one of the named bundles" in found[1].notes[0]
    assert "int8 cannot be estimated" in found[2].notes[0]


@pytest.mark.slow
def test_operators_add_up_to_the_whole(exported: Callable[..., Bundle]) -> None:
    """T, with and without our operators."""
    found = exported("tiny", image_size=(224, 224))
    for library in {False, native.available()}:
        measured = operators.measure_operators(found, library=library, runs=10)
        assert 0.9 < sum(row.ms for row in measured.rows) / measured.whole_ms <= 1
