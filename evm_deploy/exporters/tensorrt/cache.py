"""Engines that were built before, in the user's cache folder: building one takes from seconds to minutes."""

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from evm_deploy.bundle import sha256_file
from evm_deploy.cuda.compile import SOURCE
from evm_deploy.exporters.tensorrt import libraries
from evm_deploy.exporters.tensorrt.build import Engine, Request
from evm_deploy.exporters.tensorrt.layers import Layer

VARIABLE = "EVM_DEPLOY_CACHE"
KEPT = 8  # of tens of megabytes each; the oldest make room
SCHEMA = 1
NAME = "evm-deploy"
PLACES = {  # the variable that says where caches are, and where they are in the home folder
    "linux": ("XDG_CACHE_HOME", ".cache"),
    "darwin": ("", "Library/Caches"),
    "win32": ("LOCALAPPDATA", "AppData/Local"),
}


def folder() -> Path:
    """`EVM_DEPLOY_CACHE`, or our folder where this system keeps caches."""
    variable, default = PLACES.get(sys.platform, PLACES["linux"])
    given, base = os.environ.get(VARIABLE), os.environ.get(variable)
    try:
        if given:
            return Path(given).expanduser()
        return (Path(base) if base else Path.home() / default) / NAME
    except RuntimeError:  # a user without a home, as in containers: nothing is found there, and nothing can be kept
        return Path(os.devnull) / NAME


def path_of(trt: Any, request: Request) -> Path:
    """Where the engine of a request is kept, by all that it is made from, the library's version and the GPU as well."""
    device, kernels = "", ""
    if libraries.gpu():
        import torch

        device = torch.cuda.get_device_name()
    if request.plugin:
        kernels = sha256_file(SOURCE)
    facts = dataclasses.asdict(request) | {"graph": hashlib.sha256(request.graph).hexdigest()}
    key = json.dumps([SCHEMA, libraries.name_of(trt), device, kernels, facts], sort_keys=True)
    return folder() / "engines" / f"{hashlib.sha256(key.encode()).hexdigest()}.engine"


def load(path: Path) -> Engine | None:
    """The engine kept at `path`; None where there is none, or where the file is not what was written."""
    try:
        digest, rest = path.read_bytes().split(b"\n", 1)
        if hashlib.sha256(rest).hexdigest() != digest.decode():
            return None
        head, data = rest.split(b"\n", 1)
        facts = json.loads(head)
        layers = tuple(
            Layer(name, kind, *(tuple(names) for names in others)) for name, kind, *others in facts["layers"]
        )
        return Engine(data, layers, str(facts["inspected"]), str(facts["log"]))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):  # a JSONDecodeError is a ValueError
        return None


def store(path: Path, engine: Engine) -> str | None:
    """Keeps the engine at `path`, whole or not at all. Returns why it could not, if so."""
    layers = [dataclasses.astuple(layer) for layer in engine.layers]
    head = json.dumps({"layers": layers, "inspected": engine.inspected, "log": engine.log})
    rest = head.encode() + b"\n" + engine.data
    partial = path.with_suffix(f".{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
        partial.replace(path)
        kept = sorted(path.parent.glob("*.engine"), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in kept[KEPT:]:
            file.unlink(missing_ok=True)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        return error.strerror or type(error).__name__
    return None
