"""The one table: a row a column, with what it says and what it is sorted by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evm_deploy.console import clean
from evm_deploy.profiling.report import Interval, Summary
from evm_deploy.reporting.entries import Entry
from evm_deploy.reporting.quantities import ABSENT, interval, number, per_cent, scaled

Value = float | str | None


@dataclass(frozen=True)
class Cell:
    """What one entry has in one column."""

    text: str
    value: Value
    numeric: bool


@dataclass(frozen=True)
class Column:
    """value: what the column is sorted by, None where it is absent. text: a figure as it is shown; None: words."""

    head: str
    help: str
    value: Callable[[Entry], Value]
    text: Callable[[Entry], str] | None = None
    always: bool = False  # shown even where no entry has a value

    @property
    def numeric(self) -> bool:
        """Whether its values are figures."""
        return self.text is not None

    def cell(self, entry: Entry) -> Cell:
        """What `entry` has in this column."""
        value = self.value(entry)
        if self.text is not None:
            return Cell(self.text(entry), value, True)
        return Cell(clean(str(value)) if value else ABSENT, value, False)


def _figure(head: str, help: str, value: Callable[[Entry], float | None], always: bool = False) -> Column:
    return Column(head, help, value, lambda entry: number(value(entry)), always)


def _words(head: str, help: str, value: Callable[[Entry], str | None]) -> Column:
    return Column(head, help, value, always=True)


def _interval(head: str, help: str, take: Callable[[Entry], Interval | None]) -> Column:
    def value(entry: Entry) -> float | None:
        found = take(entry)
        return None if found is None else found.value

    return Column(head, help, value, lambda entry: interval(take(entry)))


def _summary(take: Callable[[Summary], float]) -> Callable[[Entry], float | None]:
    def value(entry: Entry) -> float | None:
        return None if entry.result.summary is None else take(entry.result.summary)

    return value


def _top1(entry: Entry) -> str:
    share = entry.accuracy
    if share is None:
        return ABSENT
    alone = share.low == share.high
    return per_cent(share.value, 2) + ("" if alone else f" [{per_cent(share.low)}, {per_cent(share.high)}]")


COLUMNS = (
    _words("model", "the bundle; its name in the profile where two are alike", lambda entry: entry.title),
    _words("runtime", "what ran it", lambda entry: entry.result.runtime),
    _words("format", "target of the export", lambda entry: entry.result.target),
    _words("precision", "of weights and activations", lambda entry: entry.result.precision),
    _words("device", "where it ran", lambda entry: entry.device),
    _figure("MB", "size of the model, 1e6 bytes", lambda entry: scaled(entry.result.size_bytes, 1e-6), True),
    _figure("load ms", "until the model can run", lambda entry: entry.result.load_ms),
    _figure("first ms", "the first inference after loading", lambda entry: entry.result.first_ms),
    _interval(
        "p50 ms",
        "median of the timed runs, with its 95 % bootstrap interval",
        lambda entry: entry.result.summary.p50 if entry.result.summary else None,
    ),
    _figure("p90 ms", "nine of ten runs take no longer", _summary(lambda found: found.p90.value)),
    _figure("p99 ms", "99 of 100 runs take no longer", _summary(lambda found: found.p99.value)),
    _interval(
        "of the first",
        "how much longer than the first result of the profile: median of the ratios of turns, 95 % interval",
        lambda entry: entry.ratio.ratio if entry.ratio else None,
    ),
    _figure(
        "memory MB",
        "peak of a fresh process that ran this alone, 1e6 bytes",
        lambda entry: scaled(entry.result.memory.peak_bytes, 1e-6) if entry.result.memory else None,
    ),
    _figure(
        "energy mJ",
        "of one inference, the idle device's power subtracted",
        lambda entry: scaled(entry.result.energy.joules, 1e3) if entry.result.energy else None,
    ),
    Column(
        "top-1 %",
        "images given the right class, with the 95 % interval where it is known",
        lambda entry: entry.accuracy.value if entry.accuracy else None,
        _top1,
    ),
    _figure(
        "golden error",
        "largest difference from the bundle's golden pair, relative; checked before anything is timed",
        lambda entry: entry.result.golden.relative_error if entry.result.golden else None,
    ),
)


FOLDED = ("runtime", "format", "device")  # said once below the table where they are the same for all


def shown(rows: Sequence[Entry]) -> list[Column]:
    """The columns to show: those that at least one entry fills, and that do not say the same of all."""
    folded = {head for head, _ in common(rows)}
    filled = (one for one in COLUMNS if one.always or any(one.value(row) is not None for row in rows))
    return [one for one in filled if one.head not in folded]


def common(rows: Sequence[Entry]) -> list[tuple[str, str]]:
    """What is the same for several entries and needs no column: (head, text)."""
    if len(rows) < 2:
        return []
    texts = [(column.head, {column.cell(row).text for row in rows}) for column in COLUMNS if column.head in FOLDED]
    return [(head, next(iter(found))) for head, found in texts if len(found) == 1]


def left_out(rows: Sequence[Entry]) -> list[str]:
    """The columns that nobody measured."""
    kept = {column.head for column in shown(rows)} | {head for head, _ in common(rows)}
    return [column.head for column in COLUMNS if column.head not in kept]


def cells(rows: Sequence[Entry]) -> list[list[Cell]]:
    """A row for each entry, a cell for each column that is shown."""
    columns = shown(rows)
    return [[column.cell(entry) for column in columns] for entry in rows]
