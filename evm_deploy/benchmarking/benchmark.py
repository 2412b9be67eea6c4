"""Measures a checkpoint in every form that this machine can make and run, side by side."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evm_deploy.benchmarking import benchmark_folder
from evm_deploy.benchmarking.benchmark_options import BenchmarkOptions
from evm_deploy.benchmarking.benchmark_report import (
    FAILED,
    NOT_HERE,
    OK,
    VERIFIED,
    BenchmarkReport,
    BenchmarkRow,
    collect_remarks,
)
from evm_deploy.benchmarking.variants import INT8, Variant, find_obstacle, list_variants
from evm_deploy.bundle import Bundle
from evm_deploy.errors import EvmDeployError, InputError, MissingToolError, first_line
from evm_deploy.profiling.report import ProfileReport, Result
from evm_deploy.reporting import check_page, write_page
from evm_deploy.reporting.accuracy import Accuracy, AccuracyShare, collect_accuracies, match_accuracy
from evm_deploy.runtimes import PYTORCH, find_runtime
from evm_deploy.targets import TARGETS
from evm_deploy.tasks import find_task

Say = Callable[[str], None]


@dataclass(frozen=True)
class Attempt:
    """A form and its result: a bundle, or a status and the reason why there is no bundle."""

    variant: Variant
    bundle: Bundle | None
    status: str = OK
    reason: str | None = None


def benchmark(
    checkpoint: str | os.PathLike[str], options: BenchmarkOptions | None = None, *, progress: Say | None = None
) -> BenchmarkReport:
    """Exports every target and precision that this machine can, and measures them beside each other and PyTorch.

    A form that fails is a row of the report that says why. Raises CheckpointError, InputError (no such data),
    OptionError, OutputError, and what the measuring of all raises.
    """
    checkpoint, options, say = Path(checkpoint), options or BenchmarkOptions(), progress or (lambda stage: None)
    _check(checkpoint, options)
    with _open_folder(options) as folder:
        attempts = list(_try_variants(checkpoint, folder / benchmark_folder.BUNDLES, options, say))
        made = [one.bundle for one in attempts if one.bundle]
        timed = [bundle for bundle in made if find_runtime(bundle).find_obstacle_to_time() is None]
        known, notes = _evaluate_bundles(checkpoint, timed, options, say)
        profile = _profile_bundles(checkpoint, timed, options, say)
        rows = (
            *_make_pytorch_rows(profile, known),
            *(row for one in attempts for row in _make_rows(one, profile, known)),
        )
        report = BenchmarkReport(
            checkpoint.name, rows, profile, (*notes, *_describe_calibration(attempts, known, options))
        )
        if options.out is not None:
            benchmark_folder.write_benchmark(folder, report, known)
        if options.html is not None and profile is not None:
            write_page(options.html, [profile], options.overwrite, known, collect_remarks(report))
    return report


def _check(checkpoint: Path, options: BenchmarkOptions) -> None:
    """Finds wrong arguments before minutes of exporting."""
    from evm_deploy.data.samples import read_samples
    from evm_deploy.manifest import Preprocessing
    from evm_deploy.models.checkpoint import read_checkpoint

    if options.out is not None:
        benchmark_folder.check_free(options.out, options.overwrite)
    if options.html is not None:
        check_page(options.html, options.overwrite, options.out)
    read_checkpoint(checkpoint, key=options.key, scan=options.scan)
    for data in (options.data, options.calibration):
        if data is not None:
            read_samples(str(data), Preprocessing(options.image_size), count=1, need_labels=False)


@contextlib.contextmanager
def _open_folder(options: BenchmarkOptions) -> Iterator[Path]:
    """Opens the folder for all results: a draft of --out, or a temporary folder."""
    if options.out is None:
        with tempfile.TemporaryDirectory(prefix="evm-benchmark-") as folder:
            yield Path(folder)
    else:
        with benchmark_folder.open_draft(options.out, options.overwrite) as folder:
            yield folder


def _try_variants(checkpoint: Path, folder: Path, options: BenchmarkOptions, say: Say) -> Iterator[Attempt]:
    made: dict[Variant, Bundle] = {}
    for variant in list_variants(options.targets):
        attempt = _try_variant(checkpoint, variant, made, folder / variant.name, options, say)
        if attempt.bundle is not None:
            made[variant] = attempt.bundle
        yield attempt


def _try_variant(
    checkpoint: Path, variant: Variant, made: dict[Variant, Bundle], out: Path, options: BenchmarkOptions, say: Say
) -> Attempt:
    """Makes one form. A failure does not affect the other forms."""
    if reason := find_obstacle(variant, options.data is not None):
        return Attempt(variant, None, NOT_HERE, reason)
    say(f"{variant.target} {variant.precision}")
    try:
        return Attempt(variant, _make_bundle(checkpoint, variant, made, out, options, say))
    except MissingToolError as error:
        return Attempt(variant, None, NOT_HERE, error.cause.rstrip("."))
    except EvmDeployError as error:
        return Attempt(variant, None, FAILED, error.cause.rstrip("."))
    except Exception as error:  # a converter's own failure, which must not cost the other forms
        return Attempt(variant, None, FAILED, f"{type(error).__name__}: {first_line(error)}")


def _make_bundle(
    checkpoint: Path, variant: Variant, made: dict[Variant, Bundle], out: Path, options: BenchmarkOptions, say: Say
) -> Bundle:
    from evm_deploy import pipeline
    from evm_deploy.calib.quantize_options import QuantizeOptions

    def stage(words: str) -> None:
        say(f"{variant.target} {variant.precision}: {words}")

    if variant.precision != INT8:
        chosen = options.make_export_options(variant.target, variant.precision)
        return pipeline.export(checkpoint, out, chosen, progress=stage).bundle
    source = made.get(Variant(TARGETS[variant.target].quantized_from or variant.target, "fp32"))
    if source is None:
        raise InputError("int8 is made of the fp32 bundle, which there is not.", "see what became of that.")
    data = options.calibration if options.calibration is not None else options.data
    chosen_integers = QuantizeOptions(samples=options.samples, target=variant.target)
    quantized = pipeline.quantize(source.path, str(data), out, chosen_integers, progress=stage)
    return quantized.bundle


def _evaluate_bundles(
    checkpoint: Path, timed: Sequence[Bundle], options: BenchmarkOptions, say: Say
) -> tuple[tuple[Accuracy, ...], list[str]]:
    """Top-1 of what runs here, where the images have classes, and what must be said of it."""
    from evm_deploy import pipeline
    from evm_deploy.evaluation.evaluate_options import EvaluateOptions

    if options.data is None or not timed:
        return (), []
    task = find_task(timed[0].manifest.task)
    if isinstance(task.metric, str):
        return (), [f"{task.title} {task.metric}: its accuracy is not measured"]
    say("evaluating")
    chosen = EvaluateOptions(checkpoint=checkpoint, count=options.count, latency_runs=0)
    report = pipeline.evaluate([bundle.path for bundle in timed], str(options.data), chosen, progress=say)
    of_images = f"top-1 of {report.labelled} images" if report.labelled else "the images have no classes: no top-1"
    return collect_accuracies(report), [of_images, *report.describe_order()]


def _profile_bundles(
    checkpoint: Path, timed: Sequence[Bundle], options: BenchmarkOptions, say: Say
) -> ProfileReport | None:
    from evm_deploy.profiling.profiler import run_profile

    return (
        run_profile([bundle.path for bundle in timed], options.make_profile_options(checkpoint), say) if timed else None
    )


def _make_rows(attempt: Attempt, profile: ProfileReport | None, known: Sequence[Accuracy]) -> list[BenchmarkRow]:
    variant, bundle = attempt.variant, attempt.bundle
    if bundle is None:
        return [BenchmarkRow(variant.target, variant.precision, None, attempt.status, attempt.reason)]
    parity, results = _find_largest_error(bundle), profile.results if profile else ()
    mine = [result for result in results if result.bundle == variant.name]
    if not mine:
        reason = find_runtime(bundle).find_obstacle_to_time() or "it was not measured"
        size = bundle.size
        return [BenchmarkRow(variant.target, variant.precision, None, VERIFIED, reason, size, parity=parity)]
    return [_make_row(variant.target, result, match_accuracy(known, result), parity) for result in mine]


def _make_pytorch_rows(profile: ProfileReport | None, known: Sequence[Accuracy]) -> list[BenchmarkRow]:
    """Rows for the results that belong to no bundle."""
    names = {variant.name for variant in list_variants(())}
    top1 = next((one.top1 for one in known if one.name == PYTORCH), None)
    others = [result for result in (profile.results if profile else ()) if result.bundle not in names]
    return [_make_row("pytorch", result, top1, None) for result in others]


def _make_row(target: str, result: Result, top1: AccuracyShare | None, parity: float | None) -> BenchmarkRow:
    summary = result.summary
    return BenchmarkRow(
        target,
        result.precision,
        result.runtime,
        OK if result.error is None else FAILED,
        result.error,
        size_bytes=result.size_bytes,
        load_ms=result.load_ms,
        p50=summary.p50 if summary else None,
        p99=summary.p99 if summary else None,
        memory_bytes=result.memory.peak_bytes if result.memory else None,
        top1=top1,
        parity=parity,
    )


def _find_largest_error(bundle: Bundle) -> float | None:
    """The largest relative error in the bundle's parity report."""
    rows = (bundle.manifest.parity or {}).get("rows", ())
    return max((row["relative"] for row in rows if row["relative"] is not None), default=None)


def _describe_calibration(
    attempts: Sequence[Attempt], known: Sequence[Accuracy], options: BenchmarkOptions
) -> list[str]:
    """Notes that the top-1 of int8 is not fair if it was calibrated on the same data."""
    if (
        options.calibration is not None
        or not known
        or not any(one.bundle and one.variant.precision == INT8 for one in attempts)
    ):
        return []
    return ["int8 was calibrated on images of the data that top-1 is of: give --calibration for a fair figure"]
