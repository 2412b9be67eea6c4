"""Describes the contents of a file: a checkpoint, a model for a target, a bundle, or a package."""

from __future__ import annotations

import collections
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evm_deploy.bundle import MANIFEST, Bundle, IOSpec
from evm_deploy.errors import InputError, OptionError
from evm_deploy.files import is_lfs_pointer, read_file, sha256_file
from evm_deploy.packaging.verify import is_package, open_package
from evm_deploy.targets import TARGETS

if TYPE_CHECKING:
    import onnx

LARGEST_GRAPH = (2 << 30) - 1  # bytes of an .onnx file: protobuf has no more


@dataclass(frozen=True)
class Inspection:
    """What was found: `kind` is "checkpoint", "bundle", "package" or the target of a model; `facts` plain values."""

    path: Path
    kind: str
    facts: dict[str, Any]


def inspect(path: str | os.PathLike[str], *, key: str | None = None) -> Inspection:
    """Reads a checkpoint, an `.onnx`, `.mlpackage` or `.aimodel`, a bundle's folder or a package; runs nothing in it.

    key: of a checkpoint that holds several networks, where the one to look at is; without it they are only listed.
    Raises InputError: nothing there, or nothing that can be read as what its name says; MissingToolError: a model for
    Core ML or Core AI, and no coremltools or coreai-core.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist.", "name a checkpoint, an .onnx file, an .mlpackage or a bundle.")
    if path.is_file() and is_lfs_pointer(path):
        raise InputError(f"{path} is a pointer of git LFS, not the file itself.", "run `git lfs pull`.")
    kind = "package" if is_package(path) else _find_format(path)
    if kind is None:
        kind = "bundle" if path.is_dir() or path.name == MANIFEST else "checkpoint"
    if kind == "checkpoint":
        return Inspection(path, kind, _describe_checkpoint(path, key))
    if key is not None:
        raise OptionError(f"{path} is no checkpoint that could hold several networks.", "leave the key out.")
    if kind == "package":
        return Inspection(path, kind, _describe_package(path))
    if kind == "bundle":
        return Inspection(path, kind, _describe_bundle(path if path.is_dir() else path.parent))
    return Inspection(path, kind, _READERS[kind](path))


def _describe_bundle(path: Path) -> dict[str, Any]:
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    facts = asdict(manifest)
    facts["inputs"] = {spec.name: _describe_tensor(spec) for spec in manifest.inputs}
    facts["outputs"] = {spec.name: _describe_tensor(spec) for spec in manifest.outputs}
    facts["parity"] = {name: value for name, value in (manifest.parity or {}).items() if name != "rows"}
    facts["files"] = {name: (path / name).stat().st_size for name in manifest.files}
    if kind := _find_format(bundle.model_path):
        facts[kind] = _READERS[kind](bundle.model_path)
    return facts


def _describe_package(path: Path) -> dict[str, Any]:
    """A package is checked as `verify` does, but for its signature, and not run."""
    with open_package(path) as (package, models):
        return {
            "name": package.name,
            "platform": package.platform,
            "files": package.files,
            "bytes": package.bytes,
            "signature": package.signature,
            "models": {model.name: _summarise(model.bundle) for model in models},
        }


def _summarise(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "task": manifest.task,
        "target": manifest.target,
        "precision": manifest.precision,
        "bytes": bundle.size,
        "inputs": {spec.name: _describe_tensor(spec) for spec in manifest.inputs},
        "outputs": {spec.name: _describe_tensor(spec) for spec in manifest.outputs},
        "checkpoint": asdict(manifest.checkpoint),
    }


def _find_format(path: Path) -> str | None:
    """The first target whose models have this suffix, and are folders where this is one."""
    found = (name for name, row in TARGETS.items() if row.suffix == path.suffix.lower() and name in _READERS)
    return next((name for name in found if TARGETS[name].writes_folder or not path.is_dir()), None)


def _describe_coreml(path: Path) -> dict[str, Any]:
    from evm_deploy.runtimes.mil.describe import describe

    return describe(path)


def _describe_coreai(path: Path) -> dict[str, Any]:
    from evm_deploy.runtimes.aimodel import describe

    return describe(path)


def _describe_tensor(spec: IOSpec) -> str:
    return f"{spec.dtype} ({', '.join(map(str, spec.shape))}) {spec.layout} {spec.meaning}"


def _describe_onnx(path: Path) -> dict[str, Any]:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from evm_deploy.operators import DOMAIN, is_scan

    fix = "name an intact .onnx file."
    content = read_file(path, LARGEST_GRAPH, lambda cause: InputError(cause, fix))
    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise InputError(f"{path} cannot be read as ONNX ({error}).", fix) from error
    if not model.opset_import or not model.graph.node:
        raise InputError(f"{path} holds no ONNX graph.", "name an intact .onnx file.")
    functions = {f"{function.domain}::{function.name}": len(function.node) for function in model.functions}
    operators = collections.Counter(_name_operator(node) for node in model.graph.node)
    ours = [name for name in operators if name.startswith(f"{DOMAIN}::")]
    weights: collections.Counter[str] = collections.Counter()
    for tensor in model.graph.initializer:
        weights[_name_dtype(tensor.data_type)] += _count_bytes(tensor)
    return {
        "bytes": path.stat().st_size,
        "sha256": sha256_file(path),
        "ir_version": model.ir_version,
        "opsets": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "inputs": {value.name: _describe_value(value) for value in model.graph.input},
        "outputs": {value.name: _describe_value(value) for value in model.graph.output},
        "nodes": len(model.graph.node),
        "operators": dict(operators.most_common()),
        "function_nodes": functions,
        "weight_bytes": dict(weights),
        "scan_is_one_operator": any(map(is_scan, model.graph.node)),
        "scan_runs_on_a_stock_runtime": all(name in functions for name in ours),
    }


def _describe_checkpoint(path: Path, key: str | None) -> dict[str, Any]:
    from evm_deploy.models import count_parameters, open_file

    file = open_file(path)
    networks = file.list_networks()
    facts = {"bytes": path.stat().st_size, "sha256": file.sha256, "networks": list(networks.values())}
    if key is None and len(networks) > 1:
        return facts | {"choose_with_key": list(networks)}
    checkpoint = file.read(key=key)
    return facts | {
        "family": checkpoint.family.title,
        "variant": checkpoint.family.name_variant(checkpoint.config),
        "parameters": count_parameters(checkpoint.build()),
        "config": asdict(checkpoint.config),
        "classes": checkpoint.class_names,
        "weights_under": checkpoint.source_key,
        "preprocessing": dict(checkpoint.recorded.values),
        "preprocessing_remarks": list(checkpoint.recorded.remarks.values()),
        "ignored": checkpoint.ignored,
        "not_loaded": checkpoint.not_loaded,
    }


def _name_operator(node: onnx.NodeProto) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else str(node.op_type)


def _describe_value(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    sides = [side.dim_param or (side.dim_value if side.HasField("dim_value") else "?") for side in kind.shape.dim]
    return f"{_name_dtype(kind.elem_type)} ({', '.join(map(str, sides))})"


def _name_dtype(number: int) -> str:
    import onnx

    names: dict[int, str] = {value: name.lower() for name, value in onnx.TensorProto.DataType.items()}
    return names.get(number, f"type {number}")


def _count_bytes(tensor: onnx.TensorProto) -> int:
    import onnx

    try:
        size: int = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError, TypeError):  # a type that this onnx does not know
        return len(tensor.raw_data)
    return size * int(math.prod(tensor.dims))


# By the target that has such files.
_READERS = {"onnx": _describe_onnx, "coreml": _describe_coreml, "coreai": _describe_coreai}
