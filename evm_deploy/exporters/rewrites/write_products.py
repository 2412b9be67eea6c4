"""`einsum` of a batched matrix product becomes `matmul`: runtimes have kernels for it, and transpose less around it."""

from typing import Any

import torch
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import statically_known_true

from evm_deploy.exporters.rewrites.adding import make_writer
from evm_deploy.exporters.rewrites.movements import aten


def write_products(program: torch.export.ExportedProgram) -> None:
    """Rewrites, in place, every `einsum` of two factors that is a matrix product of batches."""
    for node in program.graph.find_nodes(op="call_function", target=aten.einsum.default):
        found = _arrange(str(node.args[0]))
        factors: Any = node.args[1]
        if found is None or not _has_one_size_each(str(node.args[0]), factors):
            continue
        with program.graph.inserting_before(node):
            write = make_writer(node)
            place, *axes = found
            left, right = (_place_axes(write, factors[i], order) for i, order in zip(place, axes, strict=True))
            node.replace_all_uses_with(write(aten.matmul.default, left, right))
        program.graph.erase_node(node)


def _has_one_size_each(equation: str, factors: list[Node]) -> bool:
    """Whether nothing is stretched: a letter stands for one size."""
    letters = equation.replace(" ", "").partition("->")[0].split(",")
    first, second = (
        dict(zip(each, factor.meta["val"].shape, strict=True)) for each, factor in zip(letters, factors, strict=True)
    )
    return all(statically_known_true(first[each] == second[each]) for each in first.keys() & second.keys())


def _arrange(equation: str) -> tuple[tuple[int, int], list[int], list[int]] | None:
    """Which factor is the left one, and the axes of each in the order (batches, rows, columns), -1 for one of length 1.

    None where the equation is not that of a product of matrices, or not of two factors.
    """
    given, arrow, result = equation.replace(" ", "").partition("->")
    factors = given.split(",")
    if not arrow or "." in given or len(factors) != 2 or len(result) < 2:
        return None
    batches, row, column = result[:-2], result[-2], result[-1]
    summed = (set(factors[0]) & set(factors[1])) - set(result)
    left = 0 if row in factors[0] else 1
    places, (first, second) = (left, 1 - left), (factors[left], factors[1 - left])
    wanted = ([*batches, row, *summed], [*batches, *summed, column])
    known = all(set(factor) <= set(letters) for factor, letters in zip((first, second), wanted, strict=True))
    plain = all(len(set(factor)) == len(factor) for factor in (*factors, result))
    if len(summed) != 1 or not known or not plain or row not in first or column not in second:
        return None
    axes = [[factor.find(each) for each in letters] for factor, letters in zip((first, second), wanted, strict=True)]
    return places, axes[0], axes[1]


def _place_axes(write: Any, factor: Node, axes: list[int]) -> Node:
    present = [axis for axis in axes if axis >= 0]
    if present != sorted(present):
        factor = write(aten.permute.default, factor, present)
    first = next(i for i, axis in enumerate(axes) if axis >= 0)
    for i, axis in enumerate(axes[first:]):  # leading axes are stretched by matmul
        if axis < 0:
            factor = write(aten.unsqueeze.default, factor, i)
    return factor
