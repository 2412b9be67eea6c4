"""`evm-deploy export`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, cast

import typer

from evm_deploy import console
from evm_deploy.cli.app import Json, print_json, print_result
from evm_deploy.cli.command import add_command
from evm_deploy.errors import OptionError
from evm_deploy.exporters.export_options import ExportOptions


@add_command(ExportOptions)
def export(
    out: Annotated[Path, typer.Option(help="The bundle's own folder.")],
    options: ExportOptions,
    checkpoint: Annotated[
        Path | None, typer.Argument(metavar="CHECKPOINT", help=".pth, .pt, .ckpt, .bin or .safetensors.")
    ] = None,
    module: Annotated[
        str | None,
        typer.Option(help="In its place file.py:function, which returns a torch.nn.Module. Runs the file."),
    ] = None,
    module_checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="The weights of that module, where its function loads none.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a bundle for a runtime, and verify it."""
    if (checkpoint is None) == (module is None):
        raise OptionError("export takes a checkpoint or --module.", "name one of the two.")
    if module_checkpoint is not None and module is None:
        raise OptionError("--checkpoint is for the weights of --module.", "name the checkpoint without it.")
    with console.show_progress() as progress:
        from evm_deploy import pipeline

        if module is None:
            result = pipeline.export(cast(Path, checkpoint), out, options, progress=progress)
        else:
            from evm_deploy.models.module_file import build_module

            key = options.key if module_checkpoint else None
            options = dataclasses.replace(options, key=None) if module_checkpoint else options
            with build_module(module, module_checkpoint, key) as model:
                result = pipeline.export(model, out, options, progress=progress)
    if json:
        report = result.report
        print_json(bundle=result.bundle.path, passed=report and report.passed, report=report, notes=result.notes)
    else:
        print_result(result)
