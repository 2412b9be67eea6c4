"""An integer graph on a processor that adds pairs of products in 16 bits (AVX2 without VNNI), under emulation."""

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import evm_deploy
from evm_deploy.runtimes.onnxruntime import OnnxRunner

QEMU = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
SCRIPT = """
import sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
np.save(sys.argv[3], session.run(None, {session.get_inputs()[0].name: np.load(sys.argv[2])})[0])
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(QEMU is None or platform.machine() != "x86_64", reason="qemu-x86_64 is not installed"),
]


def test_without_vnni_the_same_bits(
    networks: Callable[..., Path], photographs: list[npt.NDArray[np.uint8]], tmp_path: Path
) -> None:
    bundle = evm_deploy.quantize(networks(), photographs, tmp_path / "int8").bundle
    image, found = bundle.path / "sample" / "input.npy", tmp_path / "found.npy"
    command = [str(QEMU), "-cpu", "Haswell", sys.executable, "-c", SCRIPT, bundle.model_path, image, found]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    with OnnxRunner(bundle.model_path, library=False) as runner:
        assert np.array_equal(np.load(found), runner.run(np.load(image))[0])
