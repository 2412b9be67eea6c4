"""`evm-deploy evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evm_deploy import console
from evm_deploy.cli.app import Json, app, print_json
from evm_deploy.errors import CheckFailed
from evm_deploy.evaluation.evaluate_options import EvaluateOptions

if TYPE_CHECKING:
    from evm_deploy.evaluation.report import EvaluationReport


@app.command()
def evaluate(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Folders that export or quantize wrote.")],
    data: Annotated[
        str, typer.Option(help="A folder of images, or of a folder for each class; a list file; an .npz; random:N.")
    ],
    checkpoint: Annotated[
        Path | None, typer.Option(help="PyTorch beside them, as the float model to agree with.")
    ] = None,
    floor: Annotated[float | None, typer.Option(help="Least top-1 of every bundle, 0 to 1 (0.9 is 90 %).")] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Most points (0.3: three images in 1000) lost against the float model.")
    ] = None,
    count: Annotated[int | None, typer.Option(help="Evaluate on a sample of so many images.")] = None,
    seed: Annotated[int, typer.Option(help="Of that sample.")] = 0,
    no_library: Annotated[bool, typer.Option("--no-library", help="Run without our operator library.")] = False,
    every_way: Annotated[
        bool, typer.Option("--every-way", help="Run each bundle in every way that this machine has.")
    ] = False,
    latency_runs: Annotated[int, typer.Option(help="Timed runs of each; 0 leaves latency out.")] = 30,
    workers: Annotated[int | None, typer.Option(help="Share the images out to so many processes here.")] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Share them out over a Dask cluster: tcp://host:8786. It sees the same paths.")
    ] = None,
    shards: Annotated[int | None, typer.Option(help="Parts that are shared out: what a lost worker costs.")] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Print a line for each class as well.")] = False,
    out: Annotated[Path | None, typer.Option(help="A folder for the report and the confusion matrices.")] = None,
    json: Json = False,
) -> None:
    """Measure the accuracy of bundles side by side. Exit code 1 if one is below --floor or above --max-drop."""
    options = EvaluateOptions(
        checkpoint=checkpoint,
        floor=floor,
        max_drop=max_drop,
        count=count,
        seed=seed,
        library=not no_library,
        every_way=every_way,
        latency_runs=latency_runs,
        workers=workers,
        cluster=cluster,
        shards=shards,
        out=out,
    )
    with console.progress() as progress:
        from evm_deploy import pipeline

        report = pipeline.evaluate(bundles, data, options, progress=progress)
    if json:
        print_json(**report.to_dict())
    else:
        _print(report, per_class)
    if not report.passed:
        raise CheckFailed(f"{'; '.join(report.failures)}.", "train, export or quantise with less loss.")


def _print(report: EvaluationReport, per_class: bool) -> None:
    from evm_deploy.evaluation import table

    console.print_table(*table.contenders(report))
    if per_class:
        console.print_table(*table.classes(report))
    for line in table.footer(report):
        print(console.clean(line))
    for note in report.notes:
        print(f"note: {console.clean(note)}")
