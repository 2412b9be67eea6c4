"""Whatever call to the disk or for memory fails, and wherever a run is killed: the old result or the new one is there.

Each command is run again and again, with a fault at another call. Every run ends with one clean error, and the next one
succeeds and leaves nothing behind.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evm_deploy import pipeline
from evm_deploy.bundle import Bundle
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.scan import native

HERE, DIGITS = Path(__file__).parent, Path(__file__).parents[2] / "examples/digits"
FULL, BROKEN = errno.ENOSPC, errno.EIO
FAULTS = [
    ("write", "from then on", FULL),
    ("write", "once", BROKEN),
    ("sync", "once", BROKEN),
    ("name", "once", BROKEN),
    ("name", "kill", 0),
    ("removal", "kill", 0),
]
EVERY = 1 << 20
SPREAD = 8  # calls of each kind, of a command that takes seconds each time and writes as `package` does

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the shim is for Linux"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++"),
]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["g++", *flags, HERE / "shim.cpp", "-o", library], check=True)
    return library


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `new`, the bundle of the digits, and `old`, the same with other labels."""
    folder = tmp_path_factory.mktemp("bundles")
    labels = folder / "labels.txt"
    labels.write_text("".join(f"{i}\n" for i in range(10, 20)))
    for name, given in (("new", None), ("old", labels)):
        options = ExportOptions(image_size=(64, 64), labels=given, verify=False)
        pipeline.export(DIGITS / "digits.safetensors", folder / name, options)
    return folder


def run_script(script: str, shim: Path, folder: Path, *arguments: Path) -> Any:
    """What the script printed, as JSON."""
    page = folder / "page"
    page.write_bytes(bytes(8192))
    told = {"EVM_FAULTS": str(page), "LD_PRELOAD": str(shim), "TMPDIR": str(folder / "root/tmp")}
    command = [sys.executable, HERE / script, *arguments]
    done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Command:
    """A command that replaces `results`, each of a kind in the CHECKS of sweep.py. {out}, {old}, {new} are folders."""

    arguments: str
    results: dict[str, str]
    together: bool = False  # whether the results are one


PACKAGE = Command(
    "package {new} --for web --archive --out {out}/it --overwrite",
    {"it": "package", "it.zip": "package"},
    together=True,
)


def sweep(command: Command, bundles: Path, shim: Path, folder: Path, most: int, again: int) -> list[dict[str, Any]]:
    """The outcome of every run; `folder / "before"` has the results of before."""
    places = {"out": folder / "root/out", "old": bundles / "old", "new": bundles / "new", "digits": DIGITS}
    (folder / "root").mkdir()
    case = {
        "arguments": [part.format(**places) for part in command.arguments.split()],
        "root": str(folder / "root"),
        "before": str(folder / "before"),
        "results": command.results,
        "faults": FAULTS,
        "most": most,
        "again": again,
    }
    (folder / "case.json").write_text(json.dumps(case))
    outcomes: list[dict[str, Any]] = run_script("sweep.py", shim, folder, folder / "case.json")
    return outcomes


def check(outcomes: list[dict[str, Any]], command: Command) -> None:
    """Asserts of every outcome what the first lines of this file say."""
    names = sorted(command.results)
    for found in outcomes:
        fault, killed = found["fault"], found["code"] == -9
        assert found["code"] in ((0, 2, -9) if "kill" in fault else (0, 2)), found
        assert "Traceback" not in found["errors"], found
        assert found["code"] != 2 or ("error: " in found["errors"] and "fix: " in found["errors"]), found
        assert set(found["states"].values()) <= {"old", "new"}, found
        assert not command.together or len(set(found["states"].values())) == 1, found
        assert found["code"] != 0 or set(found["states"].values()) == {"new"}, found
        assert set(names) <= set(found["names"]), found
        assert killed or found["names"] == names, found
        assert killed or not [name for name in found["temporary"] if not name.startswith("torchinductor_")], found
        after = found["after"]
        assert after is None or (after["code"], after["names"]) == (0, names), found
        assert after is None or set(after["states"].values()) == {"new"}, found
    assert {found["code"] for found in outcomes} == {0, 2, -9}


@pytest.mark.slow
@pytest.mark.parametrize("most", [pytest.param(2, id="some"), pytest.param(EVERY, id="all")])
def test_package(most: int, make_bundle: Callable[..., Bundle], shim: Path, tmp_path: Path) -> None:
    for name in ("old", "new"):
        make_bundle(tmp_path / name, model=name.encode())
    (tmp_path / "before").mkdir()
    pipeline.package(tmp_path / "old", tmp_path / "before/it", PackageOptions(platform="web", archive=True))
    check(sweep(PACKAGE, tmp_path, shim, tmp_path, most, again=3), PACKAGE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        Command("export {digits}/digits.safetensors --image-size 64 --out {out}/old --overwrite", {"old": "bundle"}),
        Command("quantize {new} --data {digits}/images --out {out}/old --overwrite", {"old": "bundle"}),
    ],
    ids=["export", "quantize"],
)
def test_bundles(command: Command, bundles: Path, shim: Path, tmp_path: Path) -> None:
    shutil.copytree(bundles / "old", tmp_path / "before/old")
    check(sweep(command, bundles, shim, tmp_path, SPREAD, again=4), command)


@pytest.mark.slow
def test_profile(bundles: Path, shim: Path, tmp_path: Path) -> None:
    command = Command(
        "profile {new} --iterations 3 --warm-up 1 --out {out}/it --html {out}/page.html --overwrite",
        {"it": "profile", "page.html": "page"},
    )
    (tmp_path / "before").mkdir()
    before = ProfileOptions(iterations=3, out=tmp_path / "before/it", html=tmp_path / "before/page.html")
    pipeline.profile(bundles / "old", before)
    check(sweep(command, bundles, shim, tmp_path, SPREAD, again=4), command)


@pytest.mark.skipif(not native.available(), reason="no native library")
def test_memory_of_the_operators(shim: Path, tmp_path: Path) -> None:
    """A status or the right numbers, and never the end of the process."""
    for case, outcomes in run_script("allocations.py", shim, tmp_path).items():
        assert len(outcomes) > 2, case
        assert "other numbers" not in outcomes, case
        failed = [said for said in outcomes if said]
        assert all("evm" in said or said.startswith("MemoryError") for said in failed), (case, failed)
        assert outcomes[-1] == "" or case.startswith("wrong"), (case, outcomes[-1])
