"""Calibration runs: in any number of pieces they end with the same bits, and nothing bad goes unsaid."""

import contextlib
import hashlib
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evm_deploy.bundle import Preprocessing
from evm_deploy.calib import resume
from evm_deploy.calib.collect import collect_statistics
from evm_deploy.calib.ranges import METHODS, Range, choose_range
from evm_deploy.calib.statistics import TensorStatistics
from evm_deploy.data.samples import Samples, read_samples
from evm_deploy.errors import BundleError, InputError, OutputError

SIZE = Preprocessing((32, 32))
AXES = {"stem": 1, "tokens": -1}
Statistics = dict[str, TensorStatistics]


def tap(image: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    gained = image * (1 + 3 * abs(float(image[0, 0, 0, 0])))
    return {"stem": gained, "tokens": np.ascontiguousarray(gained.transpose(0, 2, 3, 1)) ** 3, "unused": image * np.nan}


def run(samples: Samples, cache: Path | None = None, key: str = "key", **options: Any) -> tuple[Statistics, list[str]]:
    said: list[str] = []
    return collect_statistics(
        options.pop("tap", tap), AXES, samples, cache=cache, key=key, progress=said.append, **options
    ), said


def assert_same(one: Statistics, other: Statistics) -> None:
    assert list(one) == list(other)
    for name in one:
        for each, array in one[name].to_state().items():
            np.testing.assert_array_equal(array, other[name].to_state()[each], err_msg=f"{name} {each}")


def counting(calls: list[int], stop_at: int = 10**9) -> Callable[..., Any]:
    def counted(image: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        calls.append(1)
        return tap(image)

    return counted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 20 * i + 20, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{i:02}.png")
    return path


def test_statistics_are_those_of_every_image() -> None:
    samples = read_samples("random:5", SIZE)
    found, said = run(samples)
    everything = [tap(sample.input) for sample in read_samples("random:5", SIZE)]
    for name in AXES:
        values = np.concatenate([tensors[name] for tensors in everything])
        assert (found[name].count, found[name].elements) == (5, values.size)
        assert (found[name].low, found[name].high) == (values.min(), values.max())
        assert found[name].channel_mean.shape == (3,)
    assert list(found) == list(AXES)
    assert said[-1] == "calibrating: 5 of 5 images"
    assert samples.record()["count"] == 5


# Killed and resumed

SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from evm_deploy.calib import resume
from evm_deploy.calib.collect import collect_statistics
from evm_deploy.data.samples import read_samples
from test_collect import AXES, SIZE, tap
calls = 0
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
def deadly(image):
    global calls
    calls += 1
    if {where!r} == "network" and calls == 7:
        kill()
    return tap(image)
replace = Path.replace
def renamed(path, target):
    if {where!r} == "writing" and calls == 6:
        kill()
    return replace(path, target)
Path.replace = renamed
samples = read_samples({images!r}, SIZE)
collect_statistics(deadly, AXES, samples, cache=Path({cache!r}), key="key", progress=print, every=0)
"""


@pytest.mark.parametrize(("where", "done"), [("network", 6), ("writing", 5)])
def test_killed_and_continued(tmp_path: Path, folder: Path, where: str, done: int) -> None:
    (folder / "03.png").write_text("text")
    cache, calls = tmp_path / "cache", list[int]()
    script = SCRIPT.format(folder=str(Path(__file__).parent), where=where, images=str(folder), cache=str(cache))
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed, expected = read_samples(folder, SIZE), read_samples(folder, SIZE)
    found, said = run(resumed, cache, tap=counting(calls))
    assert said[0].startswith("continuing")
    assert len(calls) == 11 - done
    whole = run(expected)[0]
    assert_same(found, whole)
    assert resumed.record() == expected.record()
    assert expected.record()["skipped"] == ["03.png"]
    for method in METHODS:
        assert choose_range(found["stem"], method, symmetric=False) == choose_range(
            whole["stem"], method, symmetric=False
        )


def test_a_finished_cache_needs_no_network(tmp_path: Path, folder: Path) -> None:
    first, calls = run(read_samples(folder, SIZE), tmp_path / "new" / "cache")[0], list[int]()
    assert_same(run(read_samples(folder, SIZE), tmp_path / "new" / "cache", tap=counting(calls))[0], first)
    assert not calls
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["cache"]


def test_a_cache_of_other_work_is_not_used(tmp_path: Path, folder: Path) -> None:
    cache = tmp_path / "cache"

    def again(said: str, expected_calls: int, samples: Samples, key: str = "key") -> None:
        run(read_samples(folder, SIZE), cache)
        calls: list[int] = []
        lines = run(samples, cache, key, tap=counting(calls))[1]
        assert said in lines[0]
        assert len(calls) == expected_calls

    again("another model", 12, read_samples(folder, SIZE), "other key")
    again("another model", 7, read_samples(folder, SIZE, count=7))
    again("another model", 12, read_samples(folder, Preprocessing((32, 32), crop_pct=1)))
    run(read_samples(folder, SIZE), cache)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "05.png")
    calls: list[int] = []
    found, lines = run(read_samples(folder, SIZE), cache, tap=counting(calls))
    assert "images have changed" in lines[0]
    assert len(calls) == 12
    assert_same(found, run(read_samples(folder, SIZE))[0])


def test_a_damaged_cache_starts_anew(tmp_path: Path, folder: Path) -> None:
    cache, expected = tmp_path / "cache", run(read_samples(folder, SIZE))[0]
    run(read_samples(folder, SIZE), cache)
    good = cache.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    packed = zlib.compress(b'{"names": ["stem"]}\nPK\x03\x04 is no archive')
    hostile = resume.MAGIC + hashlib.sha256(packed).digest() + packed
    for bad in (b"", good[:40], good[: len(good) // 2], bytes(flipped), b"text" * 99, hostile):
        cache.write_bytes(bad)
        found, said = run(read_samples(folder, SIZE), cache)
        assert "starting anew" in said[0]
        assert_same(found, expected)
        assert cache.read_bytes() == good


def test_the_cache_is_written_from_the_first_image_on(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(read_samples(folder, SIZE), tmp_path / "cache", tap=counting([], 5))
    calls: list[int] = []
    run(read_samples(folder, SIZE), tmp_path / "cache", tap=counting(calls))
    assert len(calls) == 11  # the first was kept; ten seconds have not gone by since


def test_a_full_disk_leaves_the_cache_before_it(small_disk: Path, folder: Path) -> None:
    cache, calls = small_disk / "cache", list[int]()
    with pytest.raises(KeyboardInterrupt):
        run(read_samples(folder, SIZE), cache, tap=counting([], 5), every=0)
    before = cache.read_bytes()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    with pytest.raises(OutputError, match="the disk is full"):
        run(read_samples(folder, SIZE), cache, every=0)
    assert cache.read_bytes() == before
    filler.unlink()
    assert sorted(path.name for path in small_disk.iterdir()) == ["cache"]
    run(read_samples(folder, SIZE), cache, tap=counting(calls))
    assert len(calls) == 7


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    calls: list[int] = []
    with pytest.raises(OutputError, match="cannot be written"):
        run(read_samples("random:3", SIZE), tmp_path / "file" / "cache", tap=counting(calls))
    assert len(calls) == 1


# Bad and odd input


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_tensor_that_is_not_finite_is_named(bad: float) -> None:
    def broken(image: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        return tap(image) | {"tokens": np.array([[bad, 1, 2]], np.float32)}

    with pytest.raises(BundleError, match="tokens holds NaN or an infinity for random") as raised:
        run(read_samples("random:2", SIZE), tap=broken)
    assert raised.value.exit_code == 2


def test_too_many_corrupt_images(folder: Path, tmp_path: Path) -> None:
    for name in ("01.png", "02.png"):
        (folder / name).write_text("text")
    with pytest.raises(InputError, match="2 of 12 images"):
        run(read_samples(folder, SIZE), tmp_path / "cache")
    with pytest.raises(InputError, match="2 of 12 images"):
        run(read_samples(folder, SIZE), tmp_path / "cache")


def test_one_image_and_black_images() -> None:
    black = read_samples([np.zeros((40, 40, 3), np.uint8)], Preprocessing((32, 32), mean=(0, 0, 0)))
    found, _ = run(black)
    for method in METHODS:
        assert choose_range(found["stem"], method, symmetric=False) == Range(0.0, 1.0)
    assert found["stem"].count == 1
