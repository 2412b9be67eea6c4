"""The README of a package."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from evm_deploy.packaging.index import FileRecord, ModelRecord
from evm_deploy.packaging.package_options import PLATFORMS, PackageOptions

_VERIFY = """\
## Checking the package

`evm-package.json` has the sha256 of every file. `evm-deploy verify FOLDER` compares them and opens every model. With
`--public-key FILE` it also checks the signature, if there is one, as `minisign -V` does.
"""


def render_readme(
    options: PackageOptions,
    body: str,
    models: Mapping[str, ModelRecord],
    files: Mapping[str, FileRecord],
    notes: Sequence[str],
) -> str:
    """Markdown: the text of the platform, the notes, the content of the package with sizes, how to check it."""
    parts = [f"# {options.name}", f"{options.name} for {options.platform}: {PLATFORMS[options.platform].help}.", body]
    if notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in notes))
    parts += ["## Contents", _tabulate_models(models), _tabulate_sizes(models, files), _VERIFY]
    parts.append("Licences: see [NOTICE](NOTICE); the texts are in `LICENSES/`.")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def format_megabytes(size: int) -> str:
    """Formats bytes as megabytes with about three digits."""
    return f"{size / 1e6:.3g}" if size < 1e9 else f"{size / 1e6:.0f}"


def _tabulate_models(models: Mapping[str, ModelRecord]) -> str:
    rows = [
        f"| `{name}` | {model.target} | {model.precision} | {format_megabytes(model.bytes)} | `{model.folder}` |"
        for name, model in sorted(models.items())
    ]
    return "\n".join(["| model | format | precision | MB | folder |", "| --- | --- | --- | --- | --- |", *rows])


def _tabulate_sizes(models: Mapping[str, ModelRecord], files: Mapping[str, FileRecord]) -> str:
    """A row for each model's folder and each other entry at the top. The README, which has this table, is left out."""
    sums: dict[str, list[int]] = defaultdict(list)
    for name, record in files.items():
        within = [model.folder for model in models.values() if name.startswith(model.folder + "/")]
        place, slash, _ = name.partition("/")
        sums[within[0] + "/" if within else place + slash].append(record.bytes)
    rows = [f"| `{place}` | {len(sizes)} | {format_megabytes(sum(sizes))} |" for place, sizes in sorted(sums.items())]
    total = f"| all | {len(files)} | {format_megabytes(sum(record.bytes for record in files.values()))} |"
    return "\n".join(["| | files | MB |", "| --- | --- | --- |", *rows, total])
