"""How to run a contender: a row for each runtime. Its library is imported when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import trtexec
from .bundle_files import Unmeasurable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .bundle_files import CheckedBundle
    from .request import AgentContender, AgentRequest

    Rows = Mapping[str, "AgentRuntime"]

TYPES = {
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
    "uint8": "tensor(uint8)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
}


class AgentRunner:
    """A loaded model. call: runs it on an input and returns the outputs; close: frees it."""

    def __init__(
        self,
        name: str,
        provider: str | None,
        call: Callable[[np.ndarray], list[np.ndarray]],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.provider, self.call, self.close = name, provider, call, close


class AgentRuntime:
    """A runtime. `prepare` imports it and returns the relevant versions. `open` loads a model, in any process.

    measure: for a runtime that is a separate program and times itself; returns the fields of a result.
    All raise Unmeasurable.
    """

    def __init__(
        self,
        prepare: Callable[[], dict[str, str]],
        open_: Callable[[AgentContender, CheckedBundle, AgentRequest], AgentRunner] | None = None,
        measure: Callable[[AgentContender, CheckedBundle, AgentRequest], dict[str, Any]] | None = None,
    ) -> None:
        self.prepare, self.open, self.measure = prepare, open_, measure


def _import_onnxruntime() -> dict[str, str]:
    try:
        import onnxruntime
    except ImportError as error:
        raise Unmeasurable(
            f"onnxruntime cannot be imported ({take_first_line(error)}): pip install onnxruntime"
        ) from None
    return {"onnxruntime": onnxruntime.__version__}


def _open_onnxruntime(contender: AgentContender, bundle: CheckedBundle, request: AgentRequest) -> AgentRunner:
    import onnxruntime

    if contender.provider not in onnxruntime.get_available_providers():
        offered = ", ".join(onnxruntime.get_available_providers())
        raise Unmeasurable(f"onnxruntime on this machine has no {contender.provider}; it has {offered}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # only fatal messages: errors are raised anyway
    options.intra_op_num_threads = request.threads or len(request.affinity)
    options.add_session_config_entry("session.force_spinning_stop", "1")  # an idle session must not occupy cores
    try:
        if contender.library:
            options.register_custom_ops_library(contender.library)
        providers = list(dict.fromkeys([contender.provider, "CPUExecutionProvider"]))
        session = onnxruntime.InferenceSession(str(bundle.model), options, providers=providers)
    except Exception as error:  # pybind's exceptions have no common base class
        raise Unmeasurable(f"onnxruntime cannot load the model: {take_first_line(error)}") from None
    if session.get_providers()[0] != contender.provider:
        raise Unmeasurable(f"onnxruntime fell back from {contender.provider} to the CPU")
    tensors = [(tensor.name, tensor.type) for tensor in (*session.get_inputs(), *session.get_outputs())]
    specs = [*bundle.manifest["inputs"], *bundle.manifest["outputs"]]
    if tensors != [(spec["name"], TYPES.get(spec["dtype"])) for spec in specs]:
        raise Unmeasurable("the model is not what its manifest says")
    name = tensors[0][0]

    def call(image: np.ndarray) -> list[np.ndarray]:
        return session.run(None, {name: image})  # type: ignore[no-any-return]

    return AgentRunner("onnxruntime + evm_ops" if contender.library else "onnxruntime", contender.provider, call)


def take_first_line(error: BaseException) -> str:
    """The first line of an error, or its type."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")[:500]


ROWS: Rows = {
    "onnxruntime": AgentRuntime(_import_onnxruntime, _open_onnxruntime),
    "trtexec": AgentRuntime(dict, measure=trtexec.measure),
}
