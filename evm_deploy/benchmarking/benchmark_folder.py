"""Writes the folder of `benchmark --out`: the table, the bundles, and the profile that contains the times."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path

from evm_deploy import folders, reporting
from evm_deploy.benchmarking.benchmark_report import BenchmarkReport, collect_remarks
from evm_deploy.bundle import MANIFEST, Bundle
from evm_deploy.errors import InputError
from evm_deploy.files import read_file
from evm_deploy.jsontext import read_object
from evm_deploy.reporting import profile_folder
from evm_deploy.reporting.accuracy import Accuracy

JSON, BUNDLES, PROFILE = "benchmark.json", "bundles", "profile"
LARGEST_TABLE = 64 << 20  # bytes
FIX = "benchmark again."


def _list_files(folder: Path) -> set[str]:
    """Lists the files of a benchmark's folder. Raises BundleError or InputError if it is not one."""
    text = read_file(folder / JSON, LARGEST_TABLE, lambda cause: InputError(cause, FIX))
    table = read_object(text, JSON, InputError, FIX)
    if table.keys() != {field.name for field in fields(BenchmarkReport)}:
        return set()
    found = {JSON}
    for path in (folder / BUNDLES).iterdir() if (folder / BUNDLES).is_dir() else ():
        found |= {f"{BUNDLES}/{path.name}/{name}" for name in (MANIFEST, *Bundle.open(path).manifest.files)}
    if (folder / PROFILE).is_dir():
        found |= {f"{PROFILE}/{name}" for name in profile_folder.KIND.files(folder / PROFILE)}
    return found


KIND = folders.FolderKind("benchmark", JSON, _list_files)


def check_free(out: Path, overwrite: bool) -> None:
    """Raises OutputError if the folder cannot be written, MissingToolError if the profile cannot be drawn."""
    folders.check_free(Path(os.path.realpath(out)), KIND, overwrite)
    profile_folder.check_drawing()


def open_draft(out: Path, overwrite: bool) -> AbstractContextManager[Path]:
    """Opens a folder that becomes `out` when everything is written, and is removed on failure. Raises OutputError."""
    return folders.write_folder(out, KIND, overwrite)


def write_benchmark(folder: Path, report: BenchmarkReport, known: Sequence[Accuracy]) -> None:
    """Writes table and profile into the draft, which holds the bundles. Raises OutputError, MissingToolError."""
    if report.profile is not None:
        reporting.write(folder / PROFILE, [report.profile], known=known, notes=collect_remarks(report))
    (folder / JSON).write_text(report.to_json(), encoding="utf-8", newline="\n")
