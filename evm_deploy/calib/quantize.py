"""Makes an int8 bundle from a float one: the steps in order."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evm_deploy.bundle import Bundle, Sample, write_bundle
from evm_deploy.calib import find_quantizer
from evm_deploy.calib.onnx.speed import Speed
from evm_deploy.calib.plots import prepare_folder
from evm_deploy.calib.quantize_options import QuantizeOptions
from evm_deploy.data.annotations import read_annotations
from evm_deploy.data.samples import Data, Samples, describe_left_out, read_samples
from evm_deploy.errors import CheckFailed, OptionError, check_choice
from evm_deploy.exporters.record import list_tool_versions
from evm_deploy.folders import check_outside
from evm_deploy.runtimes import find_runtime
from evm_deploy.targets import TARGETS
from evm_deploy.tasks import FindingsMetric, Metric, find_task
from evm_deploy.verification.artifact import verify_against_float
from evm_deploy.verification.parity import ParityReport

VERIFIED_SAMPLES = 8
RECALIBRATE = "calibrate on more images, or on images like those that the model will see; or --exclude a block."


def quantize(
    bundle: Path, data: Data, out: Path, options: QuantizeOptions, say: Callable[[str], None]
) -> ParityReport | None:
    """Implements `pipeline.quantize`, which documents its errors. Returns the report of the verification."""
    _check_places(bundle, out, options)
    with write_bundle(out, options.overwrite) as draft:
        source = Bundle.open(bundle)
        target, form = _choose_target(source, options)
        quantizer, model_file = find_quantizer(target), TARGETS[target].model_file
        options = dataclasses.replace(options, scan_form=form)
        manifest, labels, samples = source.manifest, source.labels(), _read_samples(source, data, options)
        if options.plots is not None:
            prepare_folder(Path(options.plots))
        facts = quantizer.quantize(source, samples, options, draft.path / model_file, say)
        calibration = facts.pop("calibration") | {"data": samples.record(), "source": manifest.checkpoint.sha256}
        images = {sample.name: sample.input for sample in itertools.islice(samples, VERIFIED_SAMPLES)}
        expected = _run_float(source, images)
        first = next(iter(images))
        draft.write_sample(Sample(images[first], tuple(expected[first])))
        manifest = dataclasses.replace(
            manifest,
            target=target,
            precision="int8",
            scan_form=form,
            model_file=model_file,
            tools=list_tool_versions(),
            build=facts or None,
            calibration=calibration,
            parity=None,
            files={},
        )
        if labels is not None:
            manifest = dataclasses.replace(manifest, labels=draft.write_labels(labels))
        made, report = draft.seal(manifest), None
        say("checking what runs on integers")
        checked = quantizer.check(made, source)
        _check_speed(checked, options.require_speedup)
        notes = [*describe_left_out(calibration["data"]), *calibration.get("notes", ()), *checked.pop("notes", ())]
        calibration |= checked | {"notes": notes}
        if options.verify:
            say("verifying")
            report = verify_against_float(made, images, expected)
            if not report.passed:
                worst = report.describe_worst_failure()
                raise CheckFailed(f"the int8 model does not agree with the float one: {worst}.", RECALIBRATE)
            manifest = dataclasses.replace(manifest, parity=report.to_dict())
        draft.seal(dataclasses.replace(manifest, calibration=calibration))
    return report


def _check_speed(checked: Mapping[str, Any], required: float | None) -> None:
    """Raises CheckFailed: the speedup that is required is not shown by what was measured."""
    if required is not None and checked["speed"]["ratio_high"] * required > 1:
        raise CheckFailed(
            f"a speedup of {required:g} is not shown: {Speed(**checked['speed']).describe()}.",
            "--search for a faster mix, or ship the float bundle.",
        )


def _choose_target(source: Bundle, options: QuantizeOptions) -> tuple[str, str]:
    """The target, and the form of its scans. Raises OptionError: one that does not exist, or not from this bundle; a
    search that the target does not have.
    """
    known = source.manifest.target
    target = options.target or known
    check_choice("target", target, TARGETS)
    row = TARGETS[target]
    wanted = row.quantized_from or target
    if known != wanted:
        what = f"{source.path} is for {known}: integers for {target} are made of a bundle for {wanted}."
        raise OptionError(what, f"export it with --target {wanted}, and quantize that with --target {target}.")
    for name, given in (("search", options.search), ("require-speedup", options.require_speedup)):
        if given and not row.searches:
            raise OptionError(f"--{name} measures on onnxruntime; the result is for {target}.", "leave it out.")
    form = options.scan_form or row.scan_forms[0]
    check_choice("scan form", form, row.scan_forms)
    return target, form


def _read_samples(source: Bundle, data: Data, options: QuantizeOptions) -> Samples:
    """The images to calibrate on."""
    manifest, labels = source.manifest, source.labels()
    task, annotations = find_task(manifest.task), None
    metric = task.metric
    if options.search and isinstance(metric, FindingsMetric):
        metric.prepare()
    if options.annotations is not None and not isinstance(metric, str):
        annotations = read_annotations(metric, options.annotations, zero_is_ignored=options.reduce_zero_label)
    samples = read_samples(
        data,
        manifest.preprocessing,
        count=options.samples,
        seed=options.seed,
        labels=labels,
        need_labels=False,
        annotations=annotations,
    )
    classes = task.classes(manifest.outputs)
    if options.search and isinstance(metric, Metric) and classes is not None:
        metric.check_labels(samples.labels, samples.classes, classes, labels)
    return samples


def _run_float(source: Bundle, images: Mapping[str, npt.NDArray[Any]]) -> dict[str, list[npt.NDArray[np.float32]]]:
    """The outputs of the float bundle for the images, in the best way; without a GPU, an engine's graph is run."""
    with find_runtime(source).find_ways(source).open[-1]() as runner:
        return {name: runner.run(image) for name, image in images.items()}


def _check_places(bundle: Path, out: Path, options: QuantizeOptions) -> None:
    """Raises OptionError for places inside each other: measurements would be in the way of the bundle, or the float
    bundle, which is needed to quantise again, would be replaced or changed.
    """
    target = out.resolve()
    check_outside(out, [bundle])
    for name, folder in (("cache", options.cache), ("plots", options.plots)):
        if folder is not None and target in (Path(folder).resolve(), *Path(folder).resolve().parents):
            raise OptionError(f"--{name} {folder} is in --out.", "choose another: --out is for the bundle alone.")
