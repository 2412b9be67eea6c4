"""Compares the inputs and outputs in a bundle's manifest with those of its package."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evm_deploy.errors import BundleError
from evm_deploy.manifest import Manifest
from evm_deploy.runtimes.mil.features import Feature
from evm_deploy.runtimes.mil.literals import read_class_labels
from evm_deploy.runtimes.mil.problems import make_package_error
from evm_deploy.runtimes.mil.program import Function, MilModel
from evm_deploy.targets import target_of
from evm_deploy.tasks import IOSpec, Task, find_task


@dataclass(frozen=True)
class EntryPoint:
    """A function of the package, its input, and its outputs in the order of the manifest."""

    function: Function
    input: Feature
    outputs: tuple[Feature, ...]  # for a classifier, only the dictionary of probabilities

    @property
    def labels(self) -> tuple[str | int, ...]:
        """The classes of a classifier, in the order of its probabilities."""
        return read_class_labels(self.function)


def find_entry_points(model: MilModel, manifest: Manifest) -> tuple[EntryPoint, ...]:
    """Finds the entry points, one for each function. The first is the default, with the manifest's image size.

    Raises BundleError: another target, or other inputs or outputs than in the manifest.
    """
    if target_of(manifest.target).runtime != "coreml":
        raise BundleError(f"target {manifest.target!r} is not run by Core ML.", "use a newer evm-deploy.")
    found = tuple(_make_entry_point(function, manifest) for function in model.functions)
    features = (found[0].input, *found[0].outputs)
    for feature, spec in zip(features, (*manifest.inputs, *manifest.model_outputs), strict=True):
        sides = (1, *feature.shape[1:], 3) if feature.kind == "image" else feature.shape
        if feature.shape and not feature.flexible and not spec.fits(sides, spec.dtype):
            raise _make_difference_error(f"{feature}, not {spec.dtype} {spec.shape}")
    return found


def choose_entry_point(candidates: Sequence[EntryPoint], image: npt.NDArray[np.generic]) -> EntryPoint:
    """The first entry point for this image, float32 (1, 3, H, W) or uint8 (1, H, W, 3). Raises BundleError: none."""
    baked = image.dtype == np.uint8
    shape = tuple(image.shape[place] for place in (0, 3, 1, 2)) if baked and image.ndim == 4 else image.shape
    for entry in candidates:
        if len(shape) == 4 and shape[0] == 1 and entry.input.accepts(shape) and baked == (entry.input.kind == "image"):
            return entry
    offered = " or ".join(str(entry.input) for entry in candidates)
    raise BundleError(f"the model takes {offered}, not {image.dtype} {image.shape}.", "pass an image of that size.")


def _make_entry_point(function: Function, manifest: Manifest) -> EntryPoint:
    (spec,) = manifest.inputs
    features = function.features
    wanted = ("image", manifest.preprocessing.channels) if spec.dtype == "uint8" else ("array", spec.dtype)
    if [value.name for value in function.inputs] != [spec.name]:
        raise _make_difference_error(", ".join(str(features[value.name]) for value in function.inputs) or "no input")
    if (features[spec.name].kind, features[spec.name].dtype) != wanted:
        raise _make_difference_error(str(features[spec.name]))
    scores = [features[name] for name in function.outputs if name != function.label]
    if len(scores) != len(manifest.model_outputs):
        raise _make_difference_error(", ".join(map(str, scores)))
    task = find_task(manifest.task)
    return EntryPoint(
        function, features[spec.name], tuple(_find_output(scores, spec, task) for spec in manifest.model_outputs)
    )


def _find_output(features: Sequence[Feature], spec: IOSpec, task: Task) -> Feature:
    if [feature.kind for feature in features] == ["dictionary"] and task.given_by_label(spec):
        return features[0]
    for feature in features:
        if (feature.name, feature.kind, feature.dtype) == (spec.name, "array", spec.dtype):
            return feature
    raise _make_difference_error(", ".join(map(str, features)))


def _make_difference_error(found: str) -> BundleError:
    return make_package_error(f"the package does not match its manifest: it has {found}")
