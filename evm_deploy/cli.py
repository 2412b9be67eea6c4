"""The command line: a command parses, calls the function of its name, and prints.

Exit codes: 0 done; 1 a check failed; 2 wrong input or a missing tool; 130 interrupted; 141 nobody reads our
stdout; 70 a fault of evm-deploy.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evm_deploy import console
from evm_deploy.calib.options import METHODS, QuantizeOptions
from evm_deploy.errors import CheckFailed, EvmDeployError, OptionError
from evm_deploy.evaluation.options import EvaluateOptions
from evm_deploy.exporters.options import DEPLOYMENT_TARGETS, TARGETS, WEIGHTS, ExportOptions
from evm_deploy.jsontext import dumps

if TYPE_CHECKING:
    from evm_deploy.evaluation.report import EvaluationReport
    from evm_deploy.verification.parity import ParityReport

INTERRUPTED = 130
BROKEN_PIPE = 141  # as the shell says of a program that the signal ended: neither passed nor failed
FAULT = 70
# typer has carried its own click since 0.26; through its public exception this is the right class in both.
UsageError: type[Any] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    help="From an EfficientVMamba checkpoint to a verified bundle for ONNX, Core ML or TensorRT.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
DEFAULTS = ExportOptions()
QUANTIZE = QuantizeOptions()
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that export wrote.")]


def _version(asked: bool) -> None:
    if asked:
        print(f"evm-deploy {importlib.metadata.version('evm-deploy')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """From an EfficientVMamba checkpoint to a verified bundle for ONNX, Core ML or TensorRT."""


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
    scan: Annotated[str, typer.Option(help="es2d; ss2d: trained with the full cross-scan.")] = DEFAULTS.scan,
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
    path, report = result.bundle.path, result.report
    if json:
        _print_json(bundle=path, passed=report and report.passed, report=report)
        return
    if report is not None:
        _print_report(report)
    print(f"wrote {path}" if report is not None else f"wrote {path}, not verified")


@app.command()
def quantize(
    bundle: BundleArgument,
    data: Annotated[
        str, typer.Option(help="Images to measure ranges on: a folder, a folder of classes, a list file, an .npz.")
    ],
    out: Annotated[Path, typer.Option(help="The int8 bundle's own folder.")],
    method: Annotated[str, typer.Option(help=f"How ranges are chosen: {', '.join(METHODS)}.")] = QUANTIZE.method,
    percentile: Annotated[float, typer.Option(help="For the method percentile.")] = QUANTIZE.percentile,
    samples: Annotated[int, typer.Option(help="Images that are read, a sample of the data; 0 for all.")] = 256,
    seed: Annotated[int, typer.Option(help="Of that sample.")] = 0,
    no_equalise: Annotated[bool, typer.Option("--no-equalise", help="Leave the scales of channels alone.")] = False,
    no_bias_correction: Annotated[bool, typer.Option("--no-bias-correction", help="Leave the biases alone.")] = False,
    exclude: Annotated[
        list[str] | None, typer.Option(help="A layer or a block that stays float; may be given again.")
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Measure what each part loses and wins, and take the best mix.")
    ] = False,
    max_drop: Annotated[float, typer.Option(help="For the search: points of top-1 that may be lost.")] = 0.3,
    by: Annotated[str, typer.Option(help="For the search: block or layer.")] = QUANTIZE.by,
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
    path, report = result.bundle.path, result.report
    if json:
        calibration = result.bundle.manifest.calibration
        _print_json(bundle=path, passed=report and report.passed, report=report, calibration=calibration)
        return
    if report is not None:
        _print_report(report)
    for note in (result.bundle.manifest.calibration or {}).get("notes", ()):
        print(console.clean(note))
    print(f"wrote {path}" if report is not None else f"wrote {path}, not verified")


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
        _print_json(bundle=bundle, passed=report.passed, report=report)
    else:
        _print_report(report)
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
        _print_json(bundle=bundle, predictions=found)
        return
    for one in predictions:
        print(one.image)
        for name, value in one.top:
            print(f"  {value:8.4f}  {console.clean(name)}")


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
        _print_json(**report.to_dict())
    else:
        _print_evaluation(report, per_class)
    if not report.passed:
        raise CheckFailed(f"{'; '.join(report.failures)}.", "train, export or quantise with less loss.")


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
        _print_json(path=found.path, kind=found.kind, **found.facts)
    else:
        console.print_facts({"path": found.path, "kind": found.kind, **found.facts})


@app.command()
def doctor(json: Json = False) -> None:
    """Check this machine: libraries, their versions, and our operator library."""
    from evm_deploy.diagnosis import doctor as examine

    checks = examine()
    ready = all(check.ready for check in checks)
    if json:
        _print_json(ready=ready, checks=checks)
    else:
        console.print_rows(checks)
    raise typer.Exit(0 if ready else 2)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command line and returns its exit code; every failure is a line or two on stderr."""
    console.open_streams()
    _end_as_on_ctrl_c()
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or onnxruntime leaves an identifier in the home folder
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        code = app(arguments or ["--help"], prog_name="evm-deploy", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # newer typers turn Ctrl-C into this
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except EvmDeployError as error:
        return _failed(error.cause, error.fix, error.exit_code)
    except UsageError as error:
        return _failed(*_usage(error), 2)
    except (BrokenPipeError, SystemExit):  # our reader, say `head`, has gone; typer makes that a SystemExit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:  # a file that may not be read, a name too long, a full disk under stdout
        where = f"{error.filename}: " if error.filename is not None else ""
        return _failed(f"{where}{error.strerror or error}.", "check the path, its permissions and the space there.", 2)
    except MemoryError:
        return _failed("there is not enough memory for this.", "use a smaller --image-size, or a larger machine.", 2)
    except Exception as error:
        cause = f"unexpected {type(error).__name__}: {error}"
        return _failed(cause, "this is a fault of evm-deploy: report it with the output of EVM_DEPLOY_DEBUG=1.", FAULT)


def parse_image_size(text: str) -> tuple[int, int]:
    """(h, w) from `224` or `192x256`. Raises OptionError: anything else."""
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip(), flags=re.ASCII)
    if match is None:
        raise OptionError(f"--image-size {text!r} is not a size.", "write 224, or 192x256 for height and width.")
    return int(match[1]), int(match[2] or match[1])


def _end_as_on_ctrl_c() -> None:
    """Has the other polite ways to end a program remove what is half written, unless somebody handles them."""
    for number in (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")):
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(number, signal.default_int_handler)


def _usage(error: Any) -> tuple[str, str]:
    context = error.ctx
    command = context.command_path if context is not None else "evm-deploy"
    near = getattr(error, "possibilities", None)
    cause = error.message if near else error.format_message()
    return cause, (f"did you mean {near[0]}? " if near else "") + f"see {command} --help."


def _failed(cause: str, fix: str, code: int) -> int:
    if os.environ.get("EVM_DEPLOY_DEBUG"):
        traceback.print_exc()
    with contextlib.suppress(OSError):  # of a full or closed stderr: the exit code says it still
        console.error(cause, fix)
    return code


def _print_report(report: ParityReport) -> None:
    console.print_rows(report.summary())
    for note in report.notes:
        print(f"note: {console.clean(note)}")
    if report.first_divergent_block is not None:
        print(f"first block that differs: {report.first_divergent_block}")
    verdict = "passed" if report.passed else "failed"
    print(f"{verdict}: compared with {report.reference}, relative error at most {report.tolerance:.1e}")


def _print_evaluation(report: EvaluationReport, per_class: bool) -> None:
    from evm_deploy.evaluation import table

    console.print_table(*table.contenders(report))
    if per_class:
        console.print_table(*table.classes(report))
    for line in table.footer(report):
        print(console.clean(line))
    for note in report.notes:
        print(f"note: {console.clean(note)}")


def _print_json(**value: Any) -> None:
    print(dumps(value), end="")
