"""The application that every command joins, and what commands share."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from evm_deploy import console
from evm_deploy.errors import CheckFailed
from evm_deploy.jsontext import dumps

if TYPE_CHECKING:
    from evm_deploy.pipeline import ExportResult
    from evm_deploy.verification.parity import ParityReport

app = typer.Typer(
    help="From a checkpoint or a PyTorch module to a verified bundle for ONNX, Core ML, Core AI, TensorRT or OpenVINO.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that export wrote.")]


def _print_version(asked: bool) -> None:
    if asked:
        print(f"evm-deploy {importlib.metadata.version('evm-deploy')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """From a checkpoint or a PyTorch module to a verified bundle for ONNX, Core ML, Core AI, TensorRT or OpenVINO."""


def print_report(report: ParityReport) -> None:
    console.print_rows(report.summarise())
    for note in report.notes:
        print(f"note: {console.clean(note)}")
    if report.first_divergent_block is not None:
        print(f"first block that differs: {report.first_divergent_block}")
    verdict = "passed" if report.passed else "failed"
    print(f"{verdict}: compared with {report.reference}, relative error at most {report.tolerance:.1e}")


def print_result(result: ExportResult) -> None:
    """What a command says of the bundle that it wrote."""
    if result.report is not None:
        print_report(result.report)
    for note in (*result.notes, *(result.bundle.manifest.calibration or {}).get("notes", ())):
        print(console.clean(note))
    if result.report is None:  # of which they are notes
        for note in result.bundle.manifest.describe_choices():
            print(console.clean(note))
    print(f"wrote {result.bundle.path}" + ("" if result.report is not None else ", not verified"))


def end_failed(cause: str, fix: str) -> NoReturn:
    """Ends a command whose check failed, after its results were printed."""
    console.print_error(cause, fix)
    raise typer.Exit(CheckFailed.exit_code)


def print_json(**value: Any) -> None:
    print(dumps(value), end="")
