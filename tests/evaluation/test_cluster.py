"""Shards on two processes: the numbers of one process, also when a worker dies on the way."""

import collections
import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

import evm_deploy
from evm_deploy import EvaluateOptions, ExportOptions
from evm_deploy.errors import BundleError, ClusterError, InputError, MissingToolError
from evm_deploy.evaluation import cluster as ours
from evm_deploy.evaluation import contenders, running
from evm_deploy.evaluation.report import EvaluationReport

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")

QUICK = EvaluateOptions(latency_runs=0)


class Starts(distributed.SchedulerPlugin):  # type: ignore[misc]
    """How often each shard was given to a worker."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()

    def transition(self, key: str, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        self.counts[key] += finish == "processing"


class Two:
    """A cluster of two processes, and how to end one of them."""

    def __init__(self, cluster: Any) -> None:
        self.cluster, self.address = cluster, cluster.scheduler_address

    @contextlib.contextmanager
    def watched(self) -> Iterator[Starts]:
        starts = Starts()
        self.cluster.scheduler.add_plugin(starts, name="starts")
        yield starts
        self.cluster.scheduler.remove_plugin("starts")

    def busy(self) -> list[int]:
        """The process ids of the workers that have a shard in hand."""
        workers = list(self.cluster.scheduler.workers.values())
        addresses = {worker.address for worker in workers if worker.processing}
        return [nanny.pid for nanny in self.cluster.workers.values() if nanny.worker_address in addresses]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with ours._start_local_cluster(distributed, 2) as cluster:
        cluster.wait_for_workers(2, timeout=60)
        yield Two(cluster)


def same(found: EvaluationReport, expected: EvaluationReport) -> None:
    assert found == dataclasses.replace(expected, conditions=found.conditions)
    for mine, other in zip(found.rows, expected.rows, strict=True):
        np.testing.assert_array_equal(mine.confusion, other.confusion)


def test_shards_give_the_numbers_of_one_process(two: Two, colours: Callable[..., Path], pictures: Path) -> None:
    (pictures / "red" / "damaged.png").write_bytes(b"none")
    bundles = [colours("right"), colours("blind", np.array([[1, -1, 0], [-1, 1, 0], [-1, 1, 0]]), precision="int8")]
    expected = evm_deploy.evaluate(bundles, pictures, QUICK)
    assert expected.data["skipped"]
    for shards in (1, 3, 100):  # as many as there are images at most
        options = dataclasses.replace(QUICK, cluster=two.address, shards=shards)
        same(evm_deploy.evaluate(bundles, pictures, options), expected)


def test_a_worker_that_dies_costs_nothing_but_time(two: Two, colours: Callable[..., Path], tmp_path: Path) -> None:
    folder = speckled(tmp_path / "speckled", 400)
    bundles = [colours("one", labels=None), colours("two", np.ones((3, 3)) - np.eye(3), labels=None)]
    expected = evm_deploy.evaluate(bundles, folder, QUICK)
    ended: list[int] = []

    def kill(stage: str) -> None:
        if "shard 1 of" in stage:
            ended.extend(two.busy()[:1])
            os.kill(ended[0], signal.SIGKILL)

    with two.watched() as starts:
        options = dataclasses.replace(QUICK, cluster=two.address, shards=6)
        found = evm_deploy.evaluate(bundles, folder, options, progress=kill)
    assert ended
    assert max(starts.counts.values()) > 1
    same(found, expected)


def test_a_bundle_that_was_replaced_is_refused_by_the_workers(
    two: Two, colours: Callable[..., Path], pictures: Path
) -> None:
    bundle = colours("bundle")
    field = contenders.read_contenders([bundle], QUICK)
    colours("bundle", np.ones((3, 3)))
    samples = {field.contenders[0].preprocessing: evm_samples(pictures, field)}
    options = dataclasses.replace(QUICK, cluster=two.address, shards=2)
    with pytest.raises(BundleError, match="is not what it was"):
        ours.run_shards(field.contenders, samples, options, lambda stage: None)


def test_too_many_damaged_images_are_counted_over_all_shards(
    two: Two, colours: Callable[..., Path], pictures: Path
) -> None:
    for name in ("0.png", "1.png", "2.png"):
        (pictures / "red" / name).write_bytes(b"none")
    with pytest.raises(InputError, match="images cannot be used"):
        evm_deploy.evaluate(colours("right"), pictures, dataclasses.replace(QUICK, cluster=two.address, shards=9))


def test_a_worker_that_fails_otherwise_is_named(
    two: Two, colours: Callable[..., Path], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "run_shard", _fails)
    with pytest.raises(ClusterError, match="ZeroDivisionError"):
        evm_deploy.evaluate(colours("right"), pictures, dataclasses.replace(QUICK, cluster=two.address))


def _fails(*_: Any) -> float:
    return 1 / 0


def test_workers_of_this_machine(colours: Callable[..., Path], pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data by a relative path; nothing of Dask's is left behind, on the disk or where Python looks for modules."""
    monkeypatch.chdir(pictures.parent)
    bundle, before = colours("right"), list(sys.path)
    expected = evm_deploy.evaluate(bundle, pictures, QUICK)
    same(evm_deploy.evaluate(bundle, pictures.name, dataclasses.replace(QUICK, workers=1)), expected)
    assert sys.path == before


def test_nobody_there(colours: Callable[..., Path], pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "PATIENCE", 2)
    with pytest.raises(ClusterError, match="no Dask scheduler"):
        evm_deploy.evaluate(colours("right"), pictures, EvaluateOptions(cluster="tcp://127.0.0.1:9"))


def test_without_dask(colours: Callable[..., Path], pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingToolError, match="distributed"):
        evm_deploy.evaluate(colours("right"), pictures, EvaluateOptions(workers=2))


def test_workers_with_other_tools_are_an_error() -> None:
    answers = running.Answers(np.arange(1), np.zeros((1, 1, 1), np.int64), ("onnxruntime",))
    with pytest.raises(InputError, match="different ways"):
        running.merge_answers([answers, dataclasses.replace(answers, runtimes=("onnxruntime + evm_ops",))])


@pytest.mark.slow
def test_five_thousand_images_of_a_real_network(two: Two, golden: Any, tmp_path: Path) -> None:
    checkpoint = tmp_path / "micro.safetensors"
    save_file(golden.state_dict("micro"), checkpoint)
    for precision in ("fp32", "fp16"):
        evm_deploy.export(checkpoint, tmp_path / precision, ExportOptions(image_size=(32, 32), precision=precision))
    bundles = [tmp_path / "fp32", tmp_path / "fp16"]
    folder = speckled(tmp_path / "speckled", 5000)
    start = time.monotonic()
    expected = evm_deploy.evaluate(bundles, folder, dataclasses.replace(QUICK, checkpoint=checkpoint))
    alone = time.monotonic() - start
    assert sum(map(bool, expected.rows[0].confusion.sum(0))) > 1  # type: ignore[union-attr]

    def kill() -> None:
        while len(two.busy()) < 2:
            time.sleep(0.01)
        time.sleep(alone / 8)  # a shard takes at least a quarter of the time that one process takes
        os.kill(two.busy()[0], signal.SIGKILL)

    with two.watched() as starts:
        killer = threading.Thread(target=kill)
        killer.start()
        options = dataclasses.replace(QUICK, checkpoint=checkpoint, cluster=two.address, shards=4)
        found = evm_deploy.evaluate(bundles, folder, options)
        killer.join()
    assert len(starts.counts) == 4
    assert max(starts.counts.values()) > 1
    same(found, expected)


def speckled(folder: Path, count: int) -> Path:
    """Pictures of all kinds of colours and contrasts, a folder for each of three or, of many, ten classes."""
    rng = np.random.default_rng(0)
    classes = 10 if count > 1000 else 3
    for index in range(count):
        low, high = sorted(rng.integers(0, 256, 2))
        pixels = rng.integers(low, high + 1, (8, 8, 3), dtype=np.uint8) * rng.uniform(0, 1, 3)
        path = folder / str(index % classes) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).resize((40, 40)).save(path)
    return folder


def evm_samples(pictures: Path, field: contenders.ContenderGroup) -> Any:
    from evm_deploy.data.samples import read_samples

    return read_samples(pictures, field.contenders[0].preprocessing, labels=field.labels)
