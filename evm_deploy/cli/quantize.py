"""`evm-deploy quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evm_deploy import console
from evm_deploy.calib.quantize_options import QuantizeOptions
from evm_deploy.cli.app import BundleArgument, Json, print_json, print_result
from evm_deploy.cli.command import add_command


@add_command(QuantizeOptions)
def quantize(
    bundle: BundleArgument,
    data: Annotated[
        str, typer.Option(help="Images to measure ranges on: a folder, a folder of classes, a list file, an .npz.")
    ],
    out: Annotated[Path, typer.Option(help="The int8 bundle's own folder.")],
    options: QuantizeOptions,
    json: Json = False,
) -> None:
    """Write an int8 bundle of a float one, and prove what runs on integers."""
    with console.show_progress() as progress:
        from evm_deploy import pipeline

        result = pipeline.quantize(bundle, data, out, options, progress=progress)
    if json:
        made, report = result.bundle, result.report
        print_json(
            bundle=made.path,
            passed=report and report.passed,
            report=report,
            calibration=made.manifest.calibration,
        )
    else:
        print_result(result)
