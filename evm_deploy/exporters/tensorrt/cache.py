"""Caches engines in the user's cache folder, because building one takes seconds to minutes."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from evm_deploy.caches import find_cache_folder
from evm_deploy.cuda.compile import SOURCE
from evm_deploy.exporters.tensorrt import libraries
from evm_deploy.exporters.tensorrt.build import Engine, EngineRequest
from evm_deploy.exporters.tensorrt.layers import EngineLayer
from evm_deploy.files import read_file, replace_file, sha256_file

KEPT = 8  # engines, of tens of megabytes each; the oldest are deleted
SCHEMA = 1
LARGEST = 1 << 32  # bytes of an engine that is read


def find_engine_path(trt: Any, request: EngineRequest) -> Path:
    """The path of a request's engine: a hash of all that it depends on, including the library's version and the GPU."""
    device, kernels = "", ""
    if libraries.has_gpu():
        import torch

        device = torch.cuda.get_device_name()
    if request.plugin:
        kernels = sha256_file(SOURCE)
    facts = dataclasses.asdict(request) | {"graph": hashlib.sha256(request.graph).hexdigest()}
    key = json.dumps([SCHEMA, libraries.name_library(trt), device, kernels, facts], sort_keys=True)
    return find_cache_folder() / "engines" / f"{hashlib.sha256(key.encode()).hexdigest()}.engine"


def load_engine(path: Path) -> Engine | None:
    """Loads the engine at `path`; None if there is none, or the file is damaged."""
    try:
        digest, rest = read_file(path, LARGEST, OSError).split(b"\n", 1)
        if hashlib.sha256(rest).hexdigest() != digest.decode():
            return None
        head, data = rest.split(b"\n", 1)
        facts = json.loads(head)
        layers = tuple(
            EngineLayer(name, kind, *(tuple(names) for names in others)) for name, kind, *others in facts["layers"]
        )
        return Engine(data, layers, str(facts["inspected"]), str(facts["log"]))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):  # a JSONDecodeError is a ValueError
        return None


def store_engine(path: Path, engine: Engine) -> str | None:
    """Writes the engine to `path` atomically. Returns the reason if that fails, else None."""
    layers = [dataclasses.astuple(layer) for layer in engine.layers]
    head = json.dumps({"layers": layers, "inspected": engine.inspected, "log": engine.log})
    rest = head.encode() + b"\n" + engine.data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as draft:
            draft.write_bytes(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
        kept = sorted(path.parent.glob("*.engine"), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in kept[KEPT:]:
            file.unlink(missing_ok=True)
    except OSError as error:
        return error.strerror or type(error).__name__
    return None
