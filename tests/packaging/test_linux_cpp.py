"""The C++ loader, compiled with every warning an error, under the address and undefined behaviour sanitizers."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import evm_deploy
from evm_deploy import compiling
from evm_deploy.bundle import Bundle
from evm_deploy.manifest import Preprocessing
from evm_deploy.packaging import cross
from evm_deploy.packaging.package import package
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.packaging.verify import verify
from evm_deploy.preprocessing import preprocess
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.resizing import FILTERS, RESIZED
from evm_deploy.scan import native

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples/digits"
WARNINGS = "-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
SANITIZERS = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
QEMU, CROSS_LIBRARIES = shutil.which("qemu-aarch64-static"), Path("/usr/aarch64-linux-gnu")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("g++")), reason="there is no cmake, or no g++"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`out`, a package of the digits network, and `build`, its programs and the driver of its parts."""
    root = tmp_path_factory.mktemp("linux")
    options = evm_deploy.ExportOptions(
        image_size=(64, 64), labels=DIGITS / "labels.txt", images=DIGITS / "images", verify=False
    )
    evm_deploy.export(DIGITS / "digits.safetensors", root / "digits", options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "find_zig_version", lambda: None)
        package([root / "digits"], root / "out", PackageOptions("linux", archive=True), lambda stage: None)
    settings = root / "CMakeLists.txt"
    settings.write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(test CXX)\nadd_subdirectory(out)\n"
        f"add_executable(driver {Path(__file__).parent / 'driver.cpp'})\n"
        "target_include_directories(driver PRIVATE out/src)\ntarget_link_libraries(driver PRIVATE evm_model)\n"
    )
    flags = [f"-DCMAKE_CXX_FLAGS={WARNINGS} {SANITIZERS}", "-DCMAKE_BUILD_TYPE=None"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in (["cmake", "-S", root, "-B", root / "build", *flags], ["cmake", "--build", root / "build", "-j2"]):
        run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    return root


def evm_run(place: Path, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [place / "build/out/evm_run", *words]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env=os.environ | environment
    )


def driver(place: Path, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(list(map(str, [place / "build/driver", *words])), capture_output=True, check=False)


def copied(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "out/models/digits", tmp_path / "digits"))


def test_the_golden_pair_and_the_class(place: Path) -> None:
    golden = evm_run(place, "--golden", place / "out/models/digits")
    assert golden.returncode == 0, golden.stderr
    assert "passed" in golden.stdout
    assert ("evm_ops" in golden.stdout) == native.available()
    portable = evm_run(place, "--golden", "--portable", place / "out/models/digits")
    assert "onnxruntime: relative error" in portable.stdout
    images = sorted((DIGITS / "images").glob("*.png"))
    found = evm_run(place, "--top", "3", place / "out/models/digits", *images)
    assert found.returncode == 0, found.stderr
    lines = iter(found.stdout.splitlines())
    for prediction in evm_deploy.predict(place / "digits", images, top=3):
        assert next(lines) == str(prediction.image)
        for label, share in prediction.top:
            said, name = next(lines).split()
            assert name == label
            assert float(said) == pytest.approx(share, abs=2e-4)
        assert prediction.image.stem.endswith(f"is_{prediction.top[0][0]}")


def test_the_smoke_test_leaves_the_package_as_it_was(place: Path) -> None:
    environment = os.environ | {
        "PYTHON": sys.executable,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    run = subprocess.run(
        ["sh", place / "out/smoke.sh", DIGITS / "images/held_out_003_is_3.png"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("passed") == 3
    assert verify(place / "out").models == ("digits",)


@pytest.mark.parametrize("name", ["model.onnx", "labels.txt", "sample/input.npy", "sample/output.npy"])
def test_a_changed_byte_is_refused(place: Path, tmp_path: Path, name: str) -> None:
    bundle = copied(place, tmp_path)
    path = bundle / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = evm_run(place, "--golden", bundle)
    assert found.returncode == 2
    assert f"{name} in {bundle} was changed: its sha256 differs" in found.stderr


@pytest.mark.parametrize(("said", "allowed"), [(0.008, "0.008"), (0.5, "0.0025"), (None, "0.0025")])
def test_the_tolerance_of_a_deep_network_in_float16(place: Path, tmp_path: Path, said: Any, allowed: str) -> None:
    manifest = copied(place, tmp_path) / "manifest.json"
    facts = json.loads(manifest.read_text()) | {"precision": "fp16", "build": said and {"tolerance": said}}
    manifest.write_text(json.dumps(facts))
    assert f"at most {allowed}:" in evm_run(place, "--golden", manifest.parent).stdout


def test_a_wrong_golden_pair_fails(place: Path, tmp_path: Path) -> None:
    bundle = copied(place, tmp_path)
    output = bundle / "sample/output.npy"
    np.save(output, np.load(output) + np.float32(0.01))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["sample/output.npy"] = evm_deploy.files.sha256_file(output)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    found = evm_run(place, "--golden", bundle)
    assert found.returncode == 1
    assert "FAILED" in found.stdout
    report = ProfileReport.from_json(evm_run(place, "--profile", "--iterations", "2", bundle).stdout.encode())
    assert report.results[0].error
    assert report.results[0].samples_ms == ()


def test_a_profile(place: Path, tmp_path: Path) -> None:
    bundle = place / "out/models/digits"
    words = ["--profile", "--iterations", "7", "--threads", "1", "--warm-up", "3", bundle, copied(place, tmp_path)]
    found = evm_run(place, *words, tmp_path / "nowhere")
    assert found.returncode == 0, found.stderr
    report = ProfileReport.from_json(found.stdout.encode())
    assert [len(result.samples_ms) for result in report.results] == [7, 7, 0]
    assert len({result.name for result in report.results}) == 3
    first = report.results[0]
    assert first.golden
    assert first.golden.passed
    assert first.sha256 == evm_deploy.files.sha256_file(bundle / "manifest.json")
    assert first.memory
    assert first.memory.peak_bytes > first.size_bytes
    assert report.method.interleaved
    assert report.conditions.threads == 1
    assert report.device.machine == platform.machine()
    assert report.results[2].error
    timed = evm_run(place, "--profile", "--seconds", "0.2", bundle)
    assert ProfileReport.from_json(timed.stdout.encode()).method.seconds == 0.2


def test_wrong_words_are_refused(place: Path) -> None:
    bundle = place / "out/models/digits"
    for words in ([], ["--golden"], [bundle], ["--more", bundle], ["--profile", "--threads", "x", bundle], ["--top"]):
        assert evm_run(place, *words).returncode == 2
    for variable, said in (("ONNXRUNTIME_LIBRARY", "onnxruntime is not found"), ("EVM_OPS_LIBRARY", "is not a file")):
        found = evm_run(place, "--golden", bundle, **{variable: "/nowhere/library.so"})
        assert found.returncode == 2
        assert said in found.stderr


def test_an_operator_library_of_another_interface(place: Path, other_library: Path) -> None:
    found = evm_run(place, "--golden", place / "out/models/digits", EVM_OPS_LIBRARY=str(other_library))
    assert found.returncode == 2
    assert f"{other_library} is not the operator library of this package ({native.INTERFACE}): " in found.stderr
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize("baked", [False, True])
def test_preprocessing_is_pillows_to_the_bit(place: Path, tmp_path: Path, baked: bool) -> None:
    shapes = [(1, 1), (64, 64), (73, 74), (500, 333), (37, 911), (256, 256), (73, 73), (1200, 40)]
    sizes = itertools.cycle([((64, 64), 0.875), ((224, 224), 0.875), ((33, 47), 1.0), ((192, 256), 0.9)])
    orders = itertools.cycle(["RGB", "BGR", "RGB"])
    generator = np.random.default_rng(0)
    for number, (h, w) in enumerate(shapes):
        pixels = generator.integers(0, 256, (h, w, 3), np.uint8)
        if number % 2:
            pixels = (pixels > 127).astype(np.uint8) * 255  # overshoots most
        Image.fromarray(pixels).save(tmp_path / "image.ppm")
        for resize, interpolation in itertools.product(RESIZED, FILTERS):
            size, crop = next(sizes)
            fill = 114 if resize == "letterbox" else 0
            steps = Preprocessing(size, crop, interpolation, next(orders), baked=baked, resize=resize, fill=fill)
            (tmp_path / "steps.json").write_text(json.dumps(dataclasses.asdict(steps)))
            run = driver(place, "input", tmp_path / "image.ppm", tmp_path / "steps.json", tmp_path / "input")
            assert run.returncode == 0, run.stderr
            expected = preprocess(pixels, steps)
            found = np.fromfile(tmp_path / "input", expected.dtype).reshape(expected.shape)
            np.testing.assert_array_equal(found, expected, f"{h}x{w}, {steps}")


def test_every_kind_of_image(place: Path, tmp_path: Path, image_kinds: Any, check_pixels: Any) -> None:
    def load(kind: Any) -> np.ndarray | None:
        (tmp_path / kind.name).write_bytes(kind.data)
        run = driver(place, "pixels", tmp_path / kind.name, tmp_path / "pixels")
        if run.returncode == 3:
            return None
        assert run.returncode == 0, (kind.name, run.stderr)
        shape = (-1, 3) if kind.pixels is None else kind.pixels.shape
        return np.fromfile(tmp_path / "pixels", np.uint8).reshape(shape)

    check_pixels("cpp", {"ppm"} | find_decoders(place), image_kinds, load)


def find_decoders(place: Path) -> set[str]:
    """The kinds of image files whose libraries CMake found."""
    found = re.findall(r"^(PNG|JPEG)_LIBRARY(?:_RELEASE)?:.*=/", (place / "build/CMakeCache.txt").read_text(), re.M)
    return {name.lower() for name in found}


def damaged(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(changed))
            kind = chance.randrange(4)
            if kind == 0:
                changed[at] = chance.randrange(256)
            elif kind == 1:
                del changed[at : at + chance.randrange(1, 40)]
            elif kind == 2:
                changed[at:at] = bytes(chance.choice(b'{}[]"\\,:0-9e\xff\x00') for _ in range(chance.randrange(1, 9)))
            else:
                changed = changed[: at + 1]
            changed = changed or bytearray(b"x")
        yield bytes(changed)


@pytest.mark.parametrize("what", ["json", "npy", "ppm", "png", "jpg"])
def test_hostile_files_do_not_crash_it(place: Path, tmp_path: Path, what: str) -> None:
    image = Image.open(DIGITS / "images/held_out_003_is_3.png").convert("RGB").resize((40, 30))
    source = tmp_path / f"good.{what}"
    if what == "json":
        source.write_bytes((place / "digits/manifest.json").read_bytes())
    elif what == "npy":
        np.save(source, np.zeros((2, 3), np.float32))
    else:
        image.save(source)
    files = []
    for number, data in enumerate(damaged(source.read_bytes(), 300, seed=len(what))):
        files.append(tmp_path / str(number))
        files[-1].write_bytes(data)
    mode = what if what in ("json", "npy") else "pixels"
    run = driver(place, "each", mode, *files)
    assert run.returncode == 0, run.stderr[-3000:].decode(errors="replace")
    codes = run.stdout.split()
    assert len(codes) == len(files)
    assert set(codes) <= {b"0", b"3"}
    assert b"3" in codes


def test_hostile_manifests_are_refused(place: Path, tmp_path: Path) -> None:
    bundle = copied(place, tmp_path)
    good = json.loads((bundle / "manifest.json").read_text())
    steps, inputs = good["preprocessing"], good["inputs"]
    hostile = [
        {"schema_version": 2},
        {"files": {**good["files"], "../secret": "0" * 64}},
        {"files": {**good["files"], "/etc/passwd": "0" * 64}},
        {"labels": "nowhere.txt"},
        {"outputs": []},
        {"outputs": good["outputs"] * 65},
        {"inputs": inputs * 2},
        {"inputs": [{**inputs[0], "dtype": "uint8"}]},
        {"preprocessing": {**steps, "image_size": [1 << 40, 64]}},
        {"preprocessing": {**steps, "image_size": [0, 64]}},
        {"preprocessing": {**steps, "crop_pct": 1e-9}},
        {"preprocessing": {**steps, "std": [0, 1, 1]}},
        {"preprocessing": {**steps, "mean": [0]}},
        {"preprocessing": {**steps, "interpolation": "box"}},
        {"preprocessing": {**steps, "channels": "GBR"}},
        {"preprocessing": {**steps, "resize": "stretch"}},
        {"preprocessing": {**steps, "resize": None}},
        {"preprocessing": {**steps, "fill": 1}},
        {"preprocessing": {**steps, "resize": "letterbox", "fill": 256}},
        {"preprocessing": {**steps, "gamma": 2.2}},
    ]
    assert driver(place, "bundle", bundle).returncode == 0
    before = {key: value for key, value in steps.items() if key not in ("resize", "fill")}
    (bundle / "manifest.json").write_text(json.dumps(good | {"preprocessing": before}))
    assert driver(place, "bundle", bundle).returncode == 0
    for change in hostile:
        (bundle / "manifest.json").write_text(json.dumps(good | change))
        run = driver(place, "bundle", bundle)
        assert run.returncode == 3, (change, run.stderr)
    for text in ("", "[" * 100000, '{"a": 1, "a": 2}', '"\\ud800"', "1e999", "01x", "nul"):
        (bundle / "manifest.json").write_text(text)
        assert driver(place, "bundle", bundle).returncode == 3
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").symlink_to("/dev/zero")
    assert driver(place, "bundle", bundle).returncode == 3


def test_hashes(place: Path, tmp_path: Path) -> None:
    for length in (0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 1000):
        path = tmp_path / "data"
        path.write_bytes(bytes(i * 7 % 256 for i in range(length)))
        assert driver(place, "sha256", path).stdout.decode().strip() == evm_deploy.files.sha256_file(path)


def test_a_model_that_onnxruntime_refuses(place: Path, tmp_path: Path) -> None:
    bundle = copied(place, tmp_path)
    (bundle / "model.onnx").write_bytes(b"no model")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = evm_deploy.files.sha256_file(bundle / "model.onnx")
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    found = evm_run(place, "--golden", bundle)
    assert found.returncode == 2
    assert "onnxruntime: " in found.stderr
    assert Bundle.open(bundle)


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")
def test_the_library_for_aarch64(tmp_path: Path) -> None:
    cross.build_library("aarch64", tmp_path / "one.so")
    cross.build_library("aarch64", tmp_path / "two.so")
    data = (tmp_path / "one.so").read_bytes()
    assert data == (tmp_path / "two.so").read_bytes()
    assert data[18:20] == b"\xb7\x00"  # the ELF header's number for aarch64
    assert b"RegisterCustomOps" in data
    assert str(ROOT).encode() not in data
    if QEMU is None or not (CROSS_LIBRARIES / "lib/ld-linux-aarch64.so.1").exists():
        pytest.skip("qemu-aarch64-static or the C library for aarch64 (libc6-arm64-cross) is not installed")
    source = tmp_path / "open.c"
    source.write_text(
        "#include <dlfcn.h>\n#include <stdio.h>\n"
        "int main(int n, char** v) { void* h = n > 1 ? dlopen(v[1], RTLD_NOW) : 0; if (!h) return 1;\n"
        '  const char* (*isa)(void) = (const char* (*)(void))dlsym(h, "evm_isa");\n'
        '  puts(isa()); return !dlsym(h, "RegisterCustomOps"); }\n'
    )
    program = tmp_path / "open"
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-gnu.2.28", source, "-ldl", "-o", program]
    subprocess.run(zig, check=True, capture_output=True)
    run = subprocess.run(
        [QEMU, "-L", CROSS_LIBRARIES, program, tmp_path / "one.so"], capture_output=True, text=True, check=True
    )
    assert run.stdout == "neon\n"
