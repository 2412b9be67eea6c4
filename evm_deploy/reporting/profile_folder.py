"""The folder that `profile --out` writes, and profiles read back from such folders or from files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from evm_deploy import folders
from evm_deploy.calib.plots import FIGURES
from evm_deploy.errors import InputError, OutputError
from evm_deploy.files import read_file, write_file
from evm_deploy.optional import library
from evm_deploy.profiling.report import LARGEST, ProfileReport
from evm_deploy.reporting.accuracy import Accuracy

JSON, MARKDOWN, HTML = "profile.json", "report.md", "report.html"
MOST = 64  # profiles in one report
FIX = "name a folder that `evm-deploy profile --out` wrote, or what `--json` printed."
OURS = b'<meta name="generator" content="evm-deploy">'  # at the beginning of every page of ours
_ONE_OF_MANY = re.compile(r"profile-(\d{1,2})\.json")
_DRAWN = re.compile(r"plots/[a-z0-9-]+\.png|traces/\d+\.json|flames/\d+\.svg")


def _files(folder: Path) -> set[str]:
    """The files of a profile's folder. Raises InputError where it is not one."""
    profiles = _profiles(folder)
    for path in profiles:
        load(path)
    names = {file.relative_to(folder).as_posix() for file in folders.files_below(folder)}
    return {path.name for path in profiles} | {MARKDOWN, HTML} | {name for name in names if _DRAWN.fullmatch(name)}


KIND = folders.Kind("profile", HTML, _files)


def check_free(out: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Raises OutputError where a profile cannot be put, MissingToolError (jinja2, matplotlib) where it cannot be
    drawn: found before it is measured, not after.
    """
    folders.check_free(Path(os.path.realpath(out)), KIND, overwrite)
    check_drawing()


def check_drawing() -> None:
    """Raises MissingToolError: jinja2 or matplotlib is not installed."""
    library("jinja2")
    library(FIGURES)


def write(
    out: str | os.PathLike[str],
    reports: Sequence[ProfileReport],
    overwrite: bool = False,
    known: Sequence[Accuracy] = (),
    notes: Sequence[str] = (),
) -> None:
    """Writes the reports, which have their summaries, as the folder `out`: JSON, Markdown, HTML, and pictures.

    Whole or not at all. Raises OutputError, MissingToolError (jinja2, matplotlib).
    """
    from evm_deploy.reporting import figures, html, markdown, traces

    with folders.write_folder(out, KIND, overwrite) as draft:
        _text(draft / MARKDOWN, markdown.page(reports, known, notes))
        (draft / "plots").mkdir()
        figures.write(draft / "plots", reports, known)
        traces.write(draft, reports)
        for index, report in enumerate(reports, 1):
            _text(draft / (JSON if len(reports) == 1 else f"profile-{index}.json"), report.to_json())
        _text(draft / HTML, html.render(reports, known, notes))


def check_page(
    out: str | os.PathLike[str], overwrite: bool = False, beside: str | os.PathLike[str] | None = None
) -> None:
    """Raises OutputError where a page cannot be put (its folder is missing, or something is there that may not go),
    MissingToolError (jinja2) where it cannot be made. beside: the folder that is written as well.
    """
    library("jinja2")
    path = Path(os.path.realpath(out))
    if beside is not None and Path(os.path.realpath(beside)) in (path, *path.parents):
        raise OutputError(f"{path} is in --out, which gets a page of its own.", "choose another --html.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path.parent} is no folder that you can write to.", "choose another --html.")
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise OutputError(f"{path} exists.", "choose another --html, or pass --overwrite to replace a report.")
    if not path.is_file() or OURS not in _head(path):
        raise OutputError(f"{path} is not replaced: it is no report.", "choose another --html, or remove it yourself.")


def write_page(
    out: str | os.PathLike[str],
    reports: Sequence[ProfileReport],
    overwrite: bool = False,
    known: Sequence[Accuracy] = (),
    notes: Sequence[str] = (),
) -> None:
    """Writes the HTML report alone, whole or not at all. Raises OutputError, MissingToolError (jinja2)."""
    from evm_deploy.reporting import html

    check_page(out, overwrite)
    write_file(Path(os.path.realpath(out)), html.render(reports, known, notes), "--html")


def read(paths: Sequence[str | os.PathLike[str]]) -> list[ProfileReport]:
    """The profiles in these files or folders, in order, with their summaries.

    Raises InputError: none or too many are named, one cannot be read, or is not a profile.
    """
    files = [file for path in map(Path, paths) for file in (_profiles(path) if path.is_dir() else [path])]
    if not 1 <= len(files) <= MOST:
        raise InputError(f"{len(files)} profiles are named.", f"name 1 to {MOST}.")
    return [_summarised(load(file)) for file in files]


def load(file: Path) -> ProfileReport:
    """The profile in one file, as it stands there. Raises InputError."""
    content = read_file(file, LARGEST, lambda cause: InputError(cause, FIX))
    return ProfileReport.from_json(content, str(file))


def _profiles(folder: Path) -> list[Path]:
    """The files of profiles in a folder of ours, in the order of the report. Raises InputError: there is none."""
    if (folder / JSON).is_file():
        return [folder / JSON]
    found = {int(match[1]): path for path in folder.iterdir() if (match := _ONE_OF_MANY.fullmatch(path.name))}
    if not found:
        raise InputError(f"{folder} holds no {JSON}.", FIX)
    return [found[index] for index in sorted(found)]


def _summarised(report: ProfileReport) -> ProfileReport:
    """With the statistics that every device leaves to us; what a file says of them is not believed."""
    from evm_deploy.profiling.summaries import summarised

    return summarised(report)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(4096)
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error.strerror}).", "choose another --html.") from error


def _text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", errors="replace", newline="\n")
