"""`evm-deploy profile` and `report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evm_deploy import console
from evm_deploy.cli.app import Json, app, print_json
from evm_deploy.errors import CheckFailed, OptionError
from evm_deploy.profiling.devices import DEVICES
from evm_deploy.profiling.profile_options import ProfileOptions

if TYPE_CHECKING:
    from evm_deploy.profiling.report import ProfileReport

DEFAULTS = ProfileOptions()
Out = Annotated[Path | None, typer.Option(help="A folder for everything: JSON, HTML, Markdown, plots, traces.")]
Html = Annotated[Path | None, typer.Option(help="One HTML file that needs no network.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at --out or --html.")]


@app.command()
def profile(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Folders that export or quantize wrote.")],
    device: Annotated[str, typer.Option(help=f"{', '.join(row.syntax for row in DEVICES.values())}.")] = "local",
    iterations: Annotated[int, typer.Option(help="Timed runs of each bundle.")] = DEFAULTS.iterations,
    seconds: Annotated[float | None, typer.Option(help="Time each bundle so long instead.")] = DEFAULTS.seconds,
    warm_up: Annotated[int, typer.Option(help="Least runs before times may be called steady.")] = DEFAULTS.warm_up,
    threads: Annotated[int, typer.Option(help="Of the runtime; 0 leaves it to the runtime.")] = DEFAULTS.threads,
    affinity: Annotated[str, typer.Option(help="Cores to stay on, such as 0,1 or 4-7.")] = "",
    provider: Annotated[str, typer.Option(help="onnxruntime's execution provider.")] = DEFAULTS.provider,
    no_library: Annotated[bool, typer.Option("--no-library", help="Run without our operator library.")] = False,
    every_way: Annotated[
        bool, typer.Option("--every-way", help="Each bundle with and without our operator library.")
    ] = False,
    operators: Annotated[bool, typer.Option("--operators", help="Time by operator as well.")] = False,
    estimate: Annotated[
        list[str] | None, typer.Option(help="A device that is not here, to be estimated; may be given again.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="PyTorch beside the bundles.")] = None,
    lan: Annotated[bool, typer.Option("--lan", help="browser: let other machines open the page.")] = False,
    runner: Annotated[Path | None, typer.Option(help="adb: a command-line runner built for the phone.")] = None,
    apk: Annotated[Path | None, typer.Option("--app", help="adb: the benchmark app, built (.apk).")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for a silent device.")] = DEFAULTS.timeout,
    out: Out = None,
    html: Html = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure latency, memory and energy, here or on another device. Exit code 1 if a bundle could not be measured."""
    options = ProfileOptions(
        device=device,
        iterations=iterations,
        seconds=seconds,
        warm_up=warm_up,
        threads=threads,
        affinity=parse_cores(affinity),
        provider=provider,
        library=not no_library,
        every_way=every_way,
        operators=operators,
        estimates=tuple(estimate or ()),
        checkpoint=checkpoint,
        lan=lan,
        runner=runner,
        app=apk,
        timeout=timeout,
        out=out,
        html=html,
        overwrite=overwrite,
    )
    with console.progress() as progress:
        from evm_deploy import pipeline

        report = pipeline.profile(bundles, options, progress=progress)
    _print(report, json)
    failed = [f"{result.name}: {result.error.rstrip('.')}" for result in report.results if result.error is not None]
    if failed:
        raise CheckFailed(f"not measured: {'; '.join(failed)}.", "see `evm-deploy verify` and `evm-deploy doctor`.")


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


def parse_cores(text: str) -> tuple[int, ...]:
    """(0, 4, 5, 6) of `0,4-6`. Raises OptionError: anything else."""
    cores: list[int] = []
    for part in text.split(",") if text else []:
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        numbers = all(end.isascii() and end.isdigit() and len(end) < 5 for end in ends)
        if not numbers or int(ends[0]) > int(ends[1]):
            raise OptionError(f"--affinity {text!r} is not a list of cores.", "write 0,1 or 4-7.")
        cores += range(int(ends[0]), int(ends[1]) + 1)
    return tuple(sorted(set(cores)))


def _print(report: ProfileReport, json: bool) -> None:
    if json:
        print(report.to_json(), end="")
        return
    from evm_deploy.reporting import table

    console.print_table(*table.tabulate_reports([report]))
    print(console.clean(table.describe_method(report)))
    for remark in table.collect_remarks([report]):
        print(console.clean(remark))
