"""onnxruntime on the CPU, as a stock installation runs the model, or with our operator library loaded."""

import types
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from evm_deploy.errors import BundleError
from evm_deploy.scan.native import native_library

STOCK, LIBRARY = "onnxruntime", "onnxruntime + evm_ops"


class OnnxRunner:
    """A session on a model file, or on the bytes of one.

    `library` loads the operator library; `threads` 0 leaves their number to onnxruntime.
    Raises BundleError when onnxruntime cannot load the model, MissingToolError when there is no library.
    """

    def __init__(self, model: Path | bytes, *, library: bool, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; the warnings concern the runtime's own optimiser
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.force_spinning_stop", "1")  # idle, it leaves the cores to others
        if library:
            options.register_custom_ops_library(str(native_library()))
        self.name = LIBRARY if library else STOCK
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # pybind's exceptions have no common base of their own
            reason = str(error).splitlines()[0]
            raise BundleError(f"onnxruntime cannot load the model: {reason}", "export the model again.") from error
        self._input = self._session.get_inputs()[0].name

    def run(self, image: npt.NDArray[np.generic]) -> list[npt.NDArray[np.float32]]:
        """The outputs, in the order of the graph, for `image` in the shape and dtype that the graph declares."""
        outputs: list[npt.NDArray[np.float32]] = self._session.run(None, {self._input: image})
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
