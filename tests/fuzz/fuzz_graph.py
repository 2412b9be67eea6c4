"""Fuzzes attributes, shapes, weights and nodes of an ONNX graph, whose hash in the manifest is corrected.

onnxruntime runs what is left of it, with and without our operators.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import zipfile
from pathlib import Path

from target import SEED_ARCHIVE, BytesAsChance, Run, start

BUNDLES = ("onnx_fp32", "onnx_int8", "onnx_dynamic")


def load() -> Run:
    import onnx
    from cases import seal
    from graphs import change_attribute, change_frame, change_function, change_node, change_shape, change_weights

    from evm_deploy import pipeline
    from evm_deploy.errors import EvmDeployError

    changes = (
        change_attribute,
        change_attribute,
        change_shape,
        change_weights,
        change_node,
        change_function,
        change_frame,
    )
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    with zipfile.ZipFile(SEED_ARCHIVE) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(BUNDLES)])
        image = io.BytesIO(archive.read("images/red/0.png"))
    (folder / "red.png").write_bytes(image.getvalue())
    models = {name: (folder / name / "model.onnx").read_bytes() for name in BUNDLES}

    def run(data: bytes) -> None:
        chance = BytesAsChance(data)
        bundle = folder / chance.choice(BUNDLES)
        model = onnx.load_from_string(models[bundle.name])
        with contextlib.suppress(IndexError):  # nothing is left to change
            for _ in range(1 + chance.getrandbits(2)):
                chance.choice(changes)(model, chance)
        (bundle / "model.onnx").write_bytes(model.SerializeToString())
        seal(bundle)
        for library in (True, False):
            with contextlib.suppress(EvmDeployError):
                pipeline.predict(bundle, [folder / "red.png"], library=library)

    return run


if __name__ == "__main__":
    start(load, "graph", watch=False)
