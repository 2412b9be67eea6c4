"""Terminal output: results as tables on stdout, progress and errors on stderr."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 160  # width of a table that is written to a file or another program


def open_streams() -> None:
    """Makes every text printable: a closed stream discards it, and other encodings show escapes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # started with `>&-`, or without a console
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # open until the program ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def make_console() -> Console:
    """The console for results. It is made for each use, because tests replace sys.stdout."""
    return _make_console(sys.stdout)


def print_error(cause: str, fix: str) -> None:
    """Prints two lines to stderr, never wrapped, so that scripts can find them."""
    for title, text in (("error", cause), ("fix", fix)):
        _make_console(sys.stderr).print(f"{title}: {clean(text)}", soft_wrap=True)


def clean(text: str) -> str:
    """Makes one line of printable characters, so that names from a file cannot control the terminal."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


@contextlib.contextmanager
def show_progress() -> Iterator[Callable[[str], None]]:
    """Yields the function that is called with the name of each stage. It shows a spinner, or a line without a tty."""
    console = _make_console(sys.stderr)
    if not console.is_terminal:

        def say(stage: str) -> None:
            with contextlib.suppress(OSError):  # a missing reader is no reason to stop
                console.print(clean(stage), soft_wrap=True)

        yield say
        return
    with console.status("starting") as status:
        yield lambda stage: status.update(Text(clean(stage)))  # Text: a name in it is not markup


def print_rows(rows: Sequence[Any]) -> None:
    """Prints dataclass instances of one type as a table, with a column for each field."""
    if not rows:
        return
    names = [field.name for field in dataclasses.fields(rows[0])]
    print_table([name.replace("_", " ") for name in names], [[getattr(row, name) for name in names] for row in rows])


def print_table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints rows of values under their heads."""
    table = Table(*map(clean, heads), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(_format_cell, row))
    make_console().print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Prints a mapping as a table of two columns; nested mappings are indented."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in _flatten(facts, ""):
        table.add_row(name, value)
    make_console().print(table)


def _flatten(facts: Mapping[str, Any], indent: str) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield indent + clean(str(name)), ""
            yield from _flatten(value, indent + "  ")
        else:
            yield indent + clean(str(name)), _format_cell(value)


def _format_cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(clean(str(item)) for item in value) or "-"
    return clean(str(value)) or "-"


def _make_console(stream: Any) -> Console:
    width = None if stream.isatty() else PIPE_WIDTH
    return _Console(file=stream, markup=False, highlight=False, emoji=False, width=width)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Lets `cli.main` handle a closed pipe; rich would end the program."""
        raise BrokenPipeError
