"""The names of what scans give, in programs whose scans are written out: verification finds them by these."""

import re
from collections.abc import Iterable
from typing import NamedTuple

import onnx

from evm_deploy.operators import find_operator
from evm_deploy.operators.ordered_scan import GROUPS

_RESULT = re.compile(r"(?:^|_)scan_result_\d+_([A-Za-z0-9]+?)(?:_cast_fp16)?$")  # tools add to both sides
_GROUPS = re.compile(rf"(?:^|_){GROUPS}(?:_+\d+)*(?:_cast_fp16)?$")


class NamedScan(NamedTuple):
    """A scan that is written out: its operator, and the names of its result and of what is added up to it."""

    operator: str
    result: str
    groups: str | None

    @property
    def names(self) -> list[str]:
        """Of all that it gives."""
        return [name for name in (self.result, self.groups) if name is not None]


def name_result(number: int, operator: str) -> str:
    """The name of what a scan gives, the first of a program being number 0."""
    return f"scan_result_{number}_{operator}"


def find_scans(values: Iterable[str]) -> list[NamedScan]:
    """The scans of a program that makes these values, in this order."""
    found, groups = [], None
    for value in values:
        if _GROUPS.search(value):
            groups = value
        elif match := _RESULT.search(value):
            found.append(NamedScan(match[1], value, groups))
            groups = None
    return found


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
