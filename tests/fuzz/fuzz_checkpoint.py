"""Fuzzes checkpoints: whole files, pickles within a good archive of torch.save, headers of safetensors.

The first byte says which.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
from pathlib import Path

from target import Run, change_document, read_seed, start


def load() -> Run:
    import torch
    from safetensors.torch import load as load_tensors

    from evm_deploy.errors import EvmDeployError
    from evm_deploy.models import open_file

    good = read_seed("checkpoint.safetensors")
    size = int.from_bytes(good[:8], "little")
    header, weights = good[8 : 8 + size], good[8 + size :]
    buffer = io.BytesIO()
    torch.save(load_tensors(good), buffer)
    with zipfile.ZipFile(buffer) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None), "checkpoint")

    def make_file(data: bytes) -> bytes:
        kind = data[0] % 3 if data else 0
        if kind == 0:
            return data[1:]
        if kind == 1:
            text = change_document(header, data[1:])
            return len(text).to_bytes(8, "little") + text + weights
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in records.items():
                archive.writestr(name, data[1:] if name.endswith("data.pkl") else content)
        return packed.getvalue()

    def run(data: bytes) -> None:
        path.write_bytes(make_file(data))
        with contextlib.suppress(EvmDeployError):
            file = open_file(path)
            file.read(key=next(iter(file.list_networks())))
        os.truncate(path, 0)

    return run


if __name__ == "__main__":
    start(load, "checkpoint")
