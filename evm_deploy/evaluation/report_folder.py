"""Writes a report as a folder: the JSON that --json prints, and tables for a spreadsheet."""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from evm_deploy.errors import OutputError
from evm_deploy.evaluation.report import EvaluationReport
from evm_deploy.folders import FolderKind, write_folder
from evm_deploy.jsontext import dumps

JSON, CLASSES = "evaluation.json", "per_class.csv"
KIND = FolderKind("report", JSON, lambda folder: ())  # such a folder is never replaced


def check_free(out: Path) -> None:
    """Raises OutputError if the report cannot be written there. Called before hours of evaluation, not after."""
    if os.path.lexists(out):
        raise OutputError(f"{out} exists.", "choose another --out.")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise OutputError(f"{above} is not a folder that you can write to.", "choose another --out.")


def write_report(report: EvaluationReport, out: Path) -> None:
    """Writes the folder completely or not at all. Raises OutputError: it exists, or the disk is full."""
    check_free(out)
    with write_folder(out, KIND) as draft:
        _write_text(draft / JSON, dumps(report.to_dict()))
        for index, row in enumerate(report.rows):
            if row.confusion is not None:
                table = [["true \\ taken for", *report.classes]]
                table += [[name, *map(str, counts)] for name, counts in zip(report.classes, row.confusion, strict=True)]
                _write_text(draft / f"confusion_{index}.csv", _format_csv(table))
        if any(row.per_class for row in report.rows):
            _write_text(draft / CLASSES, _format_csv(_tabulate_classes(report)))


def _tabulate_classes(report: EvaluationReport) -> Iterable[list[str]]:
    yield ["class", "images", *(row.title for row in report.rows)]
    for index, (name, images) in enumerate(zip(report.classes, report.class_images, strict=True)):
        shares = [row.per_class[index] if row.per_class else None for row in report.rows]
        yield [name, str(images), *("" if value is None else f"{value:.6f}" for value in shares)]


def _format_csv(rows: Iterable[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
