"""What becomes of the result of a scan before anything else is computed of it: which values are added up, and where."""

import heapq
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Node

from evm_deploy.exporters.rewrites.adding import Layout
from evm_deploy.exporters.rewrites.movements import Unknown, aten, list_tensors, move, moves, number, packet, shape_of


class Merge(NamedTuple):
    """`node` has, in `layout`, T' tokens that are each the sum of the scanned tokens that `back` (M, T') names."""

    node: Node
    layout: Layout
    back: Tensor


def find_merge(scan: Node) -> Merge:
    """The last node that has nothing but sums of values of `scan`; `scan` itself where there is no such.

    Raises Unknown: sizes other than that of the batch are free.
    """
    batch, K, L, D = shape_of(scan)
    last, terms = _follow(scan)
    found = None if last is scan else _read_back(terms, batch, K * L, D)
    if found is None:
        return Merge(scan, Layout(K * L, D, 1), torch.arange(K * L).unsqueeze(0))
    return Merge(last, *found)


def _follow(scan: Node) -> tuple[Node, list[Tensor]]:
    """The node, and a tensor of numbers of values of the scan for each term of its sums."""
    terms: dict[Node, list[Any]] = {scan: [number(scan)]}
    waiting = list(scan.users)
    heapq.heapify(waiting)  # in the order of the graph
    while waiting:
        node = heapq.heappop(waiting)
        if node in terms:
            continue
        try:
            terms[node] = _compute(node, terms)
        except Unknown:
            continue
        for each in node.users:
            heapq.heappush(waiting, each)
    last = [node for node in terms if any(user not in terms for user in node.users)]
    if len(last) != 1:
        return scan, terms[scan]
    return last[0], terms[last[0]]


def _compute(node: Node, terms: Mapping[Node, list[Any]]) -> list[Any]:
    tensors = list_tensors(node)
    if not tensors or any(each not in terms for each in tensors):
        raise Unknown
    counts = {len(terms[each]) for each in tensors}
    if moves(node) and len(counts) == 1:
        return [move(node, lambda each, i=i: terms[each][i]) for i in range(counts.pop())]  # type: ignore[misc]
    if packet(node) is aten.add and len(tensors) == 2 and not node.kwargs:
        added = list(itertools.chain.from_iterable(terms[each] for each in tensors))
        if len({tuple(each.shape) for each in added}) == 1:
            return added
    if node.target is aten.sum.dim_IntList:
        axes: Any = node.args[1]
        if len(axes) == 1 and not any(node.args[2:]) and not node.kwargs:
            return [each for term in terms[tensors[0]] for each in term.unbind(axes[0])]
    raise Unknown


def _read_back(terms: list[Any], batch: int, tokens: int, D: int) -> tuple[Layout, Tensor] | None:
    """The layout of the result and where its tokens come from; None where it does not consist of whole tokens."""
    if not all(isinstance(term, Tensor) for term in terms):
        return None
    found = torch.stack(terms).flatten(1)  # (M, values)
    of_each, rest = divmod(found.shape[1], batch)
    stride = int((found[0] % D).argmax()) // max(D - 1, 1) if D > 1 else 1
    if rest or stride < 1 or of_each % (D * stride):
        return None
    layout = Layout(of_each // (D * stride), D, stride)
    back = found.view(-1, batch, *layout)[:, 0, :, 0].long() // D  # (M, P, S)
    offsets = torch.arange(batch).view(-1, 1, 1, 1) * tokens * D + torch.arange(D).view(-1, 1)
    expected = (back * D).view(len(terms), 1, layout.P, 1, layout.S) + offsets
    if not torch.equal(expected.flatten(1), found.long()):
        return None
    return layout, back.flatten(1)
