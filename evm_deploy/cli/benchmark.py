"""`evm-deploy benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evm_deploy import console
from evm_deploy.benchmarking.benchmark_options import BenchmarkOptions
from evm_deploy.cli.app import Json
from evm_deploy.cli.command import add_command


@add_command(BenchmarkOptions)
def benchmark(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help=".pth, .pt, .ckpt, .bin or .safetensors.")],
    options: BenchmarkOptions,
    json: Json = False,
) -> None:
    """Export a checkpoint in every form that this machine can make, and measure them side by side.

    Exit code 1 if a form failed that should work here.
    """
    with console.show_progress() as progress:
        from evm_deploy.benchmarking import benchmark as benchmarking
        from evm_deploy.benchmarking import benchmark_report

        report = benchmarking.benchmark(checkpoint, options, progress=progress)
    if json:
        print(report.to_json(), end="")
    else:
        console.print_table(*benchmark_report.tabulate_rows(report))
        for line in benchmark_report.describe_figures(report):
            print(console.clean(line))
    raise typer.Exit(1 if report.failures else 0)
