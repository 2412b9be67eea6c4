"""`evm-deploy evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evm_deploy import console
from evm_deploy.cli.app import Json, end_failed, print_json
from evm_deploy.cli.command import add_command
from evm_deploy.evaluation.evaluate_options import EvaluateOptions

if TYPE_CHECKING:
    from evm_deploy.evaluation.report import EvaluationReport


@add_command(EvaluateOptions, last=["out"])
def evaluate(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Folders that export or quantize wrote.")],
    data: Annotated[
        str, typer.Option(help="A folder of images, or of a folder for each class; a list file; an .npz; random:N.")
    ],
    options: EvaluateOptions,
    per_class: Annotated[bool, typer.Option("--per-class", help="Print a line for each class as well.")] = False,
    json: Json = False,
) -> None:
    """Measure the accuracy of bundles side by side. Exit code 1 if one is below --floor or above --max-drop."""
    with console.show_progress() as progress:
        from evm_deploy import pipeline

        report = pipeline.evaluate(bundles, data, options, progress=progress)
    if json:
        print_json(**report.to_dict())
    else:
        _print(report, per_class)
    if not report.passed:
        end_failed(f"{'; '.join(report.failures)}.", "train, export or quantise with less loss.")


def _print(report: EvaluationReport, per_class: bool) -> None:
    from evm_deploy.evaluation import table

    console.print_table(*table.tabulate_contenders(report))
    if per_class:
        console.print_table(*table.tabulate_classes(report))
    for line in table.describe_figures(report):
        print(console.clean(line))
    for note in report.notes:
        print(f"note: {console.clean(note)}")
