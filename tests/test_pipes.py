"""A named pipe in the place of a file that somebody names: every reader refuses it, and none waits for a writer."""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evm_deploy.benchmarking import benchmark_folder
from evm_deploy.bundle import Bundle
from evm_deploy.calib import resume
from evm_deploy.calib.onnx import search
from evm_deploy.data import listing
from evm_deploy.errors import EvmDeployError
from evm_deploy.exporters.tensorrt import cache
from evm_deploy.images import load_image
from evm_deploy.inspection import inspect
from evm_deploy.packaging import index, sign
from evm_deploy.reporting import accuracy, profile_folder

READERS: dict[str, Callable[[Path], Any]] = {  # by the name of the file, from its path
    "model.onnx": inspect,
    "weights.pth": inspect,
    "weights.safetensors": inspect,
    "manifest.json": lambda path: Bundle.open(path.parent),
    "evm-package.json": lambda path: index.read_index(path.parent, path.parent),
    "key.pub": lambda path: sign.read_public_key(str(path)),
    "key": sign.read_secret_key,
    "profile.json": profile_folder.load_profile,
    "evaluation.json": accuracy.read_accuracies,
    "benchmark.json": lambda path: benchmark_folder._list_files(path.parent),
    "image.png": load_image,
    "images.txt": listing.list_file,
    "ranges.npz": resume._read,
    "search.json": lambda path: search._read_cache(path, "key"),
    "t4.engine": cache.load_engine,
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    found: list[Any] = []

    def read() -> None:
        with contextlib.suppress(EvmDeployError, ValueError):  # a cache that cannot be read is as none
            found.append(READERS[name](path))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(30)
    waits = reader.is_alive()
    with contextlib.suppress(OSError):  # lets one that waits go
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    assert not waits
    assert found in ([], [None], [{}])
