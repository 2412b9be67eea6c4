"""What `manifest.json` says about a bundle: the schema, and its strict reader."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, get_args

from evm_deploy.errors import BundleError
from evm_deploy.files import check_relative
from evm_deploy.jsontext import OPTIONAL, check_version, dumps, read_dataclass, read_object
from evm_deploy.tasks import TASKS, IOSpec, describe_image
from evm_deploy.tasks.features import FEATURES

SCHEMA_VERSION = 1
SMALLEST_IMAGE, LARGEST_IMAGE = 32, 4096
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "opencv_bilinear"]
Resize = Literal["cover", "squash", "letterbox", "fit"]
Channels = Literal["RGB", "BGR"]

_STRICT = {"extra": "forbid", "strict": True}  # pydantic reads this attribute of a stdlib dataclass
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded RGB image to the model's input: resized, cropped at the centre, its channels put in the model's
    order, normalised.

    An image (h, w) is resized by `interpolation`, as Pillow's `Image.resize` does it (all but "nearest" antialiased):
    first along its rows and then, from 8 bits again, along its columns. Its new size depends on `resize` and
    `resize_size` (H, W); in integers, // rounding down:

    - "cover": (W * h // w, W) if W * h >= H * w, else (H, H * w // h): the least that covers (H, W);
    - "squash": (H, W), whatever the aspect;
    - "letterbox": (max(1, (2 * W * h + w) // (2 * w)), W) if W * h <= H * w, else (H, max(1, (2 * H * w + h) // (2 *
      h))): the most that fits, to the nearest pixel. It is pasted at (round((H - its height) / 2), round((W - its
      width) / 2)) on a canvas (H, W) whose channels all have the level `fill`.

    - "fit", with the interpolation "opencv_bilinear" alone, of detectors and segmenters: the same ratio, as large as
      fits into `image_size`, where the model takes one size. Zeros below and to the right of the normalised image then
      make it `image_size`. Else it is as large as fits into a box with sides `scale` (long, short), either way round.
      `keep_ratio.py` is the exact meaning. Nothing is cropped.

    Of any other result (h, w) the crop `image_size` begins at (round((h - crop height) / 2), round((w - crop width) /
    2)). Every `round` takes a half to the even number. Each channel x of 0..255, in the order `channels`, then becomes
    (x / 255 - mean) / std. With `baked` the model does this itself, and takes the crop, uint8, in the order `channels`.

    Raises ValueError for a value out of its range, and for a `fill` where nothing is padded.
    """

    __pydantic_config__: ClassVar[Any] = _STRICT

    image_size: tuple[int, int]  # (h, w)
    crop_pct: float = 0.875
    interpolation: Interpolation = "bicubic"
    channels: Channels = "RGB"  # the order in which the model takes them
    mean: tuple[float, float, float] = IMAGENET_MEAN  # in units of 0..1, in the order `channels`
    std: tuple[float, float, float] = IMAGENET_STD
    baked: bool = False
    resize: Resize = "cover"
    fill: int = 0  # what "letterbox" pads with, 0..255
    # Of "fit" in a model of any size: the long and the short side of the box. It is not written where there is none.
    scale: tuple[int, int] | None = field(default=None, metadata=OPTIONAL)

    def __post_init__(self) -> None:
        if not all(1 <= side <= LARGEST_IMAGE for side in self.image_size):
            raise ValueError(f"image size {self.image_size} is not within 1 to {LARGEST_IMAGE}")
        if not 0.1 <= self.crop_pct <= 1:
            raise ValueError(f"crop_pct {self.crop_pct} is not within 0.1 to 1")
        if not all(abs(mean) <= 1e6 for mean in self.mean) or not all(1e-6 <= std <= 1e6 for std in self.std):
            raise ValueError("mean is not within -1e6 to 1e6, or std not within 1e-6 to 1e6")
        for name, kind in (("interpolation", Interpolation), ("channels", Channels), ("resize", Resize)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(get_args(kind))}")
        if not 0 <= self.fill <= 255:
            raise ValueError(f"fill {self.fill} is not within 0 to 255")
        if self.fill and self.resize != "letterbox":
            raise ValueError(f"fill {self.fill} is what a letterbox is padded with, and resize is {self.resize}")

        if (self.resize == "fit") != (self.interpolation == "opencv_bilinear"):
            raise ValueError(f"resize {self.resize} with interpolation {self.interpolation}: fit is opencv_bilinear's")
        if self.resize == "fit" and self.crop_pct != 1:
            raise ValueError(f"crop_pct {self.crop_pct}, where nothing is cropped")
        if self.scale is not None:
            self._check_scale(*self.scale)

    def _check_scale(self, long: int, short: int) -> None:
        if self.resize != "fit":
            raise ValueError(f"scale {long} {short}, and resize is {self.resize}")
        if not SMALLEST_IMAGE <= short <= long <= LARGEST_IMAGE:
            raise ValueError(f"scale {long} {short} is no long and short side of {SMALLEST_IMAGE} to {LARGEST_IMAGE}")

    @property
    def resize_size(self) -> tuple[int, int]:
        """The (h, w) that `resize` speaks of: (256, 256) for 224."""
        h, w = self.image_size
        return math.floor(h / self.crop_pct), math.floor(w / self.crop_pct)


# The fields that say how a network was trained; the others are the size and the form of its input.
CHOSEN = tuple(one.name for one in fields(Preprocessing) if one.name not in ("image_size", "baked"))


@dataclass(frozen=True)
class CheckpointRecord:
    """Where the weights came from: the file's name (never its folder) and the hash of its bytes."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    file: str
    sha256: str
    key: str | None = None  # where in the file they are: a container, a prefix; None: the file holds nothing else

    def __post_init__(self) -> None:
        if re.search(r"[/\\]", self.file):
            raise ValueError("the checkpoint is recorded by name, without folders")
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError("sha256 is not 64 hexadecimal digits")

    def describe_key(self) -> str | None:
        """Which weights of the file were taken, for people; None where there is nothing to tell apart."""
        return None if self.key is None else f"the weights are those under {self.key} in {self.file}"


@dataclass(frozen=True)
class PreprocessingRecord:
    """Where `Preprocessing` was taken from, but for the defaults."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    sources: dict[str, str] = field(default_factory=dict)  # by the names of its fields
    remarks: tuple[str, ...] = ()  # what the checkpoint says and the bundle does not do, for people


@dataclass(frozen=True)
class SeparateGraph:
    """What follows the model of a target that lacks the operators for it: an ONNX graph of standard operators.

    Its inputs are that of the model and then `given`, the model's outputs; its outputs are those of the manifest.
    """

    __pydantic_config__: ClassVar[Any] = _STRICT

    file: str  # relative
    given: tuple[IOSpec, ...]

    def __post_init__(self) -> None:
        check_relative(self.file)
        FEATURES.check_outputs(self.given)


@dataclass(frozen=True)
class Manifest:
    """Everything an app needs to run the model in the same folder, and to know where it came from."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    task: str
    target: str
    precision: str
    model_file: str  # relative; a folder for targets whose model is one
    inputs: tuple[IOSpec, ...]
    outputs: tuple[IOSpec, ...]
    preprocessing: Preprocessing
    checkpoint: CheckpointRecord
    model: dict[str, Any]  # the model's configuration: dims, depths, ...
    scan_form: str
    tools: dict[str, str]  # name: version
    opset: int | None = None
    preprocessing_record: PreprocessingRecord = field(default_factory=PreprocessingRecord)
    more_sizes: tuple[tuple[int, int], ...] = ()  # further (h, w) of the image, each a function `size_<h>x<w>`
    labels: str | None = None  # relative name of a text file, a label a line
    parity: dict[str, Any] | None = None  # the parity report that gated the export; None: not verified
    last_steps: SeparateGraph | None = None  # None: the model gives the outputs itself
    calibration: dict[str, Any] | None = None
    build: dict[str, Any] | None = None  # what the exporter of the target has to say of its work
    files: dict[str, str] = field(default_factory=dict)  # relative name: sha256, all but the manifest
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name, digest in self.files.items():
            check_relative(name)
            if not _SHA256.fullmatch(digest):
                raise ValueError(f"the sha256 of {name!r} is not 64 hexadecimal digits")
        check_relative(self.model_file)
        if self.labels is not None:
            check_relative(self.labels)
        if not all(SMALLEST_IMAGE <= side <= LARGEST_IMAGE for size in self.more_sizes for side in size):
            raise ValueError(f"an image size is not within {SMALLEST_IMAGE} to {LARGEST_IMAGE}")
        self._check_tensors()

    def _check_tensors(self) -> None:
        """The input takes what the preprocessing gives, and the outputs are those of the task."""
        size = self.preprocessing.image_size
        image = describe_image(size, baked=self.preprocessing.baked)
        if min(size) < SMALLEST_IMAGE or len(self.inputs) != 1 or not self.inputs[0].takes(image):
            raise ValueError(f"inputs do not take the preprocessed image, {image.dtype} {image.shape}")
        if self.task not in TASKS:
            raise ValueError(f"task {self.task!r} is not one of {', '.join(TASKS)}")
        TASKS[self.task].check_outputs(self.outputs)

    @property
    def model_outputs(self) -> tuple[IOSpec, ...]:
        """What the model file gives: the outputs, or what they are made of by `last_steps`."""
        return self.outputs if self.last_steps is None else self.last_steps.given

    def describe_choices(self) -> tuple[str, ...]:
        """What was taken from the checkpoint or the options where another could have been, for people."""
        steps, record = self.preprocessing, self.preprocessing_record
        usual = Preprocessing(steps.image_size)
        changed = [name for name in CHOSEN if getattr(steps, name) != getattr(usual, name)]
        chosen = [
            ", ".join(f"{name} {spell_value(getattr(steps, name))}" for name in names) + f" by {source}"
            for source in dict.fromkeys(record.sources.values())
            if (names := [name for name in changed if record.sources.get(name) == source])
        ]
        pixels = f"images are prepared with {'; '.join(chosen)}" if chosen else None
        return tuple(filter(None, (self.checkpoint.describe_key(), pixels, *record.remarks)))

    def to_json(self) -> str:
        """The text of `manifest.json`; equal manifests give equal text."""
        return dumps(self)

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Reads untrusted text. Raises BundleError: not JSON, an unknown schema version, key, type or value."""
        what, fix = "manifest.json", "export the model again."
        found = read_object(text, what, BundleError, fix)
        check_version(found.get("schema_version"), SCHEMA_VERSION, what, BundleError)
        return read_dataclass(Manifest, text, what, BundleError, fix)


def spell_value(value: object) -> str:
    """Spells a value of `Preprocessing` for people."""
    if isinstance(value, tuple):
        return " ".join(map(spell_value, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
