"""The path from a checkpoint to a bundle, and from a bundle to an answer, in order. Each function is a command."""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evm_deploy.bundle import Bundle, write_bundle
from evm_deploy.calib.quantize_options import QuantizeOptions
from evm_deploy.errors import CheckFailed, CheckpointError, InputError, OptionError
from evm_deploy.evaluation.evaluate_options import EvaluateOptions
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.folders import check_outside
from evm_deploy.labels import read_labels
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.tasks import find_task

if TYPE_CHECKING:
    from torch import nn

    from evm_deploy.data.samples import Data
    from evm_deploy.evaluation.report import EvaluationReport
    from evm_deploy.models.network import Network
    from evm_deploy.packaging.package import Package
    from evm_deploy.packaging.verify import PackageReport
    from evm_deploy.prediction import Prediction
    from evm_deploy.profiling.report import ProfileReport
    from evm_deploy.verification.parity import ParityReport

Progress = Callable[[str], None]
Location = str | os.PathLike[str]


@dataclass(frozen=True)
class ExportResult:
    """A bundle that was written, the report that let it through (None: verification was not wanted), and notes."""

    bundle: Bundle
    report: "ParityReport | None"
    notes: tuple[str, ...] = ()


def export(
    model: "Location | nn.Module",
    out: Location,
    options: ExportOptions | None = None,
    *,
    progress: Progress | None = None,
) -> ExportResult:
    """Turns a checkpoint, or a module, into a verified bundle at `out`; nothing is left there when anything fails.

    model: a checkpoint's path; or a network of RGB images, float32 on the CPU, whose forward takes (B, 3, H, W) and
    returns float tensors. A module is copied and put into eval mode; it stays as it is itself.
    Raises CheckpointError, InputError, OptionError, OutputError, MissingToolError; and CheckFailed when the artifact
    does not agree with PyTorch.
    """
    options, say = options or ExportOptions(), progress or (lambda stage: None)
    if options.verify and options.weights != "float":
        say("verifying the program with its weights as they are")  # their loss would hide a lost carry
        with tempfile.TemporaryDirectory() as folder:
            export(model, Path(folder) / "float", dataclasses.replace(options, weights="float"), progress=say)
    with write_bundle(out, options.overwrite) as draft:
        import numpy as np

        from evm_deploy.exporters import exporter_of, separate_steps
        from evm_deploy.exporters.deployed import Source
        from evm_deploy.exporters.record import check_float16, make_manifest
        from evm_deploy.verification.artifact import verify_against_model
        from evm_deploy.verification.golden_pair import compute_golden_pair
        from evm_deploy.verification.images import make_verification_images
        from evm_deploy.verification.rounding import choose_tolerance

        network = _open_network(model, options, say)
        manifest = make_manifest(network, options)
        labels = None
        if options.labels:
            labels = read_labels(Path(options.labels), find_task(manifest.task), manifest.outputs)
        elif find_task(manifest.task).locate is not None and network.class_names:
            labels = tuple(" ".join(name.split()) or "-" for name in network.class_names)  # a line each
        if options.precision == "fp16":
            check_float16(network)
        images = make_verification_images(manifest, options.images)

        say(f"exporting to {options.target}")
        exporter = exporter_of(options.target)
        given = Source(network, manifest, options, images, labels)
        build = exporter.write(given, draft.path / manifest.model_file, say)
        if options.precision == "fp16":
            say("measuring what float16 costs")
            build |= choose_tolerance(network, manifest, images, build)
        manifest = dataclasses.replace(manifest, build=build or None)
        if manifest.last_steps is not None:
            steps = separate_steps.export(given).SerializeToString()
            (draft.path / manifest.last_steps.file).write_bytes(steps)
        if labels:
            manifest = dataclasses.replace(manifest, labels=draft.write_labels(labels))
        sample = compute_golden_pair(network, manifest, images)
        if not all(np.isfinite(output).all() for output in sample.outputs):
            raise CheckpointError(f"{network.record.file} gives values that are not finite.", "use another checkpoint.")
        draft.write_sample(sample)
        bundle, report = draft.seal(manifest), None

        if options.verify:
            say("verifying")
            report = verify_against_model(bundle, network, images)
            if options.precision == "fp16" and not all(np.isfinite(row.relative) for row in report.rows):
                raise CheckFailed("the network leaves the range of float16.", "export it with --precision fp32.")
            if not report.passed:
                worst = report.describe_worst_failure()
                raise CheckFailed(f"the artifact does not agree with PyTorch: {worst}.", _ADVICE)
            draft.seal(dataclasses.replace(manifest, parity=report.to_dict()))
    return ExportResult(Bundle.open(out), report, network.notes)


def quantize(
    bundle: Location,
    data: "Data",
    out: Location,
    options: QuantizeOptions | None = None,
    *,
    progress: Progress | None = None,
) -> ExportResult:
    """Turns a float bundle into an int8 one at `out`, ranges measured on `data`; nothing is left there when it fails.

    data: a folder of images, or of a folder for each class, a list file, an .npz, or an iterable of uint8 (H, W, 3).
    Raises BundleError, ImageError, InputError, OptionError, OutputError, MissingToolError; and CheckFailed when what
    was to run on integers does not, or the outputs are far from those of the float bundle.
    """
    from evm_deploy.calib.quantize import quantize as run

    report = run(Path(bundle), data, Path(out), options or QuantizeOptions(), progress or (lambda stage: None))
    return ExportResult(Bundle.open(out), report)


def verify(
    bundle: Location,
    *,
    checkpoint: "Location | nn.Module | None" = None,
    images: Location | None = None,
    public_key: str | None = None,
    progress: Progress | None = None,
) -> "ParityReport | PackageReport":
    """Runs a bundle on every runtime here and compares: with `checkpoint`, or the module that was exported, in
    PyTorch; else with its golden pair.

    Of a package, a folder or an archive, every byte, with `public_key` the signature, and each of its bundles.
    Raises BundleError, CheckpointError, ImageError, InputError (another checkpoint than the bundle's); of a package
    CheckFailed too.
    """
    from evm_deploy.models.network import find_scan, open_checkpoint
    from evm_deploy.packaging.verify import is_package
    from evm_deploy.verification.artifact import verify_against_model, verify_against_sample
    from evm_deploy.verification.images import make_verification_images

    say = progress or (lambda stage: None)
    if is_package(Path(bundle)):
        if checkpoint is not None or images is not None:
            raise OptionError("a package is compared with its golden pairs.", "leave --checkpoint and --images out.")
        return _verify_package(Path(bundle), public_key, say)
    if public_key is not None:
        raise OptionError(f"{bundle} is a bundle; packages are signed.", "leave --public-key out.")
    opened = Bundle.open(bundle)
    if checkpoint is None:
        if images is not None:
            raise OptionError("images can only be compared with PyTorch.", "name the checkpoint as well: --checkpoint.")
        say("verifying against the golden pair")
        return verify_against_sample(opened)
    record = opened.manifest.checkpoint
    named = f"{checkpoint} is not the checkpoint"
    if isinstance(checkpoint, (str, os.PathLike)):
        network = open_checkpoint(checkpoint, key=record.key, scan=find_scan(opened.manifest.model))
    else:
        from evm_deploy.models.module import open_module

        network = open_module(checkpoint, opened.manifest.preprocessing.image_size)
        named = f"{network.title} is not, or no longer, the module"
    if network.record.sha256 != record.sha256:
        raise InputError(f"{named} that {bundle} was made from.", f"name {record.file}.")
    say("verifying against PyTorch")
    return verify_against_model(opened, network, make_verification_images(opened.manifest, images))


def predict(
    bundle: Location,
    images: Location | Sequence[Location],
    *,
    top: int = 5,
    library: bool = True,
    save: Location | None = None,
) -> "list[Prediction]":
    """The `top` classes of each image, or what is found in it, by the bundle alone; `library` uses our operators where
    they are built. images: files, or folders of them. save: a new folder for drawings of what a detector or segmenter
    found.

    A package, a folder or an archive, is checked as by `verify`, and its one model is taken.
    Raises BundleError (a backbone has no classes), InputError, ImageError; of a package OptionError (several models),
    CheckFailed.
    """
    from evm_deploy.packaging.verify import is_package, open_only_model
    from evm_deploy.prediction import predict_images

    path = Path(bundle)
    with open_only_model(path) if is_package(path) else contextlib.nullcontext(Bundle.open(path)) as opened:
        where = Path(save) if save is not None else None
        return predict_images(opened, _list_paths(images), top=top, library=library, save=where)


def evaluate(
    bundles: Location | Sequence[Location],
    data: "Data",
    options: EvaluateOptions | None = None,
    *,
    progress: Progress | None = None,
) -> "EvaluationReport":
    """How right the bundles are on the same images, side by side, and what one image takes on this machine.

    data: as for `quantize`; without labels only agreement with the float model is measured. That model is the
    checkpoint of the options, else the first float32 bundle. Detectors and segmenters take a folder of images, whose
    annotations the options name. A floor that is missed is in the report, no error.
    Raises InputError: no such data, or models that cannot be compared; BundleError, CheckpointError, ClusterError,
    MissingToolError, OutputError.
    """
    from evm_deploy.evaluation.evaluate import evaluate as run

    return run(_list_paths(bundles), data, options or EvaluateOptions(), progress or (lambda stage: None))


def profile(
    bundles: Location | Sequence[Location],
    options: ProfileOptions | None = None,
    *,
    progress: Progress | None = None,
) -> "ProfileReport":
    """How long the bundles take on a device, in turns, with what a time is worth nothing without.

    A bundle that could not be measured, or whose golden pair is not met there, has an `error` in the report and no
    times. Raises BundleError, DeviceError, MissingToolError, OptionError, OutputError.
    """
    from evm_deploy import reporting
    from evm_deploy.profiling import profiler

    options, paths = options or ProfileOptions(), _list_paths(bundles)
    profiler.check(paths, options)
    for place in (options.out, options.html):
        if place is not None:
            check_outside(place, paths)
    if options.out is not None:
        reporting.check_free(options.out, options.overwrite)
    if options.html is not None:
        reporting.check_page(options.html, options.overwrite, options.out)
    measured = profiler.run_profile(paths, options, progress or (lambda stage: None))
    if options.out is not None:
        reporting.write(options.out, [measured], options.overwrite)
    if options.html is not None:
        reporting.write_page(options.html, [measured], options.overwrite)
    return measured


def report(
    profiles: Location | Sequence[Location],
    *,
    evaluation: Location | None = None,
    out: Location | None = None,
    html: Location | None = None,
    overwrite: bool = False,
) -> "list[ProfileReport]":
    """The profiles in files or folders, of any devices; `out` gets all that `profile` writes, `html` one page.

    evaluation: what `evaluate` wrote to its `out`, for accuracy beside latency.
    Raises InputError: not profiles; OutputError, MissingToolError.
    """
    from evm_deploy import reporting
    from evm_deploy.reporting import accuracy

    found = reporting.read(_list_paths(profiles))
    known = accuracy.read_accuracies(Path(evaluation)) if evaluation is not None else ()
    if html is not None:
        reporting.check_page(html, overwrite, out)
    if out is not None:
        reporting.write(out, found, overwrite, known)
    if html is not None:
        reporting.write_page(html, found, overwrite, known)
    return found


def package(
    bundles: Location | Sequence[Location], out: Location, options: PackageOptions, *, progress: Progress | None = None
) -> "Package":
    """Writes what an app, a board or a web site takes; nothing is left at `out` when anything fails.

    Raises BundleError, InputError, MissingToolError, OptionError (a bundle that the platform does not take),
    OutputError.
    """
    from evm_deploy.packaging.package import package as run

    return run(_list_paths(bundles), out, options, progress or (lambda stage: None))


def _open_network(model: "Location | nn.Module", options: ExportOptions, say: Progress) -> "Network":
    """The network of a checkpoint or a module."""
    if isinstance(model, (str, os.PathLike)):
        from evm_deploy.models.network import open_checkpoint

        say("reading the checkpoint")
        return open_checkpoint(model, key=options.key, scan=options.scan)
    from evm_deploy.models.module import open_module

    for name in ("key", "scan"):
        if getattr(options, name) is not None:
            raise OptionError(f"{name} is for checkpoints, and a module was given.", "leave it out.")
    say("trying the module")
    return open_module(model, options.image_size, options.example)


_ADVICE = "this is a fault of evm-deploy: report it with the output of `evm-deploy doctor` and this line."


def _verify_package(path: Path, public_key: str | None, say: Progress) -> "PackageReport":
    from evm_deploy.packaging.verify import PackageReport, open_package
    from evm_deploy.verification.artifact import verify_against_sample

    say("checking every file of the package")
    with open_package(path, public_key) as (verified, models):
        say("verifying against the golden pairs")
        return PackageReport(verified, {model.name: verify_against_sample(model.bundle) for model in models})


def _list_paths(named: Location | Sequence[Location]) -> list[Path]:
    return [Path(one) for one in ([named] if isinstance(named, (str, os.PathLike)) else named)]
