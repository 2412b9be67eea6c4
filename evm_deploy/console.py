"""What a person sees: results as tables on stdout, progress and errors on stderr."""

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

PIPE_WIDTH = 160  # columns of a table that goes into a file or another program


def open_streams() -> None:
    """Lets every text be printed anywhere: a closed stream swallows it, other encodings get it escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the program was started with `>&-`, or without a console
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # as long as the program
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def out() -> Console:
    """The console of results. Made anew, as tests replace sys.stdout."""
    return _console(sys.stdout)


def error(cause: str, fix: str) -> None:
    """Two lines on stderr, never wrapped, so that a script finds them."""
    for title, text in (("error", cause), ("fix", fix)):
        _console(sys.stderr).print(f"{title}: {clean(text)}", soft_wrap=True)


def clean(text: str) -> str:
    """One line of printable characters: names that come from a file cannot control the terminal."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Yields the function that a pipeline calls with each stage's name: a spinner, or a line where there is no tty."""
    console = _console(sys.stderr)
    if not console.is_terminal:

        def say(stage: str) -> None:
            with contextlib.suppress(OSError):  # nobody reads it: that is no reason to stop
                console.print(clean(stage), soft_wrap=True)

        yield say
        return
    with console.status("starting") as status:
        yield lambda stage: status.update(Text(clean(stage)))  # a name in it is no markup


def print_rows(rows: Sequence[Any]) -> None:
    """Dataclass instances of one type as a table, a field a column."""
    if not rows:
        return
    names = [field.name for field in dataclasses.fields(rows[0])]
    print_table([name.replace("_", " ") for name in names], [[getattr(row, name) for name in names] for row in rows])


def print_table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Rows of values under their heads."""
    table = Table(*map(clean, heads), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(_cell, row))
    out().print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    """A mapping as a table of two columns; nested mappings are indented under their name."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in _flat(facts, ""):
        table.add_row(name, value)
    out().print(table)


def _flat(facts: Mapping[str, Any], indent: str) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield indent + clean(str(name)), ""
            yield from _flat(value, indent + "  ")
        else:
            yield indent + clean(str(name)), _cell(value)


def _cell(value: Any) -> str:
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


def _console(stream: Any) -> Console:
    width = None if stream.isatty() else PIPE_WIDTH
    return _Console(file=stream, markup=False, highlight=False, emoji=False, width=width)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leaves a reader that has gone to `cli.main`; rich would end the program."""
        raise BrokenPipeError
