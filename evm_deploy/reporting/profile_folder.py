"""Writes the folder of `profile --out`, and reads profiles back from such folders or from files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from evm_deploy import folders
from evm_deploy.calib.plots import FIGURES
from evm_deploy.errors import InputError, OutputError
from evm_deploy.files import read_file, write_file
from evm_deploy.optional import import_library
from evm_deploy.profiling.report import LARGEST, ProfileReport
from evm_deploy.reporting.accuracy import Accuracy

JSON, MARKDOWN, HTML = "profile.json", "report.md", "report.html"
MOST = 64  # the largest number of profiles in one report
FIX = "name a folder that `evm-deploy profile --out` or `benchmark --out` wrote, or a file with the output of `--json`."
OURS = b'<meta name="generator" content="evm-deploy">'  # near the beginning of every page that we write
_ONE_OF_MANY = re.compile(r"profile-(\d{1,2})\.json")
_DRAWN = re.compile(r"plots/[a-z0-9-]+\.png|traces/\d+\.json|flames/\d+\.svg")


def _list_files(folder: Path) -> set[str]:
    """The names of the files that belong to a profile's folder. Raises InputError: it is not such a folder."""
    profiles = _list_profiles(folder)
    for path in profiles:
        load_profile(path)
    names = {file.relative_to(folder).as_posix() for file in folders.list_files(folder)}
    return {path.name for path in profiles} | {MARKDOWN, HTML} | {name for name in names if _DRAWN.fullmatch(name)}


KIND = folders.FolderKind("profile", HTML, _list_files)


def check_free(out: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Checks, before anything is measured, that a profile can be written to `out`.

    Raises OutputError: it cannot be written there; MissingToolError: jinja2 or matplotlib is not installed.
    """
    folders.check_free(Path(os.path.realpath(out)), KIND, overwrite)
    check_drawing()


def check_drawing() -> None:
    """Checks that the pages and pictures can be drawn. Raises MissingToolError: jinja2 or matplotlib is missing."""
    import_library("jinja2")
    import_library(FIGURES)


def write(
    out: str | os.PathLike[str],
    reports: Sequence[ProfileReport],
    overwrite: bool = False,
    known: Sequence[Accuracy] = (),
    notes: Sequence[str] = (),
) -> None:
    """Writes the reports, which must have summaries, as the folder `out`: JSON, Markdown, HTML and pictures.

    The folder is written completely or not at all. Raises OutputError, MissingToolError (jinja2, matplotlib).
    """
    from evm_deploy.reporting import figures, html, markdown, traces

    with folders.write_folder(out, KIND, overwrite) as draft:
        _write_text(draft / MARKDOWN, markdown.render(reports, known, notes))
        (draft / "plots").mkdir()
        figures.write_figures(draft / "plots", reports, known)
        traces.write_traces(draft, reports)
        for index, report in enumerate(reports, 1):
            _write_text(draft / (JSON if len(reports) == 1 else f"profile-{index}.json"), report.to_json())
        _write_text(draft / HTML, html.render(reports, known, notes))


def check_page(
    out: str | os.PathLike[str], overwrite: bool = False, beside: str | os.PathLike[str] | None = None
) -> None:
    """Checks that an HTML report can be written to `out`. beside: the folder that the same command writes.

    Raises OutputError: its folder is missing, or a file is there that must not be replaced; MissingToolError: jinja2
    is not installed.
    """
    import_library("jinja2")
    path = Path(os.path.realpath(out))
    if beside is not None and Path(os.path.realpath(beside)) in (path, *path.parents):
        raise OutputError(f"{path} is inside --out, which gets its own page.", "choose another --html.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path.parent} is not a folder that you can write to.", "choose another --html.")
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise OutputError(f"{path} exists.", "choose another --html, or pass --overwrite to replace a report.")
    if not path.is_file() or OURS not in _read_head(path):
        raise OutputError(
            f"{path} is not replaced: it is not a report.", "choose another --html, or remove it yourself."
        )


def write_page(
    out: str | os.PathLike[str],
    reports: Sequence[ProfileReport],
    overwrite: bool = False,
    known: Sequence[Accuracy] = (),
    notes: Sequence[str] = (),
) -> None:
    """Writes only the HTML report, completely or not at all. Raises OutputError, MissingToolError (jinja2)."""
    from evm_deploy.reporting import html

    check_page(out, overwrite)
    write_file(Path(os.path.realpath(out)), html.render(reports, known, notes), "--html")


def read(paths: Sequence[str | os.PathLike[str]]) -> list[ProfileReport]:
    """Reads the profiles in these files or folders, in order, and computes their summaries.

    Raises InputError: none or too many are named, or one cannot be read or is not a profile.
    """
    files = [file for path in map(Path, paths) for file in (_list_profiles(_enter(path)) if path.is_dir() else [path])]
    if not 1 <= len(files) <= MOST:
        raise InputError(f"{len(files)} profiles were named.", f"name 1 to {MOST}.")
    return [_add_statistics(load_profile(file)) for file in files]


def load_profile(file: Path) -> ProfileReport:
    """Reads the profile in one file, without changes. Raises InputError."""
    content = read_file(file, LARGEST, lambda cause: InputError(cause, FIX))
    return ProfileReport.from_json(content, str(file))


def _list_profiles(folder: Path) -> list[Path]:
    """The profile files in a folder that we wrote, in the order of the report. Raises InputError: there is none."""
    if (folder / JSON).is_file():
        return [folder / JSON]
    found = {int(match[1]): path for path in folder.iterdir() if (match := _ONE_OF_MANY.fullmatch(path.name))}
    if not found:
        raise InputError(f"{folder} holds no {JSON}.", FIX)
    return [found[index] for index in sorted(found)]


def _enter(folder: Path) -> Path:
    """The folder of profiles: of what `benchmark --out` wrote, one in it."""
    within = folder / "profile"
    return within if (within / JSON).is_file() and not (folder / JSON).exists() else folder


def _add_statistics(report: ProfileReport) -> ProfileReport:
    """Computes the statistics, which devices do not send. Statistics in a file are not trusted."""
    from evm_deploy.profiling.summaries import add_summaries

    return add_summaries(report)


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(4096)
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error.strerror}).", "choose another --html.") from error


def _write_text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", errors="replace", newline="\n")
