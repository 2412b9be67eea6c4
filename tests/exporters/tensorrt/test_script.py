"""The script for the device, run with a stand-in for trtexec."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from evm_deploy.exporters.tensorrt.script import OPTIONS, SCRIPT, make_trtexec_line, write_script
from evm_deploy.exporters.tensorrt.shapes import Profile

SHAPE = (1, 3, 64, 64)
ONE = Profile("image", SHAPE, SHAPE, SHAPE)
OPEN = Profile("image", SHAPE, (4, 3, 64, 64), (16, 3, 64, 64))
TRTEXEC = """#!/bin/sh
printf '%s\\n' "$@" > "$RECORD"
for a in "$@"; do case $a in --saveEngine=*) printf engine > "${a#--saveEngine=}";; esac; done
exit "${CODE:-0}"
"""


class Device:
    """A bundle with the script, and a folder to run it in; both with a space and a quote in their names."""

    def __init__(self, root: Path, profile: Profile = ONE) -> None:
        self.bundle, self.work, self.record = root / "my bundle's", root / "the work", root / "arguments"
        for folder in (self.bundle, self.work, root / "some tools"):
            folder.mkdir()
        self.trtexec = root / "some tools" / "trtexec"
        self.trtexec.write_text(TRTEXEC)
        self.trtexec.chmod(0o755)
        write_script(self.bundle / SCRIPT, "model.onnx", profile)

    def run(self, *arguments: str, tools: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.trtexec.parent}:{os.environ['PATH']}" if tools else os.environ["PATH"]
        return subprocess.run(
            [self.bundle / SCRIPT, *arguments],
            cwd=self.work,
            env={"PATH": path, "RECORD": str(self.record), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_it_builds_beside_where_it_is_called(device: Device) -> None:
    done = device.run()
    assert done.returncode == 0, done.stderr
    assert [file.name for file in device.work.iterdir()] == ["model.engine"]
    arguments = device.record.read_text().splitlines()
    assert arguments[0] == f"--onnx={device.bundle}/model.onnx"
    assert arguments[2:] == list(OPTIONS)
    assert not any(flag in " ".join(arguments) for flag in ("--fp16", "--int8", "--best"))


def test_a_name_for_the_engine_and_further_options(device: Device, tmp_path: Path) -> None:
    engine = tmp_path / "an engine"
    assert device.run(str(engine), "--verbose", "--device=1 0").returncode == 0
    assert engine.read_text() == "engine"
    assert device.record.read_text().splitlines()[-2:] == ["--verbose", "--device=1 0"]


def test_a_failure_passes_through_and_leaves_the_old_engine(device: Device) -> None:
    (device.work / "model.engine").write_text("old")
    assert device.run(CODE="3").returncode == 3
    assert [file.read_text() for file in device.work.iterdir()] == ["old"]


def test_without_trtexec(device: Device) -> None:
    done = device.run(tools=False)
    assert done.returncode == 127
    assert "trtexec is not in PATH or /usr/src/tensorrt/bin: install TensorRT" in done.stderr
    assert not list(device.work.iterdir())


def test_an_open_batch_gives_its_shapes(tmp_path: Path) -> None:
    device = Device(tmp_path, OPEN)
    assert device.run().returncode == 0
    shapes = ["--minShapes=image:1x3x64x64", "--optShapes=image:4x3x64x64", "--maxShapes=image:16x3x64x64"]
    assert device.record.read_text().splitlines()[-3:] == shapes
    assert shlex.split(make_trtexec_line("model.onnx", OPEN)) == [
        "trtexec",
        "--onnx=model.onnx",
        "--saveEngine=model.engine",
        *OPTIONS,
        *shapes,
    ]
