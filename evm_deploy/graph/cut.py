"""A graph cut at the operators that the page's module computes: parts for onnxruntime-web, and a plan of the steps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError
from evm_deploy.graph.schemas import register
from evm_deploy.graph.uses import list_used
from evm_deploy.jsontext import dumps
from evm_deploy.operators import find_operator

PLAN = "plan.json"
VERSION = 1  # of the plan
SMALL = 1024  # bytes from which on a part refers to a weight in the model's file and has no copy of it
# Types of values that pass between the parts and the kernels, as the page names them.
TYPES = {TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8", TensorProto.INT8: "int8", TensorProto.INT64: "int64"}


def split_graph(bundle: Bundle) -> dict[str, bytes]:
    """The files of the cut graph of an ONNX bundle by their names: PLAN, and parts. Nothing where nothing is to be cut.

    Weights stay where they are, in the bundle's model: parts name it as their external data, and the plan says at which
    of its bytes the weights of the kernels are. Raises BundleError.
    """
    model, file = bundle.read_model(), bundle.manifest.model_file
    try:
        proto = onnx.load_model_from_string(model)
    except DecodeError as error:
        raise BundleError(f"{bundle.model_path} is no ONNX model ({error}).", "export it again.") from error
    register()
    graph = _Cutter(onnx.shape_inference.infer_shapes(proto), model, file)
    steps, files = graph.write_steps()
    kernels = [step for step in steps if "operator" in step]
    if not kernels:
        return {}
    plan = {
        "version": VERSION,
        "steps": steps,
        "inputs": [value.name for value in proto.graph.input],
        "outputs": [value.name for value in proto.graph.output],
        "weights": graph.describe_weights(name for step in kernels for name in step["inputs"]),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    return {PLAN: dumps(plan).encode(), **files}


@dataclass
class _CutStage:
    """Nodes that onnxruntime-web runs, and then nodes that the kernels run, in the order of the graph."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    kernels: list[onnx.NodeProto] = field(default_factory=list)


class _Cutter:
    def __init__(self, proto: onnx.ModelProto, model: bytes, file: str) -> None:
        self._proto, self._model, self._file = proto, model, file
        graph = proto.graph
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                tensor = self._weights[node.output[0]] = onnx.TensorProto()
                tensor.CopyFrom(node.attribute[0].t)
                tensor.name = node.output[0]
            else:
                self._nodes.append(node)
        self._values = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}
        self._places: dict[str, int] = {}

    def write_steps(self) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
        """The steps in their order, and the parts by the names of their files."""
        stages = self._share_out()
        steps: list[dict[str, Any]] = []
        files: dict[str, bytes] = {}
        for at, stage in enumerate(stages):
            if stage.nodes:
                name = f"part{at}.onnx"
                later = {name for other in stages[at + 1 :] for name in list_used(other.nodes)}
                later |= {name for other in stages[at:] for node in other.kernels for name in node.input}
                later |= {value.name for value in self._proto.graph.output}
                part = self._write_part(stage.nodes, later)
                files[name] = part.SerializeToString(deterministic=True)
                inputs, outputs = ([value.name for value in values] for values in (part.graph.input, part.graph.output))
                steps.append({"part": name, "inputs": inputs, "outputs": outputs})
            steps += [self._describe(node) for node in stage.kernels]
        return steps, files

    def _share_out(self) -> list[_CutStage]:
        """Every node in the first stage in which what it needs is there."""
        ready: dict[str, int] = {}  # the stage from which on a part has the value
        made: dict[str, int] = {}  # the stage that makes it
        stages: list[_CutStage] = []
        for node in self._nodes:
            kernel = self._is_cut(node)
            needed = (made if kernel else ready).get
            stage = max((needed(name, 0) for name in list_used([node])), default=0)
            while len(stages) <= stage:
                stages.append(_CutStage())
            (stages[stage].kernels if kernel else stages[stage].nodes).append(node)
            for name in node.output:
                made[name], ready[name] = stage, stage + kernel
        return stages

    def _is_cut(self, node: onnx.NodeProto) -> bool:
        operator = find_operator(node)
        return operator is not None and operator.page and all(map(self._can_pass, node.input))

    def _can_pass(self, name: str) -> bool:
        """Whether the kernels can be given this value."""
        if name in self._weights:
            return self._weights[name].data_type in TYPES and self._find_place(self._weights[name]) >= 0
        return name in self._values and self._values[name].type.tensor_type.elem_type in TYPES

    def _write_part(self, nodes: Sequence[onnx.NodeProto], later: set[str]) -> onnx.ModelProto:
        made = {name for node in nodes for name in node.output}
        used = dict.fromkeys(name for name in list_used(nodes) if name not in made)
        inputs = [self._values[name] for name in used if name in self._values and name not in self._weights]
        outputs = [self._values[name] for node in nodes for name in node.output if name in later]
        weights = [self._refer(self._weights[name]) for name in used if name in self._weights]
        graph = helper.make_graph(nodes, "part", inputs, outputs, weights)
        part = helper.make_model(graph, opset_imports=self._proto.opset_import, ir_version=self._proto.ir_version)
        part.functions.extend(self._find_functions(nodes))
        return part

    def _find_functions(self, nodes: Iterable[onnx.NodeProto]) -> list[onnx.FunctionProto]:
        """Those that the nodes call, and those that these call."""
        needed = {(node.domain, node.op_type) for node in nodes}
        found = []
        for function in reversed(self._proto.functions):  # each stands after those that it calls
            if (function.domain, function.name) in needed:
                found.append(function)
                needed |= {(node.domain, node.op_type) for node in function.node}
        return found[::-1]

    def _refer(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """The weight as external data in the model's file, where it is not small."""
        place = self._find_place(tensor) if len(tensor.raw_data) >= SMALL else -1
        if place < 0:
            return tensor
        reference = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        reference.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self._file), ("offset", place), ("length", len(tensor.raw_data))):
            reference.external_data.add(key=key, value=str(value))
        return reference

    def _find_place(self, tensor: onnx.TensorProto) -> int:
        """At which byte of the model's file the numbers of a weight are; -1: nowhere."""
        if tensor.name not in self._places:
            self._places[tensor.name] = self._model.find(tensor.raw_data) if tensor.raw_data else -1
        return self._places[tensor.name]

    def _describe(self, node: onnx.NodeProto) -> dict[str, Any]:
        operator = find_operator(node)
        assert operator is not None
        given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        return {
            "operator": operator.name,
            "inputs": list(node.input),
            "attributes": [given[name] for name in operator.attributes],
            "output": node.output[0],
        }

    def describe_weights(self, names: Iterable[str]) -> dict[str, Any]:
        """Type, shape and place in the model's file of the weights among `names`."""
        found = {}
        for name in names:
            if name in self._weights:
                tensor = self._weights[name]
                place = {"offset": self._find_place(tensor)}
                found[name] = {"type": TYPES[tensor.data_type], "dims": list(tensor.dims), **place}
        return found
