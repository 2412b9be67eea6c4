"""Names the output of each block of the network after the block, so that a parity failure can be traced to one."""

import ast
import re

import onnx

_SCOPES = "pkg.torch.onnx.name_scopes"  # the exporter's record of the modules that a node came from, outermost first
_BLOCK = re.compile(r"(.*\.)?(patch_embed|layers\.\d+\.(blocks\.\d+|downsample|\d+)|classifier)")


def block_name(module: str) -> str:
    """The name of the value that the module of this path returns."""
    return f"{module}.output"


def name_blocks(proto: onnx.ModelProto) -> None:
    """Renames the last value of every block; the names of the graph's inputs and outputs stay."""
    last: dict[str, str] = {}
    for node in proto.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
        for scope in ast.literal_eval(scopes)[:-1]:  # the last is the node itself
            if _BLOCK.fullmatch(scope):
                last[scope] = node.output[0]
    fixed = {value.name for value in proto.graph.output}
    renamed = {value: block_name(scope) for scope, value in last.items() if value not in fixed}
    for node in proto.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in proto.graph.value_info:
        value.name = renamed.get(value.name, value.name)
