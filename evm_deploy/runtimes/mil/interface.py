"""What a bundle's manifest declares, held against what its package describes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evm_deploy.errors import BundleError
from evm_deploy.manifest import Manifest
from evm_deploy.runtimes.mil.features import Feature
from evm_deploy.runtimes.mil.literals import labels
from evm_deploy.runtimes.mil.problems import damaged
from evm_deploy.runtimes.mil.program import Function, Model
from evm_deploy.targets import target_of
from evm_deploy.tasks import IOSpec, Task, find_task


@dataclass(frozen=True)
class Entry:
    """A function of the package, its input, and its outputs in the order of the manifest."""

    function: Function
    input: Feature
    outputs: tuple[Feature, ...]  # of a classifier, the dictionary of probabilities alone

    @property
    def labels(self) -> tuple[str | int, ...]:
        """The classes of a classifier, in the order of its probabilities."""
        return labels(self.function)


def entries(model: Model, manifest: Manifest) -> tuple[Entry, ...]:
    """An entry for each function; the first is the default one, which takes the image size of the manifest.

    Raises BundleError: for another target, or with other inputs or outputs than the manifest declares.
    """
    if target_of(manifest.target).runtime != "coreml":
        raise BundleError(f"target {manifest.target!r} is not run by Core ML.", "use a newer evm-deploy.")
    found = tuple(_entry(function, manifest) for function in model.functions)
    features = (found[0].input, *found[0].outputs)
    for feature, spec in zip(features, (*manifest.inputs, *manifest.outputs), strict=True):
        sides = (1, *feature.shape[1:], 3) if feature.kind == "image" else feature.shape
        if feature.shape and not feature.flexible and not spec.fits(sides, spec.dtype):
            raise _differs(f"{feature}, not {spec.dtype} {spec.shape}")
    return found


def entry_for(candidates: Sequence[Entry], image: npt.NDArray[np.generic]) -> Entry:
    """The first entry that takes the image, float32 (1, 3, H, W) or uint8 (1, H, W, 3). Raises BundleError: none."""
    baked = image.dtype == np.uint8
    shape = tuple(image.shape[place] for place in (0, 3, 1, 2)) if baked and image.ndim == 4 else image.shape
    for entry in candidates:
        if len(shape) == 4 and shape[0] == 1 and entry.input.accepts(shape) and baked == (entry.input.kind == "image"):
            return entry
    offered = " or ".join(str(entry.input) for entry in candidates)
    raise BundleError(f"the model takes {offered}, not {image.dtype} {image.shape}.", "pass an image of that size.")


def _entry(function: Function, manifest: Manifest) -> Entry:
    (spec,) = manifest.inputs
    features = function.features
    wanted = ("image", "RGB") if spec.dtype == "uint8" else ("array", spec.dtype)
    if [value.name for value in function.inputs] != [spec.name]:
        raise _differs(", ".join(str(features[value.name]) for value in function.inputs) or "no input")
    if (features[spec.name].kind, features[spec.name].dtype) != wanted:
        raise _differs(str(features[spec.name]))
    scores = [features[name] for name in function.outputs if name != function.label]
    if len(scores) != len(manifest.outputs):
        raise _differs(", ".join(map(str, scores)))
    task = find_task(manifest.task)
    return Entry(function, features[spec.name], tuple(_output(scores, spec, task) for spec in manifest.outputs))


def _output(features: Sequence[Feature], spec: IOSpec, task: Task) -> Feature:
    if [feature.kind for feature in features] == ["dictionary"] and task.given_by_label(spec):
        return features[0]
    for feature in features:
        if (feature.name, feature.kind, feature.dtype) == (spec.name, "array", spec.dtype):
            return feature
    raise _differs(", ".join(map(str, features)))


def _differs(found: str) -> BundleError:
    return damaged(f"the package is not what its manifest says: it has {found}")
