"""Runs a graph by one of the tools that read ONNX. Needs NumPy and that tool, so that each may have its own Python.

python run_consumer.py                              prints the tools that are here and their versions, as JSON
python run_consumer.py TOOL MODEL INPUT.npy OUTPUT.npy
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def run_onnxruntime(model: Path, x: Array) -> Array:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def prepare_for_quantisation(model: Path, x: Array) -> Array:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # for it leaves files where it runs
        quant_pre_process(model, Path(folder, "prepared.onnx"))
        return run_onnxruntime(Path(folder, "prepared.onnx"), x)


def run_reference(model: Path, x: Array) -> Array:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(model))
    return np.asarray(evaluator.run(None, {evaluator.input_names[0]: x})[0])


def run_openvino(model: Path, x: Array) -> Array:
    import openvino

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled(x)[0])


def simplify_by_onnxsim(model: Path, x: Array) -> Array:
    import onnx
    import onnxsim

    return _run_changed(onnxsim.simplify(onnx.load(model))[0], x)


def simplify_by_onnxslim(model: Path, x: Array) -> Array:
    import onnx
    import onnxslim

    return _run_changed(onnxslim.slim(onnx.load(model)), x)


def fold_by_polygraphy(model: Path, x: Array) -> Array:
    import onnx
    from polygraphy.backend.onnx import fold_constants

    return _run_changed(fold_constants(onnx.load(model)), x)


def run_mnn(model: Path, x: Array) -> Array:
    import MNN.nn
    import onnx

    graph = onnx.load(model).graph
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder, "model.mnn")
        convert = "from MNN.tools import mnnconvert; mnnconvert.main()"
        options = ["-f", "ONNX", "--modelFile", str(model), "--MNNModel", str(converted), "--bizCode", "evm"]
        subprocess.run([sys.executable, "-c", convert, *options], check=True, stdout=subprocess.DEVNULL)
        network = MNN.nn.load_module_from_file(str(converted), [graph.input[0].name], [graph.output[0].name])
    variable = MNN.expr.placeholder(list(x.shape), MNN.expr.NCHW)
    variable.write(x)
    return np.array(MNN.expr.convert(network.forward([variable])[0], MNN.expr.NCHW).read())


def run_ncnn(model: Path, x: Array) -> Array:
    import ncnn
    import pnnx

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "model.onnx")
        copy.write_bytes(model.read_bytes())
        shape = f"inputshape=[{','.join(map(str, x.shape))}]"
        subprocess.run([Path(pnnx.__file__).parent / "pnnx", copy, shape], check=True, stdout=subprocess.DEVNULL)
        network = ncnn.Net()
        network.load_param(str(copy.with_suffix(".ncnn.param")))
        network.load_model(str(copy.with_suffix(".ncnn.bin")))
    with network.create_extractor() as extractor:
        extractor.input("in0", ncnn.Mat(x[0]))
        return np.array(extractor.extract("out0")[1])[None]


def run_tract(model: Path, x: Array) -> Array:
    import tract

    loaded = tract.onnx().load(model)
    loaded.set_input_fact(0, f"{','.join(map(str, x.shape))},f32")
    return np.asarray(loaded.into_model().into_runnable().run([x])[0].to_numpy())


def _run_changed(proto: Any, x: Array) -> Array:
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        onnx.save(proto, Path(folder, "changed.onnx"))
        return run_onnxruntime(Path(folder, "changed.onnx"), x)


# the tool: the packages that it needs, the first of which gives its version
TOOLS: dict[str, tuple[tuple[str, ...], Callable[[Path, Array], Array]]] = {
    "onnxruntime": (("onnxruntime",), run_onnxruntime),
    "quant_pre_process": (("onnxruntime", "onnx", "sympy"), prepare_for_quantisation),
    "ReferenceEvaluator": (("onnx",), run_reference),
    "OpenVINO": (("openvino",), run_openvino),
    "onnxsim": (("onnxsim",), simplify_by_onnxsim),
    "onnxslim": (("onnxslim",), simplify_by_onnxslim),
    "polygraphy": (("polygraphy", "onnx-graphsurgeon"), fold_by_polygraphy),
    "MNN": (("MNN",), run_mnn),
    "ncnn": (("ncnn", "pnnx"), run_ncnn),
    "tract": (("tract",), run_tract),
}


def list_tools() -> dict[str, str]:
    """The tools that this Python has, with the versions."""
    found = {}
    for name, (packages, _) in TOOLS.items():
        try:
            versions = [importlib.metadata.version(package) for package in packages]
        except importlib.metadata.PackageNotFoundError:
            continue
        found[name] = versions[0]
    return found


def main() -> None:
    """Prints the tools, or runs one."""
    if len(sys.argv) == 1:
        print(json.dumps(list_tools()))
        return
    tool, model, given, result = sys.argv[1:]
    target = Path(result).resolve()
    np.save(target, TOOLS[tool][1](Path(model).resolve(), np.load(given)))


if __name__ == "__main__":
    main()
