"""How a contender is run: one row a runtime, its library imported on use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import trtexec
from .bundle_files import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .bundle_files import Checked
    from .request import Contender, Request

    Rows = Mapping[str, "Row"]

TYPES = {"float32": "tensor(float)", "float16": "tensor(float16)", "uint8": "tensor(uint8)"}


class Runner:
    """A model that was loaded. call: from the input to the outputs; close: frees it."""

    def __init__(
        self,
        name: str,
        provider: str | None,
        call: Callable[[np.ndarray], list[np.ndarray]],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.provider, self.call, self.close = name, provider, call, close


class Row:
    """A runtime. `prepare` imports it and returns the versions that matter, `open` loads a model, in any process.

    measure: of a runtime that is a program of its own and times itself; it returns the fields of a result.
    Both raise Refused.
    """

    def __init__(
        self,
        prepare: Callable[[], dict[str, str]],
        open_: Callable[[Contender, Checked, Request], Runner] | None = None,
        measure: Callable[[Contender, Checked, Request], dict[str, Any]] | None = None,
    ) -> None:
        self.prepare, self.open, self.measure = prepare, open_, measure


def _import_onnxruntime() -> dict[str, str]:
    try:
        import onnxruntime
    except ImportError as error:
        raise Refused(f"onnxruntime cannot be imported ({line(error)}): pip install onnxruntime") from None
    return {"onnxruntime": onnxruntime.__version__}


def _open_onnxruntime(contender: Contender, bundle: Checked, request: Request) -> Runner:
    import onnxruntime

    if contender.provider not in onnxruntime.get_available_providers():
        offered = ", ".join(onnxruntime.get_available_providers())
        raise Refused(f"onnxruntime has no {contender.provider} here; it has {offered}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as well
    options.intra_op_num_threads = request.threads or len(request.affinity)
    options.add_session_config_entry("session.force_spinning_stop", "1")  # idle, it leaves the cores to others
    try:
        if contender.library:
            options.register_custom_ops_library(contender.library)
        providers = list(dict.fromkeys([contender.provider, "CPUExecutionProvider"]))
        session = onnxruntime.InferenceSession(str(bundle.model), options, providers=providers)
    except Exception as error:  # pybind's exceptions have no common base of their own
        raise Refused(f"onnxruntime cannot load the model: {line(error)}") from None
    if session.get_providers()[0] != contender.provider:
        raise Refused(f"onnxruntime fell back from {contender.provider} to the CPU")
    tensors = [(tensor.name, tensor.type) for tensor in (*session.get_inputs(), *session.get_outputs())]
    specs = [*bundle.manifest["inputs"], *bundle.manifest["outputs"]]
    if tensors != [(spec["name"], TYPES.get(spec["dtype"])) for spec in specs]:
        raise Refused("the model is not what its manifest says")
    name = tensors[0][0]

    def call(image: np.ndarray) -> list[np.ndarray]:
        return session.run(None, {name: image})  # type: ignore[no-any-return]

    return Runner("onnxruntime + evm_ops" if contender.library else "onnxruntime", contender.provider, call)


def line(error: BaseException) -> str:
    """The first line of an error, or its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")[:500]


ROWS: Rows = {
    "onnxruntime": Row(_import_onnxruntime, _open_onnxruntime),
    "trtexec": Row(dict, measure=trtexec.measure),
}
