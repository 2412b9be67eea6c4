"""`evm-deploy package`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evm_deploy import console
from evm_deploy.cli.app import Json, print_json
from evm_deploy.cli.command import add_command
from evm_deploy.packaging.package_options import PackageOptions


@add_command(PackageOptions)
def package(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Folders that export or quantize wrote.")],
    options: PackageOptions,
    out: Annotated[Path, typer.Option(help="The package's own folder.")],
    json: Json = False,
) -> None:
    """Write what an app, a board or a web site takes: models, loaders, tests, hashes, licences."""
    with console.show_progress() as progress:
        from evm_deploy import pipeline

        made = pipeline.package(bundles, out, options, progress=progress)
    if json:
        print_json(
            **{
                **vars(made.index),
                "package": made.path,
                "bytes": made.bytes,
                "archive": made.archive,
                "archive_sha256": made.archive_sha256,
                "signatures": made.signatures,
            }
        )
        return
    for model_name, model in made.index.models.items():
        print(f"{model_name}: {model.target} {model.precision}, {model.bytes / 1e6:.2f} MB")
    for note in made.index.notes:
        print(f"note: {console.clean(note)}")
    print(f"wrote {made.path}, {len(made.index.files)} files, {made.bytes / 1e6:.2f} MB")
    if made.archive is not None:
        print(f"wrote {made.archive}, sha256 {made.archive_sha256}")
