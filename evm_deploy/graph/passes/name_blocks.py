"""Names the output of each block of the network after the block, so that a parity failure can be traced to one."""

import ast
from collections.abc import Collection

import onnx

from evm_deploy.graph.blocks import output_of

_SCOPES = "pkg.torch.onnx.name_scopes"  # the exporter's record of the modules that a node came from, outermost first


def name_blocks(proto: onnx.ModelProto, blocks: Collection[str]) -> None:
    """Renames the last value of each of these modules; the names of the graph's inputs and outputs stay."""
    last: dict[str, str] = {}
    for node in proto.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
        for scope in ast.literal_eval(scopes)[:-1]:  # the last is the node itself
            if scope in blocks:
                last[scope] = node.output[0]
    fixed = {value.name for value in proto.graph.output}
    renamed = {value: output_of(scope) for scope, value in last.items() if value not in fixed}
    for node in proto.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in proto.graph.value_info:
        value.name = renamed.get(value.name, value.name)
