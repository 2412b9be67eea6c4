"""What is in images: COCO's JSON, or a folder with a map of classes for each image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from evm_deploy.data.coco import read_coco
from evm_deploy.data.label_maps import list_label_maps
from evm_deploy.errors import InputError, OptionError
from evm_deploy.tasks import FindingsMetric, Metric
from evm_deploy.tasks.truth import LABEL_MAP, THINGS, Truth

FIX = {
    THINGS: "name COCO's JSON of the images with --annotations.",
    LABEL_MAP: "name the folder of their label maps with --annotations.",
}


class Annotations(Protocol):
    """Annotations of one kind. Can be pickled, so that workers read themselves."""

    @property
    def gives(self) -> str:
        """THINGS or LABEL_MAP of `tasks.truth`."""
        ...

    @property
    def sha256(self) -> str:
        """Of what is known without the images; of maps, of their names."""
        ...

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes by index, where the model has none and the annotations do."""
        ...

    @property
    def has_masks(self) -> bool:
        """Whether each thing has a mask."""
        ...

    def list_images(self, folder: Path) -> list[str]:
        """The images in the folder that are annotated, by their paths in it. Raises InputError."""
        ...

    def number_classes(self, labels: Sequence[str] | None) -> Annotations:
        """The same, of a model whose classes have these names. Raises InputError: it lacks one that is there."""
        ...

    def read(self, name: str, size: tuple[int, int]) -> Truth:
        """What is in the image of that name, which has (h, w) pixels. Raises InputError."""
        ...


def read_annotations(
    metric: Metric | FindingsMetric, named: str | os.PathLike[str] | None, *, zero_is_ignored: bool
) -> Annotations | None:
    """Those in a file or folder that a metric takes; None: it takes the classes of images alone.

    zero_is_ignored: of label maps, 0 stands for no class. Raises InputError, OptionError, MissingToolError.
    """
    if isinstance(metric, Metric):
        if named is not None:
            raise OptionError("annotations are of what is found in images.", "leave --annotations out.")
        return None
    metric.prepare()
    if named is None:
        what = f"{metric.name} is measured against what is in the images, which is not given."
        raise OptionError(what, FIX[metric.truth])
    path = Path(named)
    if not path.exists():
        raise InputError(f"{path} does not exist.", FIX[metric.truth])
    found: Annotations = list_label_maps(path, zero_is_ignored) if path.is_dir() else read_coco(path)
    if found.gives != metric.truth:
        raise InputError(f"{path} gives {found.gives}, and {metric.name} needs {metric.truth}.", FIX[metric.truth])
    if metric.masks and not found.has_masks:
        raise InputError(f"{path} gives no mask for some of the things.", "use annotations with segmentations.")
    if zero_is_ignored and found.gives != LABEL_MAP:
        raise OptionError("things have no class 0 to leave out.", "leave --reduce-zero-label out.")
    return found
