"""The time of a run as an icicle chart: from top to bottom the run, blocks, kinds, operators; widths show times.

The SVG works alone or inside a page: colours are CSS variables, and text takes the colour of its surroundings.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from evm_deploy.console import clean
from evm_deploy.profiling.kinds import KINDS
from evm_deploy.profiling.report import Operators, TimedOperator

WIDTH, ROW, GAP, TOP = 1200, 26, 1, 28
THIN = 1.5  # narrower boxes of the same kind are drawn as one
LETTER = 6.3  # width of a letter at 11 px
COLOURS = {  # by kind: on light and on dark background
    "scan": ("#f2a65a", "#a65a12"),
    "convolution": ("#7fb3e6", "#2f6ca8"),
    "matmul": ("#8fd0a5", "#2f7d4c"),
    "norm": ("#d7a8e0", "#84459a"),
    "layout": ("#e8929b", "#a83e4c"),
    "conversion": ("#f0d264", "#8d7313"),
    "activation": ("#8ed6d6", "#23797c"),
    "elementwise": ("#b9bdf0", "#5257a8"),
    "other": ("#c8c8c8", "#666666"),
}


@dataclass(frozen=True)
class Box:
    """A part of the run, and the parts that it consists of."""

    label: str
    title: str
    ms: float
    kind: str = ""
    parts: tuple["Box", ...] = ()


def draw_flame(operators: Operators, name: str) -> str:
    """Draws the chart as SVG text. name: the name of the result, in any characters."""
    root = _make_tree(operators, name)
    boxes = "".join(_draw(root, 0.0, 0, WIDTH / root.ms if root.ms else 0.0))
    height = TOP + 4 * ROW + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="flame" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{_escape(root.title)}"><style>{_make_style()}</style>{_draw_legend(operators.rows)}{boxes}</svg>\n'
    )


def _make_tree(operators: Operators, name: str) -> Box:
    total = sum(row.ms for row in operators.rows)
    blocks = tuple(
        _make_box(block or "outside the blocks", rows, total, _make_kind_boxes(rows, total))
        for block, rows in _group_by(operators.rows, lambda row: row.block)
    )
    title = f"{name}: {total:.3f} ms in {len(operators.rows)} operators"
    return Box(f"{name}: {total:.3g} ms", title, total, parts=blocks)


def _make_kind_boxes(rows: Sequence[TimedOperator], total: float) -> tuple[Box, ...]:
    groups = dict(_group_by(rows, lambda row: row.kind))
    known = [*KINDS, *sorted(groups.keys() - set(KINDS))]
    return tuple(
        _make_box(kind, groups[kind], total, _make_operator_boxes(groups[kind], total), kind)
        for kind in known
        if kind in groups
    )


def _make_operator_boxes(rows: Sequence[TimedOperator], total: float) -> tuple[Box, ...]:
    """Boxes for the operators of one kind and block, longest first; those too thin to see share the last box."""
    ordered = sorted(rows, key=lambda row: -row.ms)
    wide = [row for row in ordered if row.ms * WIDTH >= THIN * total]
    thin = ordered[len(wide) :]
    boxes = [Box(row.op.removeprefix("evm::"), _describe_operator(row), row.ms, row.kind) for row in wide]
    if thin:
        boxes.append(_make_box(f"{len(thin)} more", thin, total, kind=thin[0].kind))
    return tuple(boxes)


def _make_box(
    label: str, rows: Sequence[TimedOperator], total: float, parts: tuple[Box, ...] = (), kind: str = ""
) -> Box:
    ms = sum(row.ms for row in rows)
    share = ms / total if total else 0.0
    return Box(label, f"{label}: {ms:.3f} ms, {share:.1%}, {len(rows)} operators", ms, kind, parts)


def _describe_operator(row: TimedOperator) -> str:
    lines = [f"{row.name} ({row.op}): {row.ms:.3f} ms, {row.share:.1%}"]
    if row.flops and row.ms:
        lines.append(f"{row.flops / 1e6:.3g} MFLOP, {row.flops / row.ms / 1e6:.3g} GFLOP/s")
    if row.bytes and row.ms:
        lines.append(f"{row.bytes / 1e3:.4g} kB, {row.bytes / row.ms / 1e6:.3g} GB/s")
    if row.roofline_ms is not None:
        lines.append(f"roofline {row.roofline_ms:.3f} ms")
    return "; ".join(lines)


def _group_by(
    rows: Iterable[TimedOperator], key: Callable[[TimedOperator], str]
) -> list[tuple[str, list[TimedOperator]]]:
    """Groups the rows by `key`, in order of first appearance."""
    groups: dict[str, list[TimedOperator]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


def _draw(box: Box, x: float, depth: int, scale: float) -> Iterator[str]:
    width, y = box.ms * scale, TOP + depth * ROW
    name = f"k-{KINDS.index(box.kind)}" if box.kind in KINDS else "k"
    place = f'x="{x:.2f}" y="{y}" width="{max(width - GAP, 0.3):.2f}" height="{ROW - GAP}"'
    yield f'<g><title>{_escape(box.title)}</title><rect class="{name}" {place} rx="2"/>'
    if label := _fit_label(box.label, width):
        yield f'<text x="{x + 4:.2f}" y="{y + 17}">{_escape(label)}</text>'
    yield "</g>"
    for part in box.parts:
        yield from _draw(part, x, depth + 1, scale)
        x += part.ms * scale


def _fit_label(label: str, width: float) -> str:
    """The part of `label` that fits into a box; of a name such as layers.2.1, the end is kept."""
    letters = int((width - 8) / LETTER)
    for text in (label, label.partition(".")[2] or label):
        if len(text) <= letters:
            return text
    return label[: letters - 1] + "…" if letters >= 4 else ""


def _draw_legend(rows: Sequence[TimedOperator]) -> str:
    total, x, parts = sum(row.ms for row in rows), 4.0, []
    for index, kind in enumerate(KINDS):
        ms = sum(row.ms for row in rows if row.kind == kind)
        if ms:
            text = f"{kind} {ms / total:.0%}" if ms >= total / 100 else f"{kind} <1%"
            parts.append(f'<rect class="k-{index}" x="{x:.1f}" y="6" width="12" height="12" rx="2"/>')
            parts.append(f'<text class="legend" x="{x + 17:.1f}" y="16">{_escape(text)}</text>')
            x += 17 + LETTER * len(text) + 18
    return "".join(parts)


def _make_style() -> str:
    light = "".join(f"--k-{index}:{COLOURS[kind][0]};" for index, kind in enumerate(KINDS))
    dark = "".join(f"--k-{index}:{COLOURS[kind][1]};" for index, kind in enumerate(KINDS))
    fills = "".join(f".flame .k-{index}{{fill:var(--k-{index})}}" for index in range(len(KINDS)))
    return (
        f".flame{{{light}--k:#dcdfe4;--on-k:#16181d;color:#16181d;font:11px system-ui,sans-serif}}"
        f"@media(prefers-color-scheme:dark){{.flame{{{dark}--k:#3a3f47;--on-k:#fff;color:#e8e8e8}}}}"
        f".flame text{{fill:var(--on-k);pointer-events:none}}.flame .legend{{fill:currentColor}}"
        f".flame .k{{fill:var(--k)}}{fills}.flame g:hover rect{{stroke:currentColor;stroke-width:1.5}}"
    )


def _escape(text: str) -> str:
    return escape(clean(text), {'"': "&quot;"})
