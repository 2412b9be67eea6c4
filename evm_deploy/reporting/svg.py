"""SVG as text. Colours are classes, so that one style sheet serves light and dark pages."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NewType

Markup = NewType("Markup", str)  # text that is already markup; all other text is escaped

WIDTH = 440.0  # of every chart, in SVG units: on a phone a chart fills the screen and stays readable
FONT = 13.0


def make_element(name: str, *children: Markup, **attributes: str | float) -> Markup:
    """Makes one element. In attribute names, write `_` for `-`, and `class_` for `class`."""
    pairs = (f' {key.rstrip("_").replace("_", "-")}="{_format_value(value)}"' for key, value in attributes.items())
    inner = "".join(children)
    return Markup(f"<{name}{''.join(pairs)}>{inner}</{name}>" if inner else f"<{name}{''.join(pairs)}/>")


def draw_text(x: float, y: float, words: str, *, title: str = "", **attributes: str | float) -> Markup:
    """Draws words at (x, y); `title` is the tooltip."""
    return make_element("text", Markup(html.escape(words)), *_make_title(title), x=x, y=y, **attributes)


def draw_shape(name: str, title: str = "", **attributes: str | float) -> Markup:
    """Draws a shape; `title` is the tooltip."""
    return make_element(name, *_make_title(title), **attributes)


def draw_path(
    points: Sequence[tuple[float, float]], *, closed: bool = False, title: str = "", **attributes: str
) -> Markup:
    """Draws straight lines through `points`."""
    steps = " ".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(points))
    return draw_shape("path", title, d=steps + ("Z" if closed else ""), **attributes)


def draw_chart(label: str, height: float, parts: Iterable[Markup], width: float = WIDTH) -> Markup:
    """Makes the complete picture. label: what a screen reader says."""
    box = f"0 0 {width:.0f} {height:.0f}"
    return make_element("svg", *parts, class_="chart", viewBox=box, role="img", aria_label=label)


def shorten(words: str, width: float, size: float = FONT) -> str:
    """Leaves out the middle of `words` if they are wider than `width`. A letter is taken to be 0.58 em wide."""
    letters = max(8, int(width / (0.58 * size)))
    if len(words) <= letters:
        return words
    head = (letters - 1) * 3 // 5
    return words[:head] + "…" + words[head + 1 - letters :]


def draw_line(y: float, words: str, figure: str, *, soft: bool = False) -> list[Markup]:
    """Draws words on the left, shortened to fit, and a figure on the right."""
    room = WIDTH - 28 - 0.6 * FONT * len(figure)
    return [
        draw_text(8, y, shorten(words, room), title=words),
        draw_text(WIDTH - 8, y, figure, class_="tick" if soft else "strong", text_anchor="end"),
    ]


def draw_legend(names: Sequence[tuple[str, str]], y: float, width: float = WIDTH) -> tuple[list[Markup], float]:
    """Draws coloured squares with their names, in as many lines as needed. Returns them with their total height.

    names: (words, class of the colour).
    """
    parts: list[Markup] = []
    x, start = 0.0, y
    for words, colour in names:
        shown = shorten(words, width - 20)
        needed = 30 + 0.56 * FONT * len(shown)
        if x and x + needed > width:
            x, y = 0.0, y + 18
        parts.append(draw_shape("rect", class_=f"fill {colour}", x=x, y=y + 2, width=11, height=11, rx=2))
        parts.append(draw_text(x + 16, y + 12, shown, title=words))
        x += needed
    return parts, y + 20 - start


def _make_title(words: str) -> tuple[Markup, ...]:
    return (make_element("title", Markup(html.escape(words))),) if words else ()


def _format_value(value: str | float) -> str:
    if isinstance(value, str):
        return html.escape(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")
