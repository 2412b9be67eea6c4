"""The columns of the results table: what each shows and what it is sorted by. All reports use this list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evm_deploy.console import clean
from evm_deploy.profiling.report import Interval, Summary
from evm_deploy.reporting.entries import ReportEntry
from evm_deploy.reporting.quantities import ABSENT, format_interval, format_number, format_per_cent, scale_value

Value = float | str | None


@dataclass(frozen=True)
class Cell:
    """The content of one column for one entry."""

    text: str
    value: Value
    numeric: bool


@dataclass(frozen=True)
class Column:
    """value: what the column is sorted by; None: not measured. text: formats a figure; None: the column holds words."""

    head: str
    help: str
    value: Callable[[ReportEntry], Value]
    text: Callable[[ReportEntry], str] | None = None
    always: bool = False  # shown even where no entry has a value

    @property
    def numeric(self) -> bool:
        """Whether the values are figures."""
        return self.text is not None

    def make_cell(self, entry: ReportEntry) -> Cell:
        """The content of this column for `entry`."""
        value = self.value(entry)
        if self.text is not None:
            return Cell(self.text(entry), value, True)
        return Cell(clean(str(value)) if value else ABSENT, value, False)


def _make_figure_column(
    head: str, help: str, value: Callable[[ReportEntry], float | None], always: bool = False
) -> Column:
    return Column(head, help, value, lambda entry: format_number(value(entry)), always)


def _make_word_column(head: str, help: str, value: Callable[[ReportEntry], str | None]) -> Column:
    return Column(head, help, value, always=True)


def _make_interval_column(head: str, help: str, take: Callable[[ReportEntry], Interval | None]) -> Column:
    def value(entry: ReportEntry) -> float | None:
        found = take(entry)
        return None if found is None else found.value

    return Column(head, help, value, lambda entry: format_interval(take(entry)))


def _take_from_summary(take: Callable[[Summary], float]) -> Callable[[ReportEntry], float | None]:
    def value(entry: ReportEntry) -> float | None:
        return None if entry.result.summary is None else take(entry.result.summary)

    return value


def _format_top1(entry: ReportEntry) -> str:
    share = entry.accuracy
    if share is None:
        return ABSENT
    alone = share.low == share.high
    return format_per_cent(share.value, 2) + (
        "" if alone else f" [{format_per_cent(share.low)}, {format_per_cent(share.high)}]"
    )


COLUMNS = (
    _make_word_column("model", "the bundle, or its name in the profile if two are alike", lambda entry: entry.title),
    _make_word_column("runtime", "the library that ran it", lambda entry: entry.result.runtime),
    _make_word_column("format", "the target of the export", lambda entry: entry.result.target),
    _make_word_column("precision", "of weights and activations", lambda entry: entry.result.precision),
    _make_word_column("device", "where it ran", lambda entry: entry.device),
    _make_figure_column(
        "MB", "size of the model, 1e6 bytes", lambda entry: scale_value(entry.result.size_bytes, 1e-6), True
    ),
    _make_figure_column("load ms", "time until the model can run", lambda entry: entry.result.load_ms),
    _make_figure_column("first ms", "the first inference after loading", lambda entry: entry.result.first_ms),
    _make_interval_column(
        "p50 ms",
        "median of the timed runs, with its 95 % bootstrap interval",
        lambda entry: entry.result.summary.p50 if entry.result.summary else None,
    ),
    _make_figure_column("p90 ms", "90 of 100 runs take no longer", _take_from_summary(lambda found: found.p90.value)),
    _make_figure_column("p99 ms", "99 of 100 runs take no longer", _take_from_summary(lambda found: found.p99.value)),
    _make_interval_column(
        "of the first",
        "time relative to the first result of the profile: median of the ratios of turns, with its 95 % interval",
        lambda entry: entry.ratio.ratio if entry.ratio else None,
    ),
    _make_figure_column(
        "memory MB",
        "peak memory of a new process that ran only this, 1e6 bytes",
        lambda entry: scale_value(entry.result.memory.peak_bytes, 1e-6) if entry.result.memory else None,
    ),
    _make_figure_column(
        "energy mJ",
        "energy of one inference, without the power of the idle device",
        lambda entry: scale_value(entry.result.energy.joules, 1e3) if entry.result.energy else None,
    ),
    Column(
        "top-1 %",
        "share of images given the right class, with its 95 % interval where it is known",
        lambda entry: entry.accuracy.value if entry.accuracy else None,
        _format_top1,
    ),
    _make_figure_column(
        "golden error",
        "largest relative difference from the bundle's golden pair, checked before the timing",
        lambda entry: entry.result.golden.relative_error if entry.result.golden else None,
    ),
)


FOLDED = ("runtime", "format", "device")  # stated once below the table where all rows are the same


def choose_columns(rows: Sequence[ReportEntry]) -> list[Column]:
    """The columns to show: at least one entry has a value, and `find_common_values` does not cover them."""
    folded = {head for head, _ in find_common_values(rows)}
    filled = (one for one in COLUMNS if one.always or any(one.value(row) is not None for row in rows))
    return [one for one in filled if one.head not in folded]


def find_common_values(rows: Sequence[ReportEntry]) -> list[tuple[str, str]]:
    """The values that all entries share, so that they need no column: (head, text)."""
    if len(rows) < 2:
        return []
    texts = [(column.head, {column.make_cell(row).text for row in rows}) for column in COLUMNS if column.head in FOLDED]
    return [(head, next(iter(found))) for head, found in texts if len(found) == 1]


def list_unmeasured(rows: Sequence[ReportEntry]) -> list[str]:
    """The heads of the columns for which no entry has a value."""
    kept = {column.head for column in choose_columns(rows)} | {head for head, _ in find_common_values(rows)}
    return [column.head for column in COLUMNS if column.head not in kept]


def make_cells(rows: Sequence[ReportEntry]) -> list[list[Cell]]:
    """A row for each entry, a cell for each column that is shown."""
    columns = choose_columns(rows)
    return [[column.make_cell(entry) for column in columns] for entry in rows]
