"""The names of what scans give, in programs whose scans are written out: verification finds them by these."""

import re

import onnx

from evm_deploy.operators import find_operator

_NAME = re.compile(r"(?:^|_)scan_result_\d+_([A-Za-z0-9]+?)(?:_cast_fp16)?$")  # tools add to both sides


def name_result(number: int, operator: str) -> str:
    """The name of what a scan gives, the first of a program being number 0."""
    return f"scan_result_{number}_{operator}"


def find_scan(value: str) -> str | None:
    """The operator of the scan that gives the value of this name; None where none does."""
    match = _NAME.search(value)
    return match[1] if match else None


def name_results(proto: onnx.ModelProto) -> None:
    """Gives the results of the graph's scans these names, before their bodies take the place of the nodes."""
    nodes: list[onnx.NodeProto] = []
    scans = 0
    for node in proto.graph.node:
        made = onnx.NodeProto()
        made.CopyFrom(node)
        nodes.append(made)
        operator = find_operator(node)
        if operator is not None and operator.skip is not None:
            made.output[0] = name_result(scans, operator.name)
            nodes.append(onnx.helper.make_node("Identity", [made.output[0]], list(node.output), name=made.output[0]))
            scans += 1
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
