"""What can be asked of an export, and what each target can give."""

import os
from dataclasses import dataclass

from evm_deploy.errors import OptionError, check_choice
from evm_deploy.manifest import LARGEST_IMAGE, SMALLEST_IMAGE

OPSETS = range(18, 24)  # from Pad and ReduceSum with axes as inputs; onnxruntime 1.20 reads up to 21


@dataclass(frozen=True)
class Target:
    """One row of the table of targets: the module that writes it, its file in the bundle, what it can give."""

    module: str
    model_file: str
    precisions: tuple[str, ...]
    scan_forms: tuple[str, ...]


TARGETS = {
    "onnx": Target("evm_deploy.exporters.onnx", "model.onnx", ("fp32", "fp16"), ("operator", "inlined")),
}


@dataclass(frozen=True)
class ExportOptions:
    """Options of `export`. Raises OptionError for a value that does not exist or that the target cannot give.

    scan_form: "operator", the scan as one operator that carries its meaning with it; "inlined", the same graph with
    the operator written out in standard ops, for tools that cannot read local functions (no native kernel then).
    """

    target: str = "onnx"
    precision: str = "fp32"
    image_size: tuple[int, int] = (224, 224)  # (h, w)
    opset: int = 20
    dynamic_batch: bool = False
    dynamic_size: bool = False
    bake_preprocessing: bool = False  # the model takes a uint8 NHWC image
    softmax: bool = False
    labels: str | os.PathLike[str] | None = None  # a text file, a label a line
    scan_form: str = "operator"
    verify: bool = True
    images: str | os.PathLike[str] | None = None  # real images for the verification: a file or a folder
    key: str | None = None  # which state dict of the checkpoint
    scan: str = "es2d"  # "ss2d": the checkpoint was trained with the full cross-scan, which its tensors do not tell
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_choice("target", self.target, TARGETS)
        target = TARGETS[self.target]
        check_choice("precision", self.precision, target.precisions)
        check_choice("scan form", self.scan_form, target.scan_forms)
        if self.opset not in OPSETS:
            offered = f"{OPSETS[0]} to {OPSETS[-1]}"
            raise OptionError(f"opset {self.opset} is not one of {offered}.", f"choose an opset from {offered}.")
        sides = self.image_size if isinstance(self.image_size, tuple) else ()
        if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
            raise OptionError(f"image size {self.image_size!r} is not (height, width).", "give two whole numbers.")
        if any(not SMALLEST_IMAGE <= side <= LARGEST_IMAGE for side in sides):
            h, w = sides
            raise OptionError(
                f"image size {h}x{w} is not within {SMALLEST_IMAGE} to {LARGEST_IMAGE} pixels a side.",
                "give one number (224) or height x width (192x256).",
            )
