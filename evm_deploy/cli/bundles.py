"""What a bundle is asked: `evm-deploy verify`, `predict` and `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evm_deploy import console
from evm_deploy.cli.app import BundleArgument, Json, app, print_json, print_report


@app.command()
def verify(
    bundle: BundleArgument,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Compare with this checkpoint in PyTorch, not with the sample.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="An image, or a folder of images, to compare on.")] = None,
    json: Json = False,
) -> None:
    """Run a bundle, with and without our operator library, and compare. Exit code 1 if it differs."""
    with console.progress() as progress:
        from evm_deploy import pipeline

        report = pipeline.verify(bundle, checkpoint=checkpoint, images=images, progress=progress)
    if json:
        print_json(bundle=bundle, passed=report.passed, report=report)
    else:
        print_report(report)
    raise typer.Exit(0 if report.passed else 1)


@app.command()
def predict(
    bundle: BundleArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to print for each image.")] = 5,
    no_library: Annotated[bool, typer.Option("--no-library", help="Run without our operator library.")] = False,
    json: Json = False,
) -> None:
    """Classify images with a bundle."""
    from evm_deploy import pipeline

    predictions = pipeline.predict(bundle, images, top=top, library=not no_library)
    if json:
        found = [
            {"image": one.image, "top": [{"label": name, "probability": value} for name, value in one.top]}
            for one in predictions
        ]
        print_json(bundle=bundle, predictions=found)
        return
    for one in predictions:
        print(one.image)
        for name, value in one.top:
            print(f"  {value:8.4f}  {console.clean(name)}")


@app.command()
def inspect(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A checkpoint, an .onnx file, an .mlpackage or a bundle.")
    ],
    json: Json = False,
) -> None:
    """Say what a checkpoint, an ONNX file, a Core ML package or a bundle holds."""
    from evm_deploy.inspection import inspect as look

    found = look(file)
    if json:
        print_json(path=found.path, kind=found.kind, **found.facts)
    else:
        console.print_facts({"path": found.path, "kind": found.kind, **found.facts})
