"""Tensors that are written slice by slice become what was written, joined: no scatter is left of a cross-scan.

`xs[:, 0] = a; xs[:, 1] = b` is a concatenation, `y[:, ::2] = a; y[:, 1::2] = b` a stack. A slice that is read of what
was written is its source. What was not written stays a slice of the tensor that was there before. Where lengths are not
known to fit, the assignments stay as they are.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import statically_known_true

from evm_deploy.exporters.rewrites.adding import Write, make_writer
from evm_deploy.exporters.rewrites.movements import aten, packet

_READING = (aten.slice, aten.select)
_WRITING = (aten.slice_scatter, aten.select_scatter)
Range = tuple[int, int, Node, int]  # start, stop, source, and the place in the source where it starts


@dataclass(frozen=True)
class Place:
    """A slice along an axis, of numbers that are known; `stop` None: up to the end. A selected place has no axis."""

    axis: int
    start: int
    stop: int | None
    step: int
    selected: bool


@dataclass(frozen=True)
class Written:
    """`base` with parts along one axis written over.

    The sources of `phases` fill every step-th place, each from its number on. There are ranges or phases, never both.
    """

    base: Node
    axis: int
    ranges: tuple[Range, ...] = ()
    phases: dict[int, Node] = field(default_factory=dict)
    step: int = 1


def join_slices(program: torch.export.ExportedProgram) -> None:
    """Rewrites, in place, the assignments of `program`, which mutates nothing."""
    graph = program.graph
    written: dict[Node, Written] = {}
    for node in list(graph.nodes):
        same = _find_same(node)
        if same is not None and _is_same(node, same):
            node.replace_all_uses_with(same)
        elif packet(node) in _READING and node.args[0] in written:
            with graph.inserting_before(node):
                source = _read(written[node.args[0]], _place(node), make_writer(node))
            if source is not None and _is_same(node, source):
                node.replace_all_uses_with(source)
        elif packet(node) in _WRITING:
            with graph.inserting_before(node):
                found = _write(node, written, make_writer(node))
            if found is not None:
                written[node] = found
    for node, found in reversed(written.items()):
        with graph.inserting_before(node):
            joined = _join(found, node, make_writer(node)) if node.users else None
        if joined is not None:
            node.replace_all_uses_with(joined)
        if not node.users:
            graph.erase_node(node)
    graph.eliminate_dead_code()


def _find_same(node: Node) -> Any:
    """The input that `node` gives back, if their shapes are the same: a copy of it, or the whole as a slice."""
    if packet(node) is aten.copy:
        return node.args[1]
    if packet(node) not in (aten.slice, aten.slice_scatter):
        return None
    place = _place(node)
    whole = place is not None and (place.start, place.step) == (0, 1)
    return node.args[packet(node) is aten.slice_scatter] if whole else None


def _is_same(node: Node, other: Any) -> bool:
    """Whether they have one shape and type."""
    first, second = node.meta["val"], other.meta["val"]
    alike = first.dtype == second.dtype and first.dim() == second.dim()
    return alike and all(statically_known_true(a == b) for a, b in zip(first.shape, second.shape, strict=True))


def _place(node: Node) -> Place | None:
    """Which part of its first input it reads or writes; None where numbers depend on sizes."""
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    given: dict[str, Any] = dict(zip(names, node.args, strict=False)) | node.kwargs
    whole, axis = given[names[0]].meta["val"], given.get("dim", 0)
    size, selected = whole.shape[axis], "index" in names
    start = given["index"] if selected else given.get("start") or 0
    step = given.get("step", 1)
    stop = given.get("end")
    if isinstance(stop, int) and stop >= 2**62:
        stop = None
    if not all(isinstance(each, int) for each in (start, step, stop or 0)):
        return None
    if isinstance(size, int):
        start = min(max(start + size if start < 0 else start, 0), size)
        stop = size if stop is None else min(max(stop + size if stop < 0 else stop, start), size)
    elif start < 0 or (stop or 0) < 0:
        return None
    if selected:
        stop = start + 1
    elif step > 1 and stop == size:
        stop = None
    return Place(axis % whole.dim(), start, stop, step, selected)


def _write(node: Node, written: dict[Node, Written], write: Write) -> Written | None:
    """What `node` has written; None where that is not known."""
    base: Any
    source: Any
    base, source, *_ = node.args
    place = _place(node)
    if place is None:
        return None
    before = written.get(base)
    phased = place.step > 1
    if before is None or before.axis != place.axis or before.step != place.step:
        before = Written(base, place.axis, step=place.step)
    if phased:
        fits = place.stop is None and place.start < place.step
        return replace(before, phases=before.phases | {place.start: source}) if fits else None
    if place.stop is None:
        return None
    if place.selected:
        source = write(aten.unsqueeze.default, source, place.axis)
    left = []
    for start, stop, other, offset in before.ranges:
        pieces = ((start, min(stop, place.start)), (max(start, place.stop), stop))
        left += [(a, b, other, offset + a - start) for a, b in pieces if a < b]
    return replace(before, ranges=_sort([*left, (place.start, place.stop, source, 0)]))


def _sort(ranges: list[Range]) -> tuple[Range, ...]:
    return tuple(sorted(ranges, key=lambda each: each[0]))


def _read(found: Written, place: Place | None, write: Write) -> Node | None:
    """What a slice of what was written is; None where it has to be read."""
    if place is None or place.axis != found.axis or place.step != found.step:
        return None
    if found.step > 1:
        if place.stop is not None or place.start >= place.step:
            return None
        return _take_phase(found, place.start, write)
    if place.stop is None:
        return None
    pieces = []
    for start, stop, source, offset in found.ranges:
        a, b = max(start, place.start), min(stop, place.stop)
        if a < b:
            pieces.append((a, b, source, offset + a - start))
    if not _covers(pieces, place.start, place.stop):
        return None
    whole = _concatenate(pieces, found.axis, write)
    return write(aten.squeeze.dim, whole, found.axis) if place.selected else whole


def _covers(ranges: Any, start: int, stop: Any) -> bool:
    """Whether they lie one after the other from start to stop."""
    ends = [start, *(each[1] for each in ranges)]
    return [each[0] for each in ranges] == ends[:-1] and statically_known_true(ends[-1] == stop)


def _join(found: Written, node: Node, write: Write) -> Node | None:
    """All that was written as one tensor; None where that is not known."""
    size = node.meta["val"].shape[found.axis]
    if found.step > 1:
        parts = [_take_phase(found, phase, write) for phase in range(found.step)]
        lengths = [part.meta["val"].shape[found.axis] for part in parts]
        if not all(statically_known_true(length * found.step == size) for length in lengths):
            return None
        stacked = write(aten.stack.default, parts, found.axis + 1)
        return write(aten.flatten.using_ints, stacked, found.axis, found.axis + 1)
    ranges = list(found.ranges)
    if not _covers(ranges, 0, size):
        if not isinstance(size, int):
            return None
        ends = [0, *(stop for _, stop, _, _ in ranges)]
        starts = [*(start for start, _, _, _ in ranges), size]
        gaps = [(a, b, found.base, a) for a, b in zip(ends, starts, strict=True) if a < b]
        ranges = [*_sort([*ranges, *gaps])]
    return _concatenate(ranges, found.axis, write)


def _take_phase(found: Written, phase: int, write: Write) -> Node:
    if phase in found.phases:
        return found.phases[phase]
    return write(aten.slice.Tensor, found.base, found.axis, phase, 2**63 - 1, found.step)


def _concatenate(ranges: list[Range], axis: int, write: Write) -> Node:
    pieces = []
    for start, stop, source, offset in ranges:
        whole = offset == 0 and source.meta["val"].shape[axis] == stop - start
        pieces.append(source if whole else write(aten.slice.Tensor, source, axis, offset, offset + stop - start))
    return pieces[0] if len(pieces) == 1 else write(aten.cat.default, pieces, axis)
