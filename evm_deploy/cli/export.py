"""`evm-deploy export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evm_deploy import console
from evm_deploy.cli.app import Json, print_json, print_result
from evm_deploy.cli.command import add_command
from evm_deploy.exporters.export_options import ExportOptions


@add_command(ExportOptions)
def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help=".pth, .pt, .ckpt, .bin or .safetensors.")],
    out: Annotated[Path, typer.Option(help="The bundle's own folder.")],
    options: ExportOptions,
    json: Json = False,
) -> None:
    """Write a bundle for a runtime, and verify it."""
    with console.show_progress() as progress:
        from evm_deploy import pipeline

        result = pipeline.export(checkpoint, out, options, progress=progress)
    if json:
        report = result.report
        print_json(bundle=result.bundle.path, passed=report and report.passed, report=report)
    else:
        print_result(result)
