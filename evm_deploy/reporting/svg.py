"""SVG as text. Colours are classes, so that one style sheet draws a chart light or dark."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NewType

Markup = NewType("Markup", str)  # text that is markup already; all other text is escaped on its way in

WIDTH = 440.0  # of every chart, in units of its own: on a phone a chart fills the screen and can still be read
FONT = 13.0


def element(name: str, *children: Markup, **attributes: str | float) -> Markup:
    """One element. Attribute names are written with `_` for `-`, and `class_` for `class`."""
    pairs = (f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"' for key, value in attributes.items())
    inner = "".join(children)
    return Markup(f"<{name}{''.join(pairs)}>{inner}</{name}>" if inner else f"<{name}{''.join(pairs)}/>")


def text(x: float, y: float, words: str, *, title: str = "", **attributes: str | float) -> Markup:
    """Words at a place; `title` is shown where a mouse rests on them."""
    return element("text", Markup(html.escape(words)), *_title(title), x=x, y=y, **attributes)


def shape(name: str, title: str = "", **attributes: str | float) -> Markup:
    """A shape, with the words that are shown where a mouse rests on it."""
    return element(name, *_title(title), **attributes)


def path(points: Sequence[tuple[float, float]], *, closed: bool = False, title: str = "", **attributes: str) -> Markup:
    """Straight lines through `points`."""
    steps = " ".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(points))
    return shape("path", title, d=steps + ("Z" if closed else ""), **attributes)


def chart(label: str, height: float, parts: Iterable[Markup], width: float = WIDTH) -> Markup:
    """The whole picture. label: what a screen reader says."""
    box = f"0 0 {width:.0f} {height:.0f}"
    return element("svg", *parts, class_="chart", viewBox=box, role="img", aria_label=label)


def short(words: str, width: float, size: float = FONT) -> str:
    """`words`, their middle left out where they would be wider than that. Half an em a letter is about right."""
    letters = max(8, int(width / (0.58 * size)))
    if len(words) <= letters:
        return words
    head = (letters - 1) * 3 // 5
    return words[:head] + "…" + words[head + 1 - letters :]


def line(y: float, words: str, figure: str, *, soft: bool = False) -> list[Markup]:
    """Words on the left and a figure on the right, the words shortened to what the figure leaves."""
    room = WIDTH - 28 - 0.6 * FONT * len(figure)
    return [
        text(8, y, short(words, room), title=words),
        text(WIDTH - 8, y, figure, class_="tick" if soft else "strong", text_anchor="end"),
    ]


def legend(names: Sequence[tuple[str, str]], y: float, width: float = WIDTH) -> tuple[list[Markup], float]:
    """Coloured squares with their names, in as many lines as they need, and the height of that.

    names: (words, class of the colour).
    """
    parts: list[Markup] = []
    x, start = 0.0, y
    for words, colour in names:
        shown = short(words, width - 20)
        needed = 30 + 0.56 * FONT * len(shown)
        if x and x + needed > width:
            x, y = 0.0, y + 18
        parts.append(shape("rect", class_=f"fill {colour}", x=x, y=y + 2, width=11, height=11, rx=2))
        parts.append(text(x + 16, y + 12, shown, title=words))
        x += needed
    return parts, y + 20 - start


def _title(words: str) -> tuple[Markup, ...]:
    return (element("title", Markup(html.escape(words))),) if words else ()


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return html.escape(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")
