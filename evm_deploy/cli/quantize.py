"""`evm-deploy quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evm_deploy import console
from evm_deploy.calib.quantize_options import METHODS, QuantizeOptions
from evm_deploy.cli.app import BundleArgument, Json, app, print_json, print_result

DEFAULTS = QuantizeOptions()


@app.command()
def quantize(
    bundle: BundleArgument,
    data: Annotated[
        str, typer.Option(help="Images to measure ranges on: a folder, a folder of classes, a list file, an .npz.")
    ],
    out: Annotated[Path, typer.Option(help="The int8 bundle's own folder.")],
    method: Annotated[str, typer.Option(help=f"How ranges are chosen: {', '.join(METHODS)}.")] = DEFAULTS.method,
    percentile: Annotated[float, typer.Option(help="For the method percentile.")] = DEFAULTS.percentile,
    samples: Annotated[
        int, typer.Option(help="Images that are read, a sample of the data; 0 for all.")
    ] = DEFAULTS.samples or 0,
    seed: Annotated[int, typer.Option(help="Of that sample.")] = DEFAULTS.seed,
    no_equalise: Annotated[bool, typer.Option("--no-equalise", help="Leave the scales of channels alone.")] = False,
    no_bias_correction: Annotated[bool, typer.Option("--no-bias-correction", help="Leave the biases alone.")] = False,
    exclude: Annotated[
        list[str] | None, typer.Option(help="A layer or a block that stays float; may be given again.")
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Measure what each part loses and wins, and take the best mix.")
    ] = False,
    max_drop: Annotated[
        float, typer.Option(help="For the search: points of top-1 that may be lost.")
    ] = DEFAULTS.max_drop,
    by: Annotated[str, typer.Option(help="For the search: block or layer.")] = DEFAULTS.by,
    cache: Annotated[
        Path | None, typer.Option(help="A folder for what was measured: a killed run goes on from there.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="A folder for pictures of histograms, ranges, the search.")] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not compare with the float bundle.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle at --out.")] = False,
    json: Json = False,
) -> None:
    """Write an int8 bundle of a float one, and prove what runs on integers."""
    options = QuantizeOptions(
        method=method,
        percentile=percentile,
        samples=samples or None,
        seed=seed,
        equalise=not no_equalise,
        bias_correction=not no_bias_correction,
        exclude=tuple(exclude or ()),
        search=search,
        max_drop=max_drop,
        by=by,
        cache=cache,
        plots=plots,
        verify=not no_verify,
        overwrite=overwrite,
    )
    with console.progress() as progress:
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
