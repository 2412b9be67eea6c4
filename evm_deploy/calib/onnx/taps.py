"""Reads inner values of a float graph."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.scan import native


class Tap:
    """Runs a graph on onnxruntime, with our operators if they are built, and returns the watched values by name.

    Raises BundleError when the graph cannot be run.
    """

    def __init__(self, proto: onnx.ModelProto, watched: Collection[str]) -> None:
        watching = onnx.ModelProto()
        watching.CopyFrom(proto)
        there = {value.name for value in proto.graph.output}
        self._image = proto.graph.input[0].name
        self._watched = set(watched)
        inner = [name for name in dict.fromkeys(watched) if name not in there and name != self._image]
        watching.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in inner)
        self._runner = OnnxRunner(watching.SerializeToString(), library=native.available(), threads=1)
        self._names = [name for name, _ in self._runner.tensors[1:]]

    def __call__(self, image: npt.NDArray[Any]) -> Mapping[str, npt.NDArray[np.float32]]:
        """image: of the shape and type of the graph's input."""
        values = dict(zip(self._names, self._runner.run(image), strict=True))
        if self._image in self._watched:
            values[self._image] = image
        return {name: value for name, value in values.items() if name in self._watched}
