"""What can be asked of an export, and what each target can give."""

import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from evm_deploy.errors import OptionError, check_choice
from evm_deploy.manifest import LARGEST_IMAGE, SMALLEST_IMAGE, Channels, Interpolation, Preprocessing, Resize
from evm_deploy.options import check_ranges, option, spell_option
from evm_deploy.targets import TARGETS, Target
from evm_deploy.tasks import TASKS

OPSETS = range(18, 24)  # from Pad and ReduceSum with axes as inputs; onnxruntime 1.20 reads up to 21
# The oldest system that has to run a Core ML package, and the operations that it has, by the iOS that brought them.
DEPLOYMENT_TARGETS = {"iOS16": 16, "iOS17": 17, "iOS18": 18, "macOS13": 16, "macOS14": 17, "macOS15": 18}
# Those of classifiers; detectors and segmenters have one way, which is no choice.
INTERPOLATIONS = tuple(name for name in get_args(Interpolation) if name != "opencv_bilinear")
RESIZES = tuple(name for name in get_args(Resize) if name != "fit")
WEIGHTS = ("float", "int8", "palette6", "palette4")


def parse_image_size(text: str) -> tuple[int, int]:
    """(h, w) from `224` or `192x256`. Raises OptionError: anything else."""
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip(), flags=re.ASCII)
    if match is None:
        raise OptionError(f"--image-size {text!r} is not a size.", "write 224, or 192x256 for height and width.")
    return int(match[1]), int(match[2] or match[1])


def _parse_scale(text: str | None) -> tuple[int, int] | None:
    """(long, short) from `1333x800`. Raises OptionError: anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip(), flags=re.ASCII)
    if match is None:
        raise OptionError(f"--scale {text!r} is no long and short side.", "write 1333x800.")
    return int(match[1]), int(match[2])


def _parse_image_sizes(text: str) -> tuple[tuple[int, int], ...]:
    return tuple(map(parse_image_size, text.split(",")))


def _parse_numbers(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(map(float, text.split(",")))
    except ValueError:
        raise OptionError(f"{text!r} is not three numbers, as --mean and --std are.", "write 0.5,0.5,0.5.") from None


def _parse_names(text: str) -> tuple[str, ...]:
    return tuple(map(str.strip, text.split(","))) if text else ()


@dataclass(frozen=True)
class ExportOptions:
    """Options of `export`. Raises OptionError for a value that does not exist or that the target cannot give.

    scan_form: "operator", the scan as one operator that carries its meaning with it; "inlined", the same graph with
    the operator written out in standard ops, for tools that cannot read local functions (no native kernel then).
    """

    target: str = field(default="onnx", metadata=option(f"{', '.join(TARGETS)}."))
    precision: str = field(default="fp32", metadata=option("fp32 or fp16."))
    image_size: tuple[int, int] = field(  # (h, w)
        default=(224, 224),
        metadata=option(
            "224, or 192x256 for height and width; for Core ML several: 224,192x256.",
            kind=str,
            default="224",
            parse=lambda text: _parse_image_sizes(text)[0],
        ),
    )
    opset: int = field(default=20, metadata=option("ONNX opset.", minimum=OPSETS[0], maximum=OPSETS[-1]))
    dynamic_batch: bool = field(default=False, metadata=option("Any number of images."))
    dynamic_size: bool = field(default=False, metadata=option("Any height and width."))
    bake_preprocessing: bool = field(
        default=False, metadata=option("Take a uint8 NHWC image and normalise it in the model.")
    )
    # From a decoded image to the input of the model. None: as the checkpoint says, else the field's own default.
    mean: tuple[float, ...] | None = field(
        default=None,
        metadata=option(
            "Of each channel, in units of 0..1: 0.5,0.5,0.5; as the checkpoint says, else ImageNet's.",
            kind=str,
            parse=_parse_numbers,
            minimum=-1,
            maximum=1,
            fix="give it in units of 0..1: divide a mean of 0..255, and its std, by 255.",
        ),
    )
    std: tuple[float, ...] | None = field(
        default=None,
        metadata=option(
            "The same of the deviations.",
            kind=str,
            parse=_parse_numbers,
            minimum=1e-6,
            maximum=4,
            fix="give none that is 0, in units of 0..1: divide a std of 0..255, and its mean, by 255.",
        ),
    )
    crop_pct: float | None = field(
        default=None,
        metadata=option("What the crop keeps of the resized image, else 0.875.", kind=float, minimum=0.1, maximum=1),
    )
    interpolation: str | None = field(
        default=None, metadata=option(f"{', '.join(INTERPOLATIONS)}, as Pillow's; else bicubic.")
    )
    resize: str | None = field(
        default=None,
        metadata=option("cover: keep the aspect and crop; squash; letterbox: keep the aspect and pad. Else cover."),
    )
    channels: str | None = field(default=None, metadata=option("RGB or BGR: their order in the model; else RGB."))
    fill: int | None = field(
        default=None, metadata=option("What a letterbox is padded with, else 0.", kind=int, minimum=0, maximum=255)
    )
    scale: tuple[int, int] | None = field(
        default=None,
        metadata=option(
            "Of a detector or segmenter with --dynamic-size: the box that images are fitted into, long side x short "
            "side; as the checkpoint says, else 1333x800, or 2048x512 of segmenters.",
            kind=str,
            parse=_parse_scale,
        ),
    )
    softmax: bool = field(default=False, metadata=option("Give probabilities, not logits."))
    labels: str | os.PathLike[str] | None = field(
        default=None, metadata=option("A text file with a class name a line.", kind=Path)
    )
    scan_form: str | None = field(  # None: the first that the target has
        default=None, metadata=option("operator; inlined: standard operators only.")
    )
    deployment_target: str = field(
        default="iOS16", metadata=option(f"Core ML: the oldest system, {', '.join(DEPLOYMENT_TARGETS)}.")
    )
    weights: str = field(  # "palette4": as indices into 16 values
        default="float", metadata=option(f"Core ML: how weights are stored, {', '.join(WEIGHTS)}.")
    )
    # Core ML: a function for each further (h, w), on the same weights.
    more_sizes: tuple[tuple[int, int], ...] = field(
        default=(),
        metadata=option(
            "", "of several image sizes", read_from="image_size", parse=lambda text: _parse_image_sizes(text)[1:]
        ),
    )
    # What Xcode shows of the model.
    author: str = field(default="", metadata=option("Core ML, Core AI: who made the model."))
    licence: str = field(default="", metadata=option("Core ML, Core AI: its licence.", "--license"))
    version: str = field(default="", metadata=option("Core ML, Core AI: its version.", "--model-version"))
    description: str = field(default="", metadata=option("Core ML, Core AI: what it does."))
    compute_capabilities: tuple[str, ...] = field(  # (): all that the library offers
        default=(),
        metadata=option(
            "TensorRT: what engines are built for, such as 8.6,8.9; all by default.",
            "--compute-capability",
            kind=str,
            default="",
            parse=_parse_names,
        ),
    )
    plugin: bool = field(default=False, metadata=option("TensorRT: our CUDA kernels."))
    task: str | None = field(default=None, metadata=option("Of a module: what its outputs are, told by their shapes."))
    output_names: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "Names of the outputs, such as p3,p4.",
            kind=str,
            default="",
            parse=_parse_names,
        ),
    )
    raw: bool = field(default=False, metadata=option("Of a detector or segmenter: what its head gives, no last steps."))
    preprocessing: Preprocessing | None = None  # what the network was trained with; its size is `image_size`
    example: Any = None  # an input (1, 3, h, w) to trace a module with, a torch.Tensor, where zeros will not do
    key: str | None = field(default=None, metadata=option("The entry of the checkpoint that holds the weights."))
    scan: str | None = field(  # its tensors do not tell
        default=None, metadata=option("es2d; ss2d: trained with the full cross-scan.")
    )
    images: str | os.PathLike[str] | None = field(
        default=None, metadata=option("Verify on this image, or folder of images, as well.", kind=Path)
    )
    verify: bool = field(  # with the help of --no-verify
        default=True, metadata=option("Do not compare the result with PyTorch.")
    )
    overwrite: bool = field(default=False, metadata=option("Replace the bundle at --out."))

    def __post_init__(self) -> None:
        check_choice("target", self.target, TARGETS)
        target = TARGETS[self.target]
        if re.fullmatch(r"u?int\d+", str(self.precision)):
            fix = "export a float bundle, then: evm-deploy quantize BUNDLE --data IMAGES --out DIR."
            raise OptionError(f"export has no precision {self.precision!r}: integers need images to measure on.", fix)
        check_choice("precision", self.precision, target.precisions)
        if self.scan_form is not None:
            check_choice("scan form", self.scan_form, target.scan_forms)
        self._check_texts()
        self._check_offered(target)
        check_choice("deployment target", self.deployment_target, DEPLOYMENT_TARGETS)
        check_choice("form of weights", self.weights, WEIGHTS)
        self._check_pixels()
        check_ranges(self)
        for size in (self.image_size, *self.more_sizes):
            _check_size(size)
        sizes = (self.image_size, *self.more_sizes)
        if len(set(sizes)) != len(sizes):
            raise OptionError("an image size is given twice.", "give each size once.")

        if self.more_sizes and self.coreml_generation < 18:
            raise OptionError(
                f"several image sizes need functions, which {self.deployment_target} does not have.",
                "choose the deployment target iOS18 or macOS15, or one image size.",
            )

    def _check_texts(self) -> None:
        for name in ("author", "licence", "version", "description"):
            text = getattr(self, name)
            if not isinstance(text, str) or text != text.encode("utf-8", "replace").decode():
                raise OptionError(f"{name} is not text that UTF-8 can hold.", "write it in UTF-8.")
        if self.task is not None:
            check_choice("task", self.task, TASKS)
        names = self.output_names
        if not isinstance(names, tuple) or not all(isinstance(name, str) and name.isidentifier() for name in names):
            raise OptionError(f"output names {names!r} are no tuple of names.", 'write ("p3", "p4"), names alone.')
        if len(set(names)) != len(names):
            raise OptionError(f"an output name is there twice: {', '.join(names)}.", "tell the outputs apart.")
        if self.preprocessing is not None and not isinstance(self.preprocessing, Preprocessing):
            fix = "pass an evm_deploy.manifest.Preprocessing."
            raise OptionError(f"preprocessing is {type(self.preprocessing).__name__}.", fix)
        capabilities = self.compute_capabilities
        if not isinstance(capabilities, tuple) or not all(isinstance(name, str) for name in capabilities):
            raise OptionError(f"compute capabilities {capabilities!r} are no tuple of texts.", 'write ("8.6", "8.9").')
        if not isinstance(self.more_sizes, tuple):
            raise OptionError(f"more sizes {self.more_sizes!r} are no tuple.", "write ((192, 256),).")

    def _check_pixels(self) -> None:
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            if numbers is not None and (not isinstance(numbers, tuple) or len(numbers) != 3):
                raise OptionError(f"{name} {numbers!r} is not three numbers.", "give one a channel: 0.5,0.5,0.5.")
        for what, value, kind in (
            ("interpolation", self.interpolation, INTERPOLATIONS),
            ("way to resize", self.resize, RESIZES),
            ("order of channels", self.channels, get_args(Channels)),
        ):
            if value is not None:
                check_choice(what, value, kind)
        if self.scale is not None:
            _check_scale(self.scale)

    @property
    def coreml_generation(self) -> int:
        """The iOS whose Core ML operations there are on the deployment target."""
        return DEPLOYMENT_TARGETS[self.deployment_target]

    @property
    def gives_probabilities(self) -> bool:
        """Whether a classifier gives probabilities, not logits."""
        return self.softmax or (TARGETS[self.target].classifiers and self.labels is not None)

    def _check_offered(self, target: Target) -> None:
        """No option that the target does not have may be set: it would be dropped in silence."""
        special = {name for row in TARGETS.values() for name in row.offers}
        for one in fields(self):
            changed = getattr(self, one.name) != one.default
            if changed and one.name in special and one.name not in target.offers:
                having = " and ".join(name for name, row in TARGETS.items() if one.name in row.offers)
                name = spell_option(ExportOptions, one.name)
                raise OptionError(
                    f"the target {self.target} has no option {name}.",
                    f"leave it out; {having} has it." if " " not in having else f"leave it out; {having} have it.",
                )


def _check_scale(scale: object) -> None:
    pair = isinstance(scale, tuple) and len(scale) == 2 and all(isinstance(side, int) for side in scale)
    if not pair or not SMALLEST_IMAGE <= scale[1] <= scale[0] <= LARGEST_IMAGE:  # type: ignore[index]
        what = f"scale {scale!r} is no long and short side of {SMALLEST_IMAGE} to {LARGEST_IMAGE} pixels."
        raise OptionError(what, "write --scale 1333x800, in Python (1333, 800).")


def _check_size(size: object) -> None:
    if not isinstance(size, tuple) or len(size) != 2 or not all(isinstance(side, int) for side in size):
        raise OptionError(f"image size {size!r} is not (height, width).", "give two whole numbers.")
    h, w = size
    if any(not SMALLEST_IMAGE <= side <= LARGEST_IMAGE for side in size):
        raise OptionError(
            f"image size {h}x{w} is not within {SMALLEST_IMAGE} to {LARGEST_IMAGE} pixels a side.",
            "give one number (224) or height x width (192x256).",
        )
