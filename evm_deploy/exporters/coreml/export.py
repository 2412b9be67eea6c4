"""PyTorch to Core ML: an ML Program of standard operations, none above rank 5, with the scan written out in chunks."""

import contextlib
import io
import logging
import shutil
import tempfile
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evm_deploy.errors import CheckFailed, InputError, OutputError, first_line
from evm_deploy.exporters.coreml.weights import compress
from evm_deploy.exporters.deployed import INPUT, Source
from evm_deploy.exporters.recurrence import choose_float32
from evm_deploy.exporters.scan_marks import SCANS, find_module, mark_forms, name_results
from evm_deploy.exporters.trace import deploy, trace
from evm_deploy.optional import coremltools
from evm_deploy.tasks import find_task

KEPT = "kept_float32_"  # begins the names of the operations of such a scan
FLOAT32_OPERATIONS = ("softmax",)  # of a thousand classes most are below what float16 resolves


def write(source: Source, path: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Writes the package at `path`. Returns what float16 costs each scan, which stay float32, and the program's size.

    Raises MissingToolError: no coremltools; InputError: a label is there twice; CheckFailed: the program has not the
    precision that was asked for.
    """
    coremltools()
    _check_labels(list_classes(source))
    kept, facts = choose_float32(source, progress)

    progress("converting to Core ML")
    sizes = (source.options.image_size, *source.options.more_sizes)
    models = [convert(source, size, kept) for size in sizes]
    with quiet():
        compressed = [compress(model, source.options) for model in models]
        for model in compressed:
            _describe(model, source)
        _save(compressed, sizes, path)
    return {
        "deployment_target": source.options.deployment_target,
        "weights": source.options.weights,
        "functions": _function_names(sizes),
        "operations": sum(_operations(models[0]).values()),
        **facts,
    }


def list_classes(source: Source) -> Sequence[str]:
    """The labels that become a part of the model, whose task lets an output go by them."""
    task = find_task(source.manifest.task)
    return (source.labels or ()) if any(map(task.given_by_label, source.manifest.outputs)) else ()


def _check_labels(labels: Sequence[str]) -> None:
    """A Core ML classifier gives its probabilities by label, each once."""
    first: dict[str, int] = {}
    for number, label in enumerate((unicodedata.normalize("NFC", label) for label in labels), 1):  # as Swift compares
        if label in first:
            raise InputError(
                f"the label {label!r} is on line {first[label]} and again on line {number}.",
                "tell the two apart: a Core ML classifier knows its classes by their labels.",
            )
        first[label] = number


def convert(source: Source, size: tuple[int, int], kept: Collection[str] = ()) -> Any:
    """The coremltools model at (h, w), the weights as they are; the scans of the modules `kept` stay float32."""
    ct, options = coremltools(), source.options
    fp16 = options.precision == "fp16"
    steps, outputs = source.manifest.preprocessing, source.manifest.model_outputs
    labels = list_classes(source)
    program = _program(source, size, kept)
    with quiet(), _refuse_unknown_operations(source.network.title):
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=getattr(ct.target, options.deployment_target),
            compute_precision=ct.transform.FP16ComputePrecision(_may_be_float16) if fp16 else ct.precision.FLOAT32,
            inputs=[_input(size, steps.channels if steps.baked else None)],
            outputs=[ct.TensorType(spec.name, dtype=np.dtype(spec.dtype).type) for spec in outputs],
            classifier_config=ct.ClassifierConfig(list(labels)) if labels else None,
            skip_model_load=True,
        )
    _check_outputs(model, [spec.name for spec in outputs], source.network.title)
    exact = [node for node in program.graph.nodes if node.name.startswith(KEPT)]
    exps = sum(node.target is torch.ops.aten.exp.default for node in exact)
    _check_precision(model, options.precision, exps)
    return model


@contextlib.contextmanager
def _refuse_unknown_operations(title: str) -> Iterator[None]:
    """Raises InputError where coremltools finds an operation in the network that it cannot convert."""
    try:
        yield
    except NotImplementedError as error:
        what = f"coremltools cannot convert {title}: {first_line(error)}."
        raise InputError(what, "use other operations there, or another target.") from error


def _program(source: Source, size: tuple[int, int], kept: Collection[str]) -> torch.export.ExportedProgram:
    """The folded network in float32, its scans in standard operations."""
    network = source.network
    traced = trace(deploy(network, source.manifest), (network.make_image(1, size),), ({},), network.title)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: torch.export.ExportedProgram = traced.run_decompositions(
            {
                torch.ops.aten.rms_norm.default: _write_rms_norm,
                **mark_forms(),
            }
        )
    name_results(program.graph)
    for node in program.graph.nodes:
        if str(node.meta.get("original_aten")) in SCANS and find_module(node) in kept:
            node._rename(KEPT + node.name)
    return program


def _write_rms_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """RMSNorm written out: coremltools 9.0 scales its epsilon wrongly, by 1 % of the result where x is small."""
    axes = list(range(-len(shape), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    y = x * torch.rsqrt((x * x).mean(axes, keepdim=True) + eps)
    return y if weight is None else y * weight


def _may_be_float16(operation: Any) -> bool:
    return operation.op_type not in FLOAT32_OPERATIONS and not operation.name.startswith(KEPT)


def _input(size: tuple[int, int], colours: str | None) -> Any:
    """An image, whose channels Core ML puts in the order `colours`; or with None an array."""
    ct = coremltools()
    shape = (1, 3, *size)
    if colours is None:
        return ct.TensorType(INPUT, shape, float)
    return ct.ImageType(INPUT, shape, color_layout=getattr(ct.colorlayout, colours))


def _operations(model: Any) -> Counter[tuple[str, str]]:
    """How often the program has each (operation, type of its first output), constants left out."""
    (function,) = model.get_spec().mlProgram.functions.values()
    types = coremltools().proto.MIL_pb2.DataType
    return Counter(
        (operation.type, types.Name(operation.outputs[0].type.tensorType.dataType))
        for block in function.block_specializations.values()
        for operation in block.operations
        if operation.type != "const"
    )


def _check_outputs(model: Any, names: Collection[str], title: str) -> None:
    """Raises InputError for an output that is the same for all images: a program does not compute it."""
    (function,) = model.get_spec().mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    computed = {output.name for each in block.operations if each.type != "const" for output in each.outputs}
    for name, output in zip(names, block.outputs, strict=False):
        if output not in computed:
            raise InputError(
                f"{title} gives the same {name} for every image, and a Core ML program computes its outputs.",
                "check that the forward uses its image and that the weights were loaded.",
            )


def _check_precision(model: Any, precision: str, exps: int) -> None:
    """Raises CheckFailed unless every scan, convolution and product computes in the type that it should.

    exps: the exponentials of the scans that stay float32.
    """
    found = _operations(model)
    wanted = "FLOAT16" if precision == "fp16" else "FLOAT32"
    wrong = {
        f"{count} {kind} in {dtype}"
        for (kind, dtype), count in found.items()
        if kind in ("conv", "linear", "exp") and dtype != wanted and (kind, count) != ("exp", exps)
    }
    if wrong or (precision == "fp16" and found["exp", "FLOAT32"] != exps):
        raise CheckFailed(
            f"the Core ML program is not {precision} throughout: {', '.join(sorted(wrong)) or 'no float32 scan'}.",
            "this is a fault of evm-deploy or of this coremltools: report it with the output of `evm-deploy doctor`.",
        )


def _describe(model: Any, source: Source) -> None:
    """What Xcode shows of a model."""
    options, checkpoint = source.options, source.manifest.checkpoint
    model.author, model.license, model.version = options.author, options.licence, options.version
    model.short_description = options.description or f"{source.network.title} from {checkpoint.file}"
    model.user_defined_metadata["evm-deploy.checkpoint.sha256"] = checkpoint.sha256
    model.user_defined_metadata["evm-deploy.version"] = source.manifest.tools["evm-deploy"]


def _function_names(sizes: Collection[tuple[int, int]]) -> list[str]:
    return ["main"] if len(sizes) == 1 else [f"size_{h}x{w}" for h, w in sizes]


def _save(models: Collection[Any], sizes: Collection[tuple[int, int]], path: Path) -> None:
    """One package: of several sizes each is a function of its own, on the same weights."""
    if len(models) == 1:
        next(iter(models)).save(str(path))
        return
    ct = coremltools()
    functions = ct.utils.MultiFunctionDescriptor()
    parts = []
    try:
        for model, name in zip(models, _function_names(sizes), strict=True):
            parts.append(path.with_name(f"{name}.mlpackage"))
            model.save(str(parts[-1]))
            functions.add_function(str(parts[-1]), "main", name)
        functions.default_function_name = _function_names(sizes)[0]
        ct.utils.save_multifunction(functions, str(path))
    finally:
        for part in parts:
            shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """coremltools draws progress bars, and remarks on names and types that it changes."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except RuntimeError as error:
        if "FileWriter" not in str(error):
            raise
        folder = tempfile.gettempdir()
        raise OutputError(f"coremltools cannot write to {folder}.", "free some space there, or set TMPDIR.") from error
    finally:
        logger.setLevel(level)
