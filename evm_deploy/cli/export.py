"""`evm-deploy export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evm_deploy import console
from evm_deploy.cli.app import Json, app, parse_image_size, print_json, print_result
from evm_deploy.exporters.export_options import DEPLOYMENT_TARGETS, WEIGHTS, ExportOptions
from evm_deploy.targets import TARGETS

DEFAULTS = ExportOptions()


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help=".pth, .pt, .ckpt, .bin or .safetensors.")],
    out: Annotated[Path, typer.Option(help="The bundle's own folder.")],
    target: Annotated[str, typer.Option(help=f"{', '.join(TARGETS)}.")] = DEFAULTS.target,
    precision: Annotated[str, typer.Option(help="fp32 or fp16.")] = DEFAULTS.precision,
    image_size: Annotated[
        str, typer.Option(help="224, or 192x256 for height and width; for Core ML several: 224,192x256.")
    ] = "224",
    opset: Annotated[int, typer.Option(help="ONNX opset.")] = DEFAULTS.opset,
    dynamic_batch: Annotated[bool, typer.Option("--dynamic-batch", help="Any number of images.")] = False,
    dynamic_size: Annotated[bool, typer.Option("--dynamic-size", help="Any height and width.")] = False,
    bake_preprocessing: Annotated[
        bool, typer.Option("--bake-preprocessing", help="Take a uint8 NHWC image and normalise it in the model.")
    ] = False,
    softmax: Annotated[bool, typer.Option("--softmax", help="Give probabilities, not logits.")] = False,
    labels: Annotated[Path | None, typer.Option(help="A text file with a class name a line.")] = None,
    scan_form: Annotated[
        str | None, typer.Option(help="operator; inlined: standard operators only.")
    ] = DEFAULTS.scan_form,
    deployment_target: Annotated[
        str, typer.Option(help=f"Core ML: the oldest system, {', '.join(DEPLOYMENT_TARGETS)}.")
    ] = DEFAULTS.deployment_target,
    weights: Annotated[
        str, typer.Option(help=f"Core ML: how weights are stored, {', '.join(WEIGHTS)}.")
    ] = DEFAULTS.weights,
    author: Annotated[str, typer.Option(help="Core ML: who made the model.")] = "",
    licence: Annotated[str, typer.Option("--license", help="Core ML: its licence.")] = "",
    version: Annotated[str, typer.Option("--model-version", help="Core ML: its version.")] = "",
    description: Annotated[str, typer.Option(help="Core ML: what it does.")] = "",
    compute_capability: Annotated[
        str, typer.Option(help="TensorRT: what engines are built for, such as 8.6,8.9; all by default.")
    ] = "",
    plugin: Annotated[bool, typer.Option("--plugin", help="TensorRT: the scan by our CUDA kernel.")] = False,
    key: Annotated[str | None, typer.Option(help="The entry of the checkpoint that holds the weights.")] = None,
    scan: Annotated[str | None, typer.Option(help="es2d; ss2d: trained with the full cross-scan.")] = DEFAULTS.scan,
    images: Annotated[Path | None, typer.Option(help="Verify on this image, or folder of images, as well.")] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not compare the result with PyTorch.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle at --out.")] = False,
    json: Json = False,
) -> None:
    """Write a bundle for a runtime, and verify it."""
    size, *more_sizes = map(parse_image_size, image_size.split(","))
    options = ExportOptions(
        target=target,
        precision=precision,
        image_size=size,
        opset=opset,
        dynamic_batch=dynamic_batch,
        dynamic_size=dynamic_size,
        bake_preprocessing=bake_preprocessing,
        softmax=softmax,
        labels=labels,
        scan_form=scan_form,
        deployment_target=deployment_target,
        weights=weights,
        more_sizes=tuple(more_sizes),
        author=author,
        licence=licence,
        version=version,
        description=description,
        compute_capabilities=tuple(map(str.strip, compute_capability.split(","))) if compute_capability else (),
        plugin=plugin,
        key=key,
        scan=scan,
        images=images,
        verify=not no_verify,
        overwrite=overwrite,
    )
    with console.progress() as progress:
        from evm_deploy import pipeline

        result = pipeline.export(checkpoint, out, options, progress=progress)
    if json:
        report = result.report
        print_json(bundle=result.bundle.path, passed=report and report.passed, report=report)
    else:
        print_result(result)
