"""The results table as Markdown, for a README, an issue or a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evm_deploy.console import clean
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.reporting.accuracy import Accuracy
from evm_deploy.reporting.columns import choose_columns, find_common_values, make_cells
from evm_deploy.reporting.entries import collect_entries
from evm_deploy.reporting.table import collect_remarks, describe_method

# Characters with a meaning in Markdown: `_` only at the edge of a word; bare web addresses, which become links.
_SPECIAL = re.compile(r"[\\`*{}\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])|(?<=:)//|(?<=www)\.", re.IGNORECASE)
_FIRST = re.compile(r"^(\d*)([#+=.)-])")  # a heading, a list item, the underline of a heading


def render_table(reports: Sequence[ProfileReport], known: Sequence[Accuracy] = ()) -> str:
    """The table of every result, ending with a newline. Raises InputError: no report."""
    found = collect_entries(reports, known)
    columns, rows = choose_columns(found), make_cells(found)
    lines = [[escape(column.head) for column in columns], ["---:" if column.numeric else "---" for column in columns]]
    lines += [[cell.text if cell.numeric else escape(cell.text) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _describe_common_values(reports: Sequence[ProfileReport]) -> list[str]:
    """The values that all rows share and the table leaves out: one paragraph, or none."""
    found = [f"{head} {escape(text)}" for head, text in find_common_values(collect_entries(reports))]
    return [f"The same for all: {', '.join(found)}."] if found else []


def render(reports: Sequence[ProfileReport], known: Sequence[Accuracy] = (), notes: Sequence[str] = ()) -> str:
    """The content of `report.md`: the table, how it was measured, warnings and notes."""
    parts = ["# Profile", render_table(reports, known).rstrip("\n"), *_describe_common_values(reports)]
    parts += [escape(f"{describe_method(report)}; {report.created}, evm-deploy {report.tool}.") for report in reports]
    said = [*collect_remarks(reports), *notes]
    if said:
        parts.append("\n".join(f"- {escape(line)}" for line in said))
    parts.append("95 % bootstrap intervals in brackets. An estimate is not a measurement.")
    return "\n\n".join(parts) + "\n"


def escape(words: str) -> str:
    """Escapes `words`, on one line, so that Markdown shows them as they are."""
    return _FIRST.sub(r"\1\\\2", _SPECIAL.sub(r"\\\g<0>", clean(words)))
