"""The same sources elsewhere: aarch64 under emulation, macOS and Windows as far as linking, Android compiled.

Android has no C library among the tools here: its objects are compiled against the headers of another Linux, which
shows that the sources suit the target; the library itself is built by CMake with the toolchain file of the NDK.
"""

import importlib.util
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evm_deploy.scan import reference
from evm_deploy.scan.kernel_inputs import CausalConvInputs, OrderedScanInputs
from evm_deploy.tolerances import KERNEL_RELATIVE

NATIVE = Path(__file__).parents[2] / "native"
KERNELS = sorted({path.stem for path in NATIVE.glob("*.cpp")} - {"check", "ort_library"})
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-Wall", "-Wextra", "-Werror"]
X86_FLAGS = {"isa_avx2": ["-mavx2", "-mfma", "-mf16c"]}
X86_FLAGS["isa_avx512"] = [*X86_FLAGS["isa_avx2"], "-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw"]
QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed"),
]

Make = Callable[..., Any]
Error = Callable[[torch.Tensor, torch.Tensor], float]


def zig(*arguments: str | Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ziglang", "c++", *FLAGS, *arguments], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def sources(*names: str) -> list[Path]:
    return [NATIVE / f"{name}.cpp" for name in names]


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if QEMU is None:
        pytest.skip("qemu-aarch64-static is not installed")
    program = tmp_path_factory.mktemp("aarch64") / "evm_check"
    zig("-target", "aarch64-linux-musl", "-static", *sources("check", *KERNELS), "-o", program)
    return program


def emulate(check: Path, tmp_path: Path, numbers: list[int], tensors: list[torch.Tensor | None]) -> np.ndarray:
    """y of the case, flat."""
    case, result = tmp_path / "case", tmp_path / "result"
    data = b"".join(t.contiguous().numpy().tobytes() for t in tensors if t is not None)
    case.write_bytes(struct.pack(f"<{len(numbers)}q", *numbers) + data)
    subprocess.run([str(QEMU), check, case, result], check=True, timeout=300)
    written = result.read_bytes()
    assert written.endswith(b"neon")
    return np.frombuffer(written[: -len(b"neon")], np.float32).copy()


@pytest.mark.parametrize(
    ("shape", "softplus", "optional"),
    [
        ((1, 4, 100, 96, 16), False, True),
        ((2, 3, 37, 21, 5), True, True),
        ((1, 2, 65, 50, 17), True, False),
        ((1, 1, 33, 8, 1), False, False),
    ],
)
def test_selective_scan_on_aarch64(
    check: Path,
    tmp_path: Path,
    make_scan: Make,
    relative_error: Error,
    shape: tuple[int, int, int, int, int],
    softplus: bool,
    optional: bool,
) -> None:
    case = make_scan(*shape, softplus=softplus, optional=optional)
    numbers = [0, *shape, int(softplus), 2, int(case.D is not None), int(case.delta_bias is not None)]
    y = emulate(check, tmp_path, numbers, [t for t in case.arguments() if isinstance(t, torch.Tensor)])
    assert relative_error(torch.from_numpy(y).view_as(case.u), case.expected()) < KERNEL_RELATIVE


@pytest.mark.parametrize("shape", [(1, 14, 14, 96, 16, 3, 2), (2, 9, 12, 37, 3, 2, 2), (1, 7, 5, 16, 1, 1, 3)])
def test_efficient_scan_2d_on_aarch64(
    check: Path, tmp_path: Path, make_scan_2d: Make, relative_error: Error, shape: tuple[int, ...]
) -> None:
    case = make_scan_2d(*shape)
    y = emulate(check, tmp_path, [1, *shape, 2], [t for t in case.arguments() if isinstance(t, torch.Tensor)])
    assert relative_error(torch.from_numpy(y).view_as(case.x), case.expected()) < KERNEL_RELATIVE


@pytest.mark.parametrize("sizes", [(2, 50, 4, 50, 37, 1, 6, 4), (1, 130, 2, 65, 50, 16, 3, 2)])
def test_ordered_scan_on_aarch64(
    check: Path,
    tmp_path: Path,
    make_ordered_scan: Callable[..., OrderedScanInputs],
    ordered_scan_error: Callable[..., float],
    sizes: tuple[int, ...],
) -> None:
    inputs = make_ordered_scan(*sizes)
    numbers = [5, *inputs.sizes().values(), 2]
    y = emulate(check, tmp_path, numbers, [tensor.float() for tensor in inputs])
    assert ordered_scan_error(torch.from_numpy(y).view(inputs.result_shape), inputs) < KERNEL_RELATIVE


def test_causal_conv_on_aarch64(
    check: Path, tmp_path: Path, make_causal_conv: Callable[..., CausalConvInputs], relative_error: Error
) -> None:
    inputs = make_causal_conv(2, 30, 3, 40, 21, 4)
    numbers = [6, *inputs.sizes().values(), 2]
    y = emulate(check, tmp_path, numbers, [t.float() for t in inputs if isinstance(t, torch.Tensor)])
    assert relative_error(torch.from_numpy(y).view(inputs.result_shape), reference.run(inputs)) < KERNEL_RELATIVE


def test_a_decay_beyond_float32_is_zero_on_aarch64(
    check: Path, tmp_path: Path, make_scan: Make, relative_error: Error
) -> None:
    case = make_scan(1, 1, 40, 20, 8, optional=False)
    steep = case.arguments()
    steep[2] = torch.full_like(case.A, float("-inf"))
    numbers = [0, 1, 1, 40, 20, 8, 1, 1, 0, 0]
    y = emulate(check, tmp_path, numbers, [t for t in steep if isinstance(t, torch.Tensor)])
    expected = torch.nn.functional.softplus(case.delta.double()) * case.u * (case.B * case.C).sum(-1, keepdim=True)
    assert relative_error(torch.from_numpy(y).view_as(case.u), expected) < KERNEL_RELATIVE


@pytest.mark.parametrize("C", [48, 53])
def test_normalisations_on_aarch64(check: Path, tmp_path: Path, relative_error: Error, C: int) -> None:
    x, z = 3 * torch.randn(2, 150, C) + 1, 4 * torch.randn(2, 150, C)
    scale, bias = torch.randn(C), torch.randn(C)
    normed = F.layer_norm(x.double(), (C,), scale.double(), bias.double(), 1e-5)
    y = emulate(check, tmp_path, [2, 300, C], [x, z, scale, bias])
    assert relative_error(torch.from_numpy(y).view_as(x), normed * F.silu(z.double())) < KERNEL_RELATIVE
    y = emulate(check, tmp_path, [3, 2, 150, C], [x, scale, bias])
    assert relative_error(torch.from_numpy(y).view(2, C), normed.mean(1)) < KERNEL_RELATIVE


@pytest.mark.parametrize("count", [1, 40, 20000])
def test_lookups_on_aarch64(check: Path, tmp_path: Path, count: int) -> None:
    x = torch.randint(256, (count,))
    floats, entries = torch.randn(256), torch.randint(256, (256,)).float()
    y = emulate(check, tmp_path, [4, count], [x.float(), floats, entries])
    np.testing.assert_array_equal(y, torch.cat([floats[x], entries[x]]).numpy())


def test_macos_links(tmp_path: Path) -> None:
    library = tmp_path / "libevm_ops.dylib"
    zig("-target", "aarch64-macos", "-shared", *sources("ort_library", *KERNELS), "-o", library)
    assert b"RegisterCustomOps" in library.read_bytes()


def test_windows_links(tmp_path: Path) -> None:
    objects = []
    for name in ["ort_library", *KERNELS]:
        objects.append(tmp_path / f"{name}.obj")
        zig("-target", "x86_64-windows-gnu", *X86_FLAGS.get(name, []), "-c", *sources(name), "-o", objects[-1])
    zig("-target", "x86_64-windows-gnu", "-shared", *objects, "-o", tmp_path / "evm_ops.dll")
    assert b"RegisterCustomOps" in (tmp_path / "evm_ops.dll").read_bytes()


def test_android_compiles(tmp_path: Path) -> None:
    for name in ["ort_library", *KERNELS]:
        zig("-target", "aarch64-linux-musl", "-D__ANDROID__", "-fPIC", "-c", *sources(name), "-o", tmp_path / name)
