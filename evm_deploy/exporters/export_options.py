"""What can be asked of an export, and what each target can give."""

import os
from dataclasses import dataclass, fields

from evm_deploy.errors import OptionError, check_choice
from evm_deploy.manifest import LARGEST_IMAGE, SMALLEST_IMAGE
from evm_deploy.targets import TARGETS, Target

OPSETS = range(18, 24)  # from Pad and ReduceSum with axes as inputs; onnxruntime 1.20 reads up to 21
# The oldest system that has to run a Core ML package, and the operations that it has, by the iOS that brought them.
DEPLOYMENT_TARGETS = {"iOS16": 16, "iOS17": 17, "iOS18": 18, "macOS13": 16, "macOS14": 17, "macOS15": 18}
WEIGHTS = ("float", "int8", "palette6", "palette4")
# Options that the command line calls otherwise than by their names here.
SPELLINGS = {
    "compute_capabilities": "--compute-capability",
    "licence": "--license",
    "more_sizes": "of several image sizes",
    "version": "--model-version",
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
    scan_form: str | None = None  # None: the first that the target has
    deployment_target: str = "iOS16"  # Core ML: the oldest system that has to run it
    weights: str = "float"  # Core ML: how the weights are stored; "palette4": as indices into 16 values
    more_sizes: tuple[tuple[int, int], ...] = ()  # Core ML: a function for each further (h, w), on the same weights
    author: str = ""  # Core ML: what Xcode shows of the model, as are the next three
    licence: str = ""
    version: str = ""
    description: str = ""
    compute_capabilities: tuple[str, ...] = ()  # TensorRT: what engines are built for; (): all that the library offers
    plugin: bool = False  # TensorRT: the scan by our CUDA kernel, not by standard layers
    verify: bool = True
    images: str | os.PathLike[str] | None = None  # real images for the verification: a file or a folder
    key: str | None = None  # which state dict of the checkpoint
    scan: str | None = (
        None  # "ss2d": the checkpoint was trained with the full cross-scan, which its tensors do not tell
    )
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_choice("target", self.target, TARGETS)
        target = TARGETS[self.target]
        check_choice("precision", self.precision, target.precisions)
        if self.scan_form is not None:
            check_choice("scan form", self.scan_form, target.scan_forms)
        self._check_texts()
        self._check_offered(target)
        check_choice("deployment target", self.deployment_target, DEPLOYMENT_TARGETS)
        check_choice("form of weights", self.weights, WEIGHTS)
        if self.opset not in OPSETS:
            offered = f"{OPSETS[0]} to {OPSETS[-1]}"
            raise OptionError(f"opset {self.opset} is not one of {offered}.", f"choose an opset from {offered}.")
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
        capabilities = self.compute_capabilities
        if not isinstance(capabilities, tuple) or not all(isinstance(name, str) for name in capabilities):
            raise OptionError(f"compute capabilities {capabilities!r} are no tuple of texts.", 'write ("8.6", "8.9").')
        if not isinstance(self.more_sizes, tuple):
            raise OptionError(f"more sizes {self.more_sizes!r} are no tuple.", "write ((192, 256),).")

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
        for field in fields(self):
            changed = getattr(self, field.name) != field.default
            if changed and field.name in special and field.name not in target.offers:
                having = " and ".join(name for name, row in TARGETS.items() if field.name in row.offers)
                name = SPELLINGS.get(field.name, "--" + field.name.replace("_", "-"))
                raise OptionError(
                    f"the target {self.target} has no option {name}.",
                    f"leave it out; {having} has it." if " " not in having else f"leave it out; {having} have it.",
                )


def _check_size(size: object) -> None:
    if not isinstance(size, tuple) or len(size) != 2 or not all(isinstance(side, int) for side in size):
        raise OptionError(f"image size {size!r} is not (height, width).", "give two whole numbers.")
    h, w = size
    if any(not SMALLEST_IMAGE <= side <= LARGEST_IMAGE for side in size):
        raise OptionError(
            f"image size {h}x{w} is not within {SMALLEST_IMAGE} to {LARGEST_IMAGE} pixels a side.",
            "give one number (224) or height x width (192x256).",
        )
