"""What the scans of an ONNX graph give: run again without D, or as they are where the graph has them written out."""

import types

import numpy as np
import numpy.typing as npt
import onnx

from evm_deploy.graph.scan_results import NamedScan, find_scans
from evm_deploy.operators import OPERATORS, find_operator
from evm_deploy.runtimes import ScanResult
from evm_deploy.runtimes.onnxruntime import OnnxRunner


class GraphScans:
    """A `ScanRunner` of a graph on onnxruntime, with or without our operator library."""

    def __init__(self, graph: bytes, *, library: bool) -> None:
        proto = onnx.load_from_string(graph)
        self._outputs = len(proto.graph.output)
        self._orders = _read_orders(proto)
        self._scans = _repeat_without_skip(proto)
        self._written = [] if self._scans else _give_results(proto)
        self._runner = OnnxRunner(proto.SerializeToString(), library=library)
        self.name = self._runner.name

    def run_scans(self, image: npt.NDArray[np.generic]) -> list[ScanResult]:
        """`ScanRunner.run_scans`."""
        if not self._scans and not self._written:
            return []
        found = iter(self._runner.run(image)[self._outputs :])
        if self._scans:
            scans = zip(self._scans, found, self._orders, strict=True)
            return [ScanResult(name, y, False, *order) for name, y, order in scans]
        return [
            ScanResult(scan.operator, next(found), True, groups=None if scan.groups is None else next(found))
            for scan in self._written
        ]

    def __enter__(self) -> "GraphScans":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._runner.close()


def _list_scans(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in proto.graph.node if (operator := find_operator(node)) and operator.skip]


def _read_orders(proto: onnx.ModelProto) -> list[tuple[npt.NDArray[np.int64], ...]]:
    """The order and the back of each scan; empty where it has none, or they are not constant."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    orders = []
    for scan in _list_scans(proto):
        operator = OPERATORS[scan.op_type]
        names = [scan.input[operator.place(name)] for name in ("order", "back") if name in operator.inputs]
        known = constants.keys() >= set(names)
        orders.append(tuple(onnx.numpy_helper.to_array(constants[name]) for name in names) if known else ())
    return orders


def _repeat_without_skip(proto: onnx.ModelProto) -> list[str]:
    """Adds to the graph, for each scan, the same scan with a D of 0, and its output. Returns the operators' names."""
    scans = _list_scans(proto)
    for i, scan in enumerate(scans):
        operator = OPERATORS[scan.op_type]
        assert operator.skip is not None
        place = operator.place(operator.skip)
        again, D, zeros = onnx.NodeProto(), scan.input[place], f"no_skip_{i}"
        again.CopyFrom(scan)
        again.name, again.input[place], again.output[0] = f"again_{i}", zeros, f"recurrence_{i}"
        proto.graph.node.extend([onnx.helper.make_node("Sub", [D, D], [zeros], name=zeros), again])
        proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(again.output[0]))
    return [scan.op_type for scan in scans]


def _give_results(proto: onnx.ModelProto) -> list[NamedScan]:
    """Adds outputs for what the scans give that are written out. Returns these scans."""
    scans = find_scans(name for node in proto.graph.node for name in node.output)
    names = [name for scan in scans for name in scan.names]
    proto.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, names))
    return scans
