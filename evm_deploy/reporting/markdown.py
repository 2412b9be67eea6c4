"""The table as Markdown, to be pasted into a README, an issue or a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evm_deploy.console import clean
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.reporting.accuracy import Accuracy
from evm_deploy.reporting.columns import cells, common, shown
from evm_deploy.reporting.entries import entries
from evm_deploy.reporting.table import method, remarks

# What begins something in Markdown, wherever it stands; `_` only at the edge of a word, links by themselves.
_SPECIAL = re.compile(r"[\\`*{}\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])|(?<=:)//|(?<=www)\.", re.IGNORECASE)
_FIRST = re.compile(r"^(\d*)([#+=.)-])")  # a heading, an item of a list, a line below a heading


def table(reports: Sequence[ProfileReport], known: Sequence[Accuracy] = ()) -> str:
    """The table of every result, ending with a newline. Raises InputError: no report."""
    found = entries(reports, known)
    columns, rows = shown(found), cells(found)
    lines = [[escape(column.head) for column in columns], ["---:" if column.numeric else "---" for column in columns]]
    lines += [[cell.text if cell.numeric else escape(cell.text) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _common(reports: Sequence[ProfileReport]) -> list[str]:
    """What the table leaves out because it is the same in every row, as one paragraph or none."""
    found = [f"{head} {escape(text)}" for head, text in common(entries(reports))]
    return [f"The same for all: {', '.join(found)}."] if found else []


def page(reports: Sequence[ProfileReport], known: Sequence[Accuracy] = (), notes: Sequence[str] = ()) -> str:
    """The whole of `report.md`: the table, how it was measured, and what has to be said of it."""
    parts = ["# Profile", table(reports, known).rstrip("\n"), *_common(reports)]
    parts += [escape(f"{method(report)}; {report.created}, evm-deploy {report.tool}.") for report in reports]
    said = [*remarks(reports), *notes]
    if said:
        parts.append("\n".join(f"- {escape(line)}" for line in said))
    parts.append("In brackets 95 % intervals, by the bootstrap. An estimate is not a measurement.")
    return "\n\n".join(parts) + "\n"


def escape(words: str) -> str:
    """`words` as text that means nothing to Markdown, on one line."""
    return _FIRST.sub(r"\1\\\2", _SPECIAL.sub(r"\\\g<0>", clean(words)))
