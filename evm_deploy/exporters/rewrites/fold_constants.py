"""What is computed from weights alone is computed once: it becomes a weight itself."""

import torch
from torch.fx import Node

from evm_deploy.exporters.rewrites.constants import Constants


def fold_constants(program: torch.export.ExportedProgram) -> None:
    """Rewrites `program`, which mutates nothing, in place; what would be larger than what it is made of stays."""
    constants = Constants(program)
    for node in list(program.graph.nodes):
        value = constants.find(node) if node.op == "call_function" and node.all_input_nodes else None
        if value is None or not any(_computes(user, constants) for user in node.users):
            continue
        if value.numel() <= sum(weight.meta["val"].numel() for weight in _list_weights(node)):
            node.replace_all_uses_with(constants.add(node.name, value, like=node))
    program.graph.eliminate_dead_code()


def _computes(user: Node, constants: Constants) -> bool:
    return user.op == "call_function" and constants.find(user) is None


def _list_weights(node: Node) -> set[Node]:
    """The weights that it is made of."""
    found, waiting = set(), [node]
    while waiting:
        each = waiting.pop()
        if each.op == "placeholder":
            found.add(each)
        waiting += each.all_input_nodes
    return found
