"""Marks what scans give while a program is decomposed, and names it then, so that verification finds it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from evm_deploy.exporters.recurrence import FORMS, Form
from evm_deploy.graph.scan_results import name_result
from evm_deploy.operators.ordered_scan import GROUPS

ALIAS = torch.ops.aten.alias.default
# By the names of the torch operators, for a node of what they became has a copy of its operator.
SCANS = {str(op): form.operator for op, form in FORMS.items() if form.D is not None}
Decompose = Callable[..., Tensor]


def mark_forms() -> dict[Any, Decompose]:
    """Every operator of ours in standard operations, what scans give marked; for `run_decompositions`."""
    return {op: _mark_results(form) for op, form in FORMS.items()}


def _mark_results(form: Form) -> Decompose:
    """The form of a scan, its result marked by two aliases, and what is added up to it by four: one is an index of
    everything too, so that there may be one more of each. What the graph computes in is what the scan computes in."""

    def run(*arguments: Any, **options: Any) -> Tensor:
        return form.run(*arguments, dtype=arguments[0].dtype, **options)

    if form.D is None:
        return form.run

    def mark(value: Tensor, aliases: int = 2) -> Tensor:
        for _ in range(aliases):
            value = ALIAS(value)
        return value

    return lambda *arguments: mark(run(*arguments, mark=lambda groups: mark(groups, 4)))


def name_results(graph: torch.fx.Graph) -> None:
    """Names what is marked, and takes the marks out."""
    number, groups = 0, None
    for mark in graph.find_nodes(op="call_function", target=ALIAS):
        if any(user.target is ALIAS for user in mark.users):  # the last of several
            continue
        result, aliases = mark, 0
        while result.target is ALIAS:
            result, aliases = result.args[0], aliases + 1
        if aliases >= 4:
            groups = result
        elif aliases >= 2:
            if all(user.op != "output" for user in mark.users):  # whose name is in the signature
                result._rename(name_result(number, SCANS[str(mark.meta["original_aten"])]))
                if groups is not None:
                    groups._rename(GROUPS)
            number, groups = number + 1, None
    for node in graph.find_nodes(op="call_function", target=ALIAS):  # exporters do not know it
        node.replace_all_uses_with(node.args[0])
        graph.erase_node(node)


def find_module(node: torch.fx.Node) -> str:
    """The name of the innermost module that the node is in."""
    *_, (name, _) = node.meta["nn_module_stack"].values()
    return str(name).partition("@")[0]  # which counts the calls of a module
