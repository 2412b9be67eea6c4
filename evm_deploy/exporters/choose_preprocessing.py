"""Decides how images are prepared for an exported model: by the options, else its checkpoint, else the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from evm_deploy.errors import OptionError
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.manifest import CHOSEN, Preprocessing, PreprocessingRecord, spell_value
from evm_deploy.models.recorded.read import RecordedPreprocessing
from evm_deploy.options import spell_option

OPTIONS = "the options"


# Of detectors and segmenters.
FIT: dict[str, Any] = {"resize": "fit", "interpolation": "opencv_bilinear", "crop_pct": 1.0}


def fit_preprocessing(
    options: ExportOptions, recorded: RecordedPreprocessing, scale: tuple[int, int]
) -> tuple[Preprocessing, PreprocessingRecord]:
    """The same for a detector or segmenter, whose images keep their ratio and are padded.

    scale: the box that they are fitted into in a model of any size, where nothing says another.
    Raises OptionError: another way to resize; a scale, and a fixed size; a mean that images have.
    """
    for name in ("resize", "interpolation", "crop_pct", "fill"):
        if getattr(options, name) is not None:
            what = f"{spell_option(ExportOptions, name)} is for classifiers: images are fitted into the size."
            raise OptionError(what, "leave it out.")
    if options.scale is not None and not options.dynamic_size:
        what = f"--scale {spell_sides(options.scale)} is for models of any size: images are fitted into --image-size."
        raise OptionError(what, "add --dynamic-size, or leave --scale out.")
    colours = ("mean", "std", "channels")
    given = {name: value for name in colours if (value := getattr(options, name)) is not None}
    values = {name: value for name, value in recorded.values.items() if name in colours} | given
    sources = {name: recorded.sources[name] for name in values if name not in given} | dict.fromkeys(given, OPTIONS)
    if options.dynamic_size:
        values["scale"] = options.scale or recorded.scale or scale
        if options.scale or recorded.scale:
            sources["scale"] = OPTIONS if options.scale else recorded.scale_source
    steps = Preprocessing(options.image_size, baked=options.bake_preprocessing, **FIT, **values)
    check_padding(steps)
    remarks = [remark for name, remark in recorded.remarks.items() if name in colours and name not in given]
    return steps, PreprocessingRecord(sources, tuple(remarks))


def choose_preprocessing(
    options: ExportOptions, recorded: RecordedPreprocessing
) -> tuple[Preprocessing, PreprocessingRecord]:
    """Returns the preprocessing, and where each of its values was taken from.

    `options.preprocessing` is there in the place of what is recorded. Raises OptionError: a fill, and nothing to pad.
    """
    if options.scale is not None:
        what = f"--scale {spell_sides(options.scale)} is for detectors and segmenters, with their last steps."
        raise OptionError(what, "leave it out: --image-size says what images are resized to.")
    values, sources, remarks = dict(recorded.values), dict(recorded.sources), recorded.remarks
    if options.preprocessing is not None:
        values = {name: getattr(options.preprocessing, name) for name in CHOSEN}
        sources, remarks = dict.fromkeys(CHOSEN, OPTIONS), {}
    given = {name: value for name in CHOSEN if (value := getattr(options, name)) is not None}
    values |= given
    sources |= dict.fromkeys(given, OPTIONS)
    resize = values.get("resize", "cover")
    if resize != "letterbox":
        if "fill" in given:
            what = f"--fill {options.fill} is what a letterbox is padded with, and resize is {resize}."
            raise OptionError(what, "add --resize letterbox, or leave --fill out.")
        values, sources, remarks = map(_leave_out_fill, (values, sources, remarks))
    steps = Preprocessing(options.image_size, baked=options.bake_preprocessing, **values)
    said = [remark for name, remark in remarks.items() if name not in given]
    return steps, PreprocessingRecord(sources, (*said, *_compare_sizes(options, recorded)))


def spell_sides(sides: tuple[int, int]) -> str:
    """As the option is written."""
    return "x".join(map(str, sides))


def check_padding(steps: Preprocessing) -> None:
    """Raises OptionError where the mean is a colour of images: normalised, its pixels are zero, as padding is."""
    levels = [np.float32(level) / np.float32(255) for level in range(256)]
    if all(any(level == np.float32(mean) for level in levels) for mean in steps.mean):
        what = f"an image may have pixels of the mean, {spell_value(steps.mean)}, which cannot be told from padding."
        raise OptionError(what, "add --raw for what the head gives.")


def _leave_out_fill(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "fill"}


def _compare_sizes(options: ExportOptions, recorded: RecordedPreprocessing) -> list[str]:
    sizes = (options.image_size, *options.more_sizes)
    if recorded.image_size is None or recorded.image_size in sizes:
        return []
    said, taken = map(spell_sides, (recorded.image_size, options.image_size))
    what = f"{recorded.size_source} of the checkpoint states images of {said}"
    return [f"{what}; the model takes {taken}, as --image-size says"]
