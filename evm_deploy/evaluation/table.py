"""Shows a report as tables: shares in per cent, changes in points, times in milliseconds."""

from typing import Any

from evm_deploy.evaluation.figures import Figure, Move
from evm_deploy.evaluation.metrics import Change, Share
from evm_deploy.evaluation.report import EvaluationReport

Table = tuple[list[str], list[list[Any]]]  # heads, rows


def tabulate_contenders(report: EvaluationReport) -> Table:
    """A row for each contender; in brackets the 95 % interval."""
    columns = [figure.name for figure in report.rows[0].figures] or ["top-1", "top-5", "agreement"]
    heads = ["bundle", "runtime", "precision", "MB", *(f"{name} %" for name in columns), "points", "ms"]
    rows = [
        [
            row.bundle,
            row.runtime,
            row.precision,
            row.megabytes,
            *map(_format_share, row.figures or (row.top1, row.top5, row.agreement)),
            _format_change(row.change or row.moved),
            row.latency.median if row.latency else None,
        ]
        for row in report.rows
    ]
    return heads, rows


def tabulate_classes(report: EvaluationReport) -> Table:
    """A row for each class that has images: the percentage that each contender gets right."""
    heads = ["class", "images", *(row.title for row in report.rows)]
    rows: list[list[Any]] = []
    for index, (name, images) in enumerate(zip(report.classes, report.class_images, strict=True)):
        if images:
            shares = (row.per_class[index] if row.per_class else None for row in report.rows)
            rows.append([name, images, *(None if value is None else f"{100 * value:.2f}" for value in shares)])
    return heads, rows


def describe_figures(report: EvaluationReport) -> list[str]:
    """Explains the figures of the table, a line each."""
    labelled = f", {report.labelled} with a class" if report.labelled < report.images else ""
    figures = report.rows[0].figures
    drawn = "images drawn anew" if figures else "Wilson; of points Agresti-Min"
    what = f"points of {figures[0].name}" if figures else "agreement and points"
    held = f"; {what} against {report.reference}" if report.reference else ""
    found = [f"{report.images} images{labelled}; in brackets 95 % intervals ({drawn}){held}"]
    times = [row.latency for row in report.rows if row.latency]
    if times:
        where = f"{report.conditions['cpu']}, {report.conditions['cores']} cores"
        found.append(f"ms: median of {times[0].runs} runs in turns, one image at a time, {where}")
    return found


def _format_share(share: Share | Figure | None) -> str | None:
    if share is None or share.value is None:
        return None
    if share.low is None or share.high is None:
        return f"{100 * share.value:.2f}"
    return f"{100 * share.value:.2f} [{100 * share.low:.2f}, {100 * share.high:.2f}]"


def _format_change(change: Change | Move | None) -> str | None:
    return f"{100 * change.value:+.2f} [{100 * change.low:+.2f}, {100 * change.high:+.2f}]" if change else None
