"""`evm-deploy benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evm_deploy import console
from evm_deploy.benchmarking.benchmark_options import BenchmarkOptions
from evm_deploy.cli.app import Json, app, parse_image_size
from evm_deploy.targets import TARGETS

DEFAULTS = BenchmarkOptions()


@app.command()
def benchmark(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help=".pth, .pt, .ckpt, .bin or .safetensors.")],
    target: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(TARGETS)}; may be given again; all by default.")
    ] = None,
    image_size: Annotated[str, typer.Option(help="224, or 192x256 for height and width.")] = "224",
    scan: Annotated[str | None, typer.Option(help="es2d; ss2d: trained with the full cross-scan.")] = DEFAULTS.scan,
    key: Annotated[str | None, typer.Option(help="The entry of the checkpoint that holds the weights.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A text file with a class name a line.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Images: int8 is calibrated on them, and with classes top-1 measured."),
    ] = None,
    calibration: Annotated[str | None, typer.Option(help="Images for int8, instead of some of --data.")] = None,
    samples: Annotated[int, typer.Option(help="Images that int8 is calibrated on.")] = DEFAULTS.samples,
    count: Annotated[int | None, typer.Option(help="Measure top-1 on a sample of so many images.")] = None,
    iterations: Annotated[int, typer.Option(help="Timed runs of each form.")] = DEFAULTS.iterations,
    seconds: Annotated[float | None, typer.Option(help="Time each form so long instead.")] = DEFAULTS.seconds,
    warm_up: Annotated[int, typer.Option(help="Least runs before times may be called steady.")] = DEFAULTS.warm_up,
    threads: Annotated[int, typer.Option(help="Of the runtimes; 0 leaves it to each.")] = DEFAULTS.threads,
    every_way: Annotated[
        bool, typer.Option("--every-way", help="Each bundle with and without our operator library.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="A folder for the bundles and the report.")] = None,
    html: Annotated[Path | None, typer.Option(help="One HTML file that needs no network.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is at --out or --html.")] = False,
    json: Json = False,
) -> None:
    """Export a checkpoint in every form that this machine can make, and measure them side by side.

    Exit code 1 if a form failed that should work here.
    """
    options = BenchmarkOptions(
        targets=tuple(target or ()),
        image_size=parse_image_size(image_size),
        scan=scan,
        key=key,
        labels=labels,
        data=data,
        calibration=calibration,
        samples=samples,
        count=count,
        iterations=iterations,
        seconds=seconds,
        warm_up=warm_up,
        threads=threads,
        every_way=every_way,
        out=out,
        html=html,
        overwrite=overwrite,
    )
    with console.progress() as progress:
        from evm_deploy.benchmarking import benchmark as benchmarking
        from evm_deploy.benchmarking import benchmark_report

        report = benchmarking.benchmark(checkpoint, options, progress=progress)
    if json:
        print(report.to_json(), end="")
    else:
        console.print_table(*benchmark_report.contenders(report))
        for line in benchmark_report.footer(report):
            print(console.clean(line))
    raise typer.Exit(1 if report.failures else 0)
