"""What a bundle is asked: `evm-deploy verify`, `predict` and `inspect`."""

from __future__ import annotations

import contextlib
import sys
from csv import writer
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evm_deploy import console
from evm_deploy.cli.app import Json, app, print_json, print_report
from evm_deploy.errors import OptionError
from evm_deploy.jsontext import utf8_name

if TYPE_CHECKING:
    from evm_deploy.packaging.verify import PackageReport
    from evm_deploy.prediction import Prediction


@app.command()
def verify(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="What export or quantize wrote; or a package, a folder or .zip.")
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Compare with this checkpoint in PyTorch, not with the sample; with --module its weights."),
    ] = None,
    module: Annotated[
        str | None,
        typer.Option(help="The same with the module of file.py:function that was exported. Runs the code of the file."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="With --module: the entry of the checkpoint that holds the weights.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="An image, or a folder of images, to compare on.")] = None,
    public_key: Annotated[
        str | None, typer.Option(help="Of a package: minisign's public key, a file or its text.")
    ] = None,
    json: Json = False,
) -> None:
    """Run a bundle in every way that is here, and compare; of a package check every byte. Exit code 1 if it differs."""
    if key is not None and (checkpoint is None or module is None):
        raise OptionError("--key is for the weights of --module.", "leave it out: the bundle knows its checkpoint's.")
    with console.show_progress() as progress, contextlib.ExitStack() as stack:
        from evm_deploy import pipeline
        from evm_deploy.verification.parity import ParityReport

        model: Any = checkpoint
        if module is not None:
            from evm_deploy.models.module_file import build_module

            model = stack.enter_context(build_module(module, checkpoint, key))
        report = pipeline.verify(bundle, checkpoint=model, images=images, public_key=public_key, progress=progress)
    if json:
        print_json(bundle=bundle, passed=report.passed, report=report)
    elif isinstance(report, ParityReport):
        print_report(report)
    else:
        _print_package(report)
    raise typer.Exit(0 if report.passed else 1)


@app.command()
def predict(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="What export or quantize wrote; or a package of one model.")
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to print for each image.")] = 5,
    no_library: Annotated[bool, typer.Option("--no-library", help="Run without our operator library.")] = False,
    save: Annotated[
        Path | None, typer.Option(help="A new folder for drawings of what a detector or segmenter found.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print a table, a row for each class or thing.")] = False,
    json: Json = False,
) -> None:
    """Classify images with a bundle, or find what is in them."""
    from evm_deploy import pipeline

    if csv and json:
        raise OptionError("--csv and --json are two forms of one output.", "leave one out.")
    predictions = pipeline.predict(bundle, images, top=top, library=not no_library, save=save)
    if csv:
        _print_rows(predictions)
        return
    if json:
        print_json(bundle=bundle, predictions=list(map(_list_answers, predictions)))
        return
    for one in predictions:
        print(console.clean(str(one.image)))
        for name, value in one.top:
            print(f"  {value:8.4f}  {console.clean(name)}")
        for path in one.saved:
            print(f"  saved {console.clean(str(path))}")


def _list_answers(one: Prediction) -> dict[str, Any]:
    saved = {"saved": one.saved} if one.saved else {}
    if one.findings is not None:
        return {"image": one.image, **one.findings.to_dict(), **saved}
    return {"image": one.image, "top": [{"label": name, "probability": value} for name, value in one.top]}


def _print_rows(predictions: list[Prediction]) -> None:
    """Prints comma-separated values: the image, the label, and its probability, its share, or its score and box."""
    from evm_deploy.showing.findings import DetectedThings

    table, found = writer(sys.stdout, lineterminator="\n"), [one.findings for one in predictions]
    boxes = isinstance(found[0], DetectedThings)
    value = "score" if boxes else "probability" if found[0] is None else "share"
    table.writerow(["image", "label", value, *(("x", "y", "width", "height") if boxes else ())])
    for one in predictions:
        image = utf8_name(str(one.image))
        if isinstance(one.findings, DetectedThings):
            table.writerows([image, thing.name, thing.score, *thing.bbox] for thing in one.findings.things)
        else:
            table.writerows([image, *pair] for pair in one.top)


@app.command()
def inspect(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A checkpoint, an .onnx file, an .mlpackage, a bundle or a package.")
    ],
    key: Annotated[
        str | None, typer.Option(help="Of a checkpoint with several networks: where the one to look at is.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what a checkpoint, an ONNX file, a model for Core ML or Core AI, a bundle or a package holds."""
    from evm_deploy.inspection import inspect as look

    found = look(file, key=key)
    if json:
        print_json(path=found.path, kind=found.kind, **found.facts)
    else:
        console.print_facts({"path": found.path, "kind": found.kind, **found.facts})


def _print_package(report: PackageReport) -> None:
    package = report.package
    for name, parity in report.reports.items():
        print(f"{console.clean(name)}:")
        print_report(parity)
    signature = {"none": "not signed", "not checked": "signature not checked: name --public-key"}
    said = signature.get(package.signature, f"signature valid ({console.clean(package.trusted_comment or '')})")
    what = console.clean(f"{package.platform} package {package.name}")
    print(f"{what}: {package.files} files as they were packaged, {said}")
