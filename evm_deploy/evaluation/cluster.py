"""Distributes an evaluation: the workers of a Dask cluster each get shards of the images.

A worker that dies or loses its connection costs only the time of its shard, which Dask gives to another worker. Workers
open bundles and images by path, so every machine needs the same files at the same paths; the hashes of the bundles are
checked. Dask runs whatever its clients send: keep its ports inside a trusted network, or behind tls://.
"""

import contextlib
import dataclasses
import importlib
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from evm_deploy import errors, optional
from evm_deploy.data.samples import ReadEntry, Samples
from evm_deploy.errors import ClusterError, EvmDeployError
from evm_deploy.evaluation.contenders import Contender
from evm_deploy.evaluation.evaluate_options import EvaluateOptions
from evm_deploy.evaluation.running import Answers, collect_answers, merge_answers
from evm_deploy.manifest import Preprocessing

PATIENCE = 60  # seconds to wait for a worker
RETRIES = 2  # of a shard that failed for a reason that may be temporary, such as unavailable storage
SHARDS_PER_WORKER = 4  # a lost worker costs at most a quarter of its work

Work = Mapping[Preprocessing, Samples]


@dataclass(frozen=True)
class Shard:
    """The result of a worker: the answers, and what it read, for the record of the data."""

    answers: Answers
    get_seen: Mapping[Preprocessing, Mapping[int, ReadEntry]]


@dataclass(frozen=True)
class Refused:
    """One of our errors as a value. It would be the same on every worker, so the shard is not retried."""

    kind: str
    cause: str
    fix: str


def run_shards(
    contenders: Sequence[Contender], samples: Work, options: EvaluateOptions, say: Callable[[str], None]
) -> Answers:
    """Runs `running.collect_answers` on the workers that the options name: the same answers, in another order.

    Raises MissingToolError without Dask, ClusterError: the cluster cannot be reached, has no workers, or lost them all;
    and what `running.collect_answers` raises.
    """
    distributed = optional.import_library("distributed")
    images = len(next(iter(samples.values())))
    if options.workers is not None:
        options = dataclasses.replace(options, workers=min(options.workers, images))  # others would be idle
    with _open_client(distributed, options) as client:
        workers = _wait_for_workers(client, options)
        shards = min(options.shards or SHARDS_PER_WORKER * workers, images)
        say(f"evaluating {images} images in {shards} shards on {workers} workers")
        futures = [
            client.submit(
                run_shard,
                tuple(contenders),
                {preprocessing: each.shard(index, shards) for preprocessing, each in samples.items()},
                pure=False,  # every call has its own name, so the scheduler does not reuse an earlier result
                retries=RETRIES,
            )
            for index in range(shards)
        ]
        try:
            return merge_answers(
                [_accept_result(found, samples) for found in _collect_results(distributed, client, futures, say)]
            )
        finally:
            client.cancel(futures)


def run_shard(contenders: Sequence[Contender], samples: Work) -> Shard | Refused:
    """Runs one shard. Called on a worker."""
    try:
        answers = collect_answers(contenders, samples)
        return Shard(answers, {preprocessing: each.get_seen() for preprocessing, each in samples.items()})
    except EvmDeployError as error:
        return Refused(type(error).__name__, error.cause, error.fix)


def _collect_results(
    distributed: ModuleType, client: Any, futures: Sequence[Any], say: Callable[[str], None]
) -> Iterator[Any]:
    """Yields the result of each shard as it finishes."""
    for done, future in enumerate(distributed.as_completed(futures, loop=client.loop), start=1):
        try:
            found = future.result()
        except Exception as error:  # any error of a worker, or Dask's own KilledWorker
            raise _explain_loss(error) from error
        say(f"evaluating: shard {done} of {len(futures)} is done")
        yield found


def _accept_result(found: Shard | Refused, samples: Work) -> Answers:
    if isinstance(found, Refused):
        raise getattr(errors, found.kind, EvmDeployError)(found.cause, found.fix)
    for preprocessing, seen in found.get_seen.items():
        samples[preprocessing].add(seen)
    return found.answers


def _explain_loss(error: Exception) -> ClusterError:
    if type(error).__name__ == "KilledWorker":
        return ClusterError(
            "a shard was given to several workers, and each of them died.",
            "see the workers' logs; give them more memory, or ask for more --shards.",
        )
    reason = (str(error).splitlines() or [""])[0].rstrip(". ")
    return ClusterError(
        f"a worker failed: {type(error).__name__}: {reason}.",
        "let every worker have this evm-deploy, its libraries, and the same files at the same paths.",
    )


@contextlib.contextmanager
def _open_client(distributed: ModuleType, options: EvaluateOptions) -> Iterator[Any]:
    """Connects to the cluster, or starts workers on this machine that end with the client."""
    with contextlib.ExitStack() as stack:
        cluster = options.cluster or stack.enter_context(_start_local_cluster(distributed, options.workers))
        try:
            client = distributed.Client(cluster, set_as_default=False, timeout=PATIENCE // 2)
        except (OSError, ValueError, TimeoutError) as error:
            raise ClusterError(
                f"there is no Dask scheduler at {options.cluster} ({type(error).__name__}).",
                "start `dask scheduler` there, and name its address: tcp://host:8786.",
            ) from error
        yield stack.enter_context(client)


@contextlib.contextmanager
def _start_local_cluster(distributed: ModuleType, workers: int | None) -> Iterator[Any]:
    """Starts worker processes on this machine. One that dies is restarted."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="evm-deploy-", ignore_cleanup_errors=True))
        # Dask imports from its scratch folder: it must be ours, not one that anybody could have made in /tmp.
        stack.enter_context(importlib.import_module("dask").config.set({"temporary-directory": folder}))
        stack.callback(lambda: sys.path.__setitem__(slice(None), [p for p in sys.path if not p.startswith(folder)]))
        yield stack.enter_context(
            distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=None,  # images are read one at a time: there is nothing to spill
                dashboard_address="127.0.0.1:0",  # any free port: there may be several clusters
                local_directory=folder,
                silence_logs=logging.CRITICAL,
            )
        )


def _wait_for_workers(client: Any, options: EvaluateOptions) -> int:
    """Waits for one worker of a cluster, or for all workers on this machine. Returns their number."""
    try:
        client.wait_for_workers(options.workers or 1, timeout=PATIENCE)
    except TimeoutError as error:
        raise ClusterError(
            f"no worker joined the cluster within {PATIENCE} s.", "start `dask worker` with the scheduler's address."
        ) from error
    return max(1, len(client.nthreads()))
