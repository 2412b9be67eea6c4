"""The table of targets: what a bundle can be made for. Data only; each stage has a module for each target."""

from dataclasses import dataclass
from pathlib import PurePath

from evm_deploy.errors import BundleError


@dataclass(frozen=True)
class PythonPackage:
    """A Python package that a target needs beside those that every installation has."""

    module: str
    name: str  # as pip calls it
    purpose: str  # what cannot be done without it
    python: tuple[int, int] = (3, 10)  # the oldest that has it
    glibc: tuple[int, int] = (2, 17)  # the same, on Linux


@dataclass(frozen=True)
class Target:
    """One row of the table. `exporter`, `quantizer` and `runtime` are modules, each in the folder of its stage."""

    model_file: str  # its name in the bundle
    exporter: str  # in `exporters/`: writes the model
    quantizer: str | None  # in `calib/`: turns it to integers; None: nothing does
    runtime: str  # in `runtimes/`: runs it
    precisions: tuple[str, ...]
    scan_forms: tuple[str, ...]  # the first is the default
    offers: tuple[str, ...]  # the options of an export that not every target has
    platforms: tuple[str, ...]  # whose packages take its bundles
    packages: tuple[PythonPackage, ...] = ()
    writes_folder: bool = False  # the model file is a folder
    classifiers: bool = False  # labels become a part of the model, which then gives probabilities
    finds_any_number: bool = False  # has operators whose results are as many as the image decides
    searches: bool = False  # its quantiser can measure which parts to turn to integers
    quantized_from: str | None = None  # the target whose float bundles its quantiser takes, where not its own

    @property
    def suffix(self) -> str:
        """How the name of the model file ends."""
        return PurePath(self.model_file).suffix

    @property
    def is_onnx_graph(self) -> bool:
        """Whether the model file is an ONNX graph, which other tools read too."""
        return self.suffix == ".onnx"

    @property
    def is_portable(self) -> bool:
        """Whether onnxruntime is what runs the model: on any processor, on phones and in browsers."""
        return self.runtime == "onnxruntime"


TARGETS = {
    "onnx": Target(
        model_file="model.onnx",
        exporter="onnx",
        quantizer="onnx.quantize",
        runtime="onnxruntime",
        precisions=("fp32", "fp16"),
        scan_forms=("operator", "inlined"),
        offers=("opset", "dynamic_batch", "dynamic_size"),
        platforms=("android", "jetson", "linux", "web"),
        finds_any_number=True,
        searches=True,
    ),
    "coreml": Target(
        model_file="model.mlpackage",
        exporter="coreml.export",
        quantizer="coreml.quantize",
        runtime="coreml",
        precisions=("fp32", "fp16"),
        scan_forms=("inlined",),
        offers=("deployment_target", "weights", "more_sizes", "author", "licence", "version", "description"),
        platforms=("ios",),
        packages=(PythonPackage("coremltools", "coremltools", "--target coreml"),),
        writes_folder=True,
        classifiers=True,
    ),
    "tensorrt": Target(
        model_file="model.onnx",
        exporter="tensorrt.export",
        quantizer="tensorrt",
        runtime="tensorrt",
        precisions=("fp32", "fp16"),
        scan_forms=("operator",),
        offers=("opset", "dynamic_batch", "compute_capabilities", "plugin"),
        platforms=("jetson",),
        packages=(
            PythonPackage("tensorrt", "tensorrt", "engines for the GPU in this machine"),
            PythonPackage("tensorrt_rtx", "tensorrt-rtx-cu13", "engines built without a GPU"),
        ),
    ),
    "openvino": Target(
        model_file="model.onnx",
        exporter="openvino",
        quantizer="openvino",
        runtime="openvino",
        precisions=("fp32", "fp16"),
        scan_forms=("inlined",),
        offers=("opset", "dynamic_batch", "dynamic_size"),
        platforms=(),
        packages=(PythonPackage("openvino", "openvino", "--target openvino"),),
        finds_any_number=True,
        quantized_from="onnx",  # in the other form a scan cannot be told from layers
    ),
    "coreai": Target(
        model_file="model.aimodel",
        exporter="coreai.export",
        quantizer=None,
        runtime="coreai",
        precisions=("fp32", "fp16"),
        scan_forms=("inlined",),
        offers=("author", "licence", "version", "description"),
        platforms=(),
        packages=(
            PythonPackage("coreai", "coreai-core", "--target coreai", python=(3, 11), glibc=(2, 34)),
            PythonPackage("coreai_torch", "coreai-torch", "export --target coreai", python=(3, 11)),
        ),
        writes_folder=True,
    ),
}


def target_of(name: str) -> Target:
    """The row of a target that a manifest names. Raises BundleError: it is not known here."""
    if name not in TARGETS:
        raise BundleError(f"target {name!r} is not known here.", "use a newer evm-deploy.")
    return TARGETS[name]


def targets_for(platform: str) -> list[str]:
    """The targets whose bundles the packages of a platform take."""
    return [name for name, row in TARGETS.items() if platform in row.platforms]
