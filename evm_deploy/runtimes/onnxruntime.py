"""onnxruntime on the CPU, as a stock installation runs the model, or with our operator library loaded."""

import functools
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, OutputError, first_line
from evm_deploy.runtimes import Ways
from evm_deploy.scan import native

EXPORT_AGAIN = "export the model again."
STOCK, LIBRARY = "onnxruntime", "onnxruntime + evm_ops"
NO_LIBRARY = "the operator library is not built here: only the portable form was run (see `evm-deploy doctor`)"
TYPES = {"float32": "tensor(float)", "float16": "tensor(float16)"} | {
    name: f"tensor({name})" for name in ("uint8", "int32", "int64")
}


def find_ways(bundle: Bundle) -> Ways:
    """A stock installation, and one with our operator library where it is built and the graph has our operators."""
    notes = () if bundle.manifest.scan_form == "inlined" or native.available() else (NO_LIBRARY,)
    return Ways(tuple(functools.partial(open_bundle, bundle, library=form) for form in list_forms(bundle)), notes)


def list_forms(bundle: Bundle) -> list[bool]:
    """Whether our operator library is loaded, of each way to run the graph here."""
    return [False] if bundle.manifest.scan_form == "inlined" or not native.available() else [False, True]


def find_obstacle_to_run() -> str | None:
    """`Runtime.find_obstacle_to_run`."""
    return None


def find_obstacle_to_time() -> str | None:
    """`Runtime.find_obstacle_to_time`."""
    return None


def open_bundle(bundle: Bundle, *, library: bool) -> "OnnxRunner":
    """A runner of the bundle's model, which has the input and the outputs that the manifest declares.

    Raises BundleError: it has others, onnxruntime cannot load it, or some processors would add its integers wrongly.
    """
    manifest = bundle.manifest
    model = bundle.read_model()
    if manifest.calibration is not None:
        _check_integer_weights(model, bundle.model_path)
    runner = OnnxRunner(model, library=library and native.available())
    declared = [(spec.name, TYPES[spec.dtype]) for spec in (*manifest.inputs, *manifest.model_outputs)]
    runner.check_tensors(declared, f"the model in {bundle.path}")
    return runner


class OnnxRunner:
    """A session on a model file, or on the bytes of one.

    `library` loads the operator library; `threads` 0 leaves their number to onnxruntime.
    Raises BundleError when onnxruntime cannot load the model, MissingToolError when there is no library.
    """

    untimed = None

    def __init__(self, model: Path | bytes, *, library: bool, threads: int = 0) -> None:
        self.name = LIBRARY if library else STOCK
        self._session = _open_session(model, _make_options(library=library, threads=threads))
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.tensors = [(tensor.name, tensor.type) for tensor in (*inputs, *outputs)]

    def check_tensors(self, declared: Sequence[tuple[str, str]], title: str) -> None:
        """Raises BundleError unless the inputs and outputs have these names and types."""
        if self.tensors != declared:
            found = ", ".join(f"{name} {kind}" for name, kind in self.tensors)
            raise BundleError(f"{title} is not what its manifest says: it has {found}.", EXPORT_AGAIN)

    def run(self, image: npt.NDArray[np.generic], *more: npt.NDArray[np.generic]) -> list[npt.NDArray[np.float32]]:
        """The outputs, in the order of the graph, for its inputs in the shapes and dtypes that the graph declares.

        Raises BundleError when the model cannot be run on them.
        """
        names = [name for name, _ in self.tensors]
        try:
            given = dict(zip(names, (image, *more), strict=False))
            outputs: list[npt.NDArray[np.float32]] = self._session.run(None, given)
        except Exception as error:
            what = f"onnxruntime cannot run the model on {image.dtype} {image.shape}"
            raise BundleError(f"{what}: {first_line(error)}.", EXPORT_AGAIN) from error
        return outputs

    def close(self) -> None:
        """Frees the session."""
        del self._session

    def __enter__(self) -> "OnnxRunner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


def profile_graph(
    model: bytes,
    image: npt.NDArray[np.generic],
    folder: Path,
    *,
    library: bool,
    runs: int = 1,
    threads: int = 1,
    between: Callable[[], None] | None = None,
) -> tuple[Path, Path]:
    """Runs `model` on `image`, and returns two files in `folder`: the graph as the runtime optimised it (ONNX), and
    its record of the nodes that it ran (JSON). `between` is called before each of the runs.

    Raises BundleError when the model cannot be loaded or run, OutputError when the folder's disk is full.
    """
    options = _make_options(library=library, threads=threads)
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    try:
        session = _open_session(model, options)
    except BundleError:
        _open_session(
            model, _make_options(library=library, threads=1)
        ).get_inputs()  # raises as well where the model is at fault
        fix = "free some space there, or set TMPDIR to another folder."
        raise OutputError(f"onnxruntime cannot write its graph to the temporary folder {folder}.", fix) from None
    try:
        for _ in range(runs):
            if between is not None:
                between()
            session.run(None, {session.get_inputs()[0].name: image})
    except Exception as error:
        raise BundleError(f"onnxruntime cannot run the model: {first_line(error)}.", EXPORT_AGAIN) from error
    return folder / "optimised.onnx", Path(session.end_profiling())


def _check_integer_weights(model: bytes, path: Path) -> None:
    """Raises BundleError for weights with which processors without VNNI would saturate."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from evm_deploy.graph.integer_weights import find_oversized_pairs

    try:
        oversized = find_oversized_pairs(onnx.load_model_from_string(model))
    except (DecodeError, ValueError) as error:
        raise BundleError(f"{path} cannot be read as ONNX ({first_line(error)}).", EXPORT_AGAIN) from error
    if oversized:
        raise BundleError(
            f"the integers of {oversized[0]} in {path} are so large that processors without VNNI give wrong sums.",
            "quantize the float bundle again.",
        )


def _make_options(*, library: bool, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as well; the warnings concern the runtime's own optimiser
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # idle, it leaves the cores to others
    if library:
        options.register_custom_ops_library(str(native.find_usable_library()))
    return options


def _open_session(model: Path | bytes, options: Any) -> Any:
    """Raises BundleError when onnxruntime cannot load the model."""
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # pybind's exceptions have no common base of their own
        raise BundleError(f"onnxruntime cannot load the model: {first_line(error)}.", EXPORT_AGAIN) from error
