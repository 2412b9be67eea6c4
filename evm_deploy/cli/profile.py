"""`evm-deploy profile` and `report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evm_deploy import console
from evm_deploy.cli.app import Json, app, end_failed, print_json
from evm_deploy.cli.command import add_command, describe_option
from evm_deploy.profiling.profile_options import ProfileOptions

if TYPE_CHECKING:
    from evm_deploy.profiling.report import ProfileReport

Out = Annotated[Path | None, describe_option(ProfileOptions, "out")]
Html = Annotated[Path | None, describe_option(ProfileOptions, "html")]
Overwrite = Annotated[bool, describe_option(ProfileOptions, "overwrite")]


@add_command(ProfileOptions)
def profile(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Folders that export or quantize wrote.")],
    options: ProfileOptions,
    json: Json = False,
) -> None:
    """Measure latency, memory and energy, here or on another device. Exit code 1 if a bundle could not be measured."""
    with console.show_progress() as progress:
        from evm_deploy import pipeline

        report = pipeline.profile(bundles, options, progress=progress)
    _print(report, json)
    failed = [f"{result.name}: {result.error.rstrip('.')}" for result in report.results if result.error is not None]
    if failed:
        end_failed(f"not measured: {'; '.join(failed)}.", "see `evm-deploy verify` and `evm-deploy doctor`.")


@app.command()
def report(
    profiles: Annotated[
        list[Path], typer.Argument(metavar="PROFILE...", help="Files or folders that profile or a device wrote.")
    ],
    evaluation: Annotated[
        Path | None, typer.Option(help="What `evaluate --out` wrote: accuracy beside latency.")
    ] = None,
    out: Out = None,
    html: Html = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Put profiles, of any devices, into one report; a Markdown table on stdout."""
    from evm_deploy import pipeline
    from evm_deploy.reporting import accuracy, markdown

    reports = pipeline.report(profiles, evaluation=evaluation, out=out, html=html, overwrite=overwrite)
    if json:
        print_json(profiles=reports)
    else:
        known = accuracy.read_accuracies(evaluation) if evaluation is not None else ()
        print(markdown.render_table(reports, known), end="")


def _print(report: ProfileReport, json: bool) -> None:
    if json:
        print(report.to_json(), end="")
        return
    from evm_deploy.reporting import table

    console.print_table(*table.tabulate_reports([report]))
    print(console.clean(table.describe_method(report)))
    for remark in table.collect_remarks([report]):
        print(console.clean(remark))
