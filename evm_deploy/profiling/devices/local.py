"""Measures on this machine: the agent runs in a separate process, and each contender alone in another."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from evm_deploy.errors import DeviceError, OptionError
from evm_deploy.profiling.devices.answers import refuse_options
from evm_deploy.profiling.devices.by_operator import add_operators
from evm_deploy.profiling.devices.contenders import list_contenders
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import LARGEST, ProfileReport
from evm_deploy.profiling.requests import write_request

# Otherwise, idle threads of PyTorch would occupy cores while the others are timed.
QUIET = {"OMP_WAIT_POLICY": "PASSIVE"}
TEMPORARY = ("TMPDIR", "TEMP", "TMP")  # the agent is killed where it stands, and its files are removed with the request
CROWD = 16  # most threads for each core; with more, a run takes seconds and means nothing


def measure(
    address: str, bundles: Sequence[Path], options: ProfileOptions, say: Callable[[str], None]
) -> ProfileReport:
    """`Device.measure`."""
    _check(options)
    asked = list_contenders(bundles, options)
    with tempfile.TemporaryDirectory(prefix="evm-profile-") as folder:
        path, out = Path(folder) / "request.json", Path(folder) / "profile.json"
        path.write_text(write_request("local", asked, options), encoding="utf-8")
        run("evm_deploy.profiling.here", path, out, say)
        report = ProfileReport.from_json(_read(out), "the profile of this machine")
        if options.operators:
            out = Path(folder) / "operators.json"
            run("evm_deploy.profiling.devices.by_operator", path, out, say)
            report = dataclasses.replace(report, results=add_operators(report.results, _read(out)))
        return report


def run(module: str, path: Path, out: Path, say: Callable[[str], None]) -> None:
    """Runs a module on a request and passes on its output. An interrupt ends it and all processes that it started.

    Raises DeviceError: it failed.
    """
    command = [sys.executable, "-m", module, str(path), str(out)]
    with tempfile.TemporaryFile() as errors:  # not a pipe, which would block when it is full
        agent = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **QUIET, **dict.fromkeys(TEMPORARY, str(path.parent))},
            start_new_session=os.name == "posix",
        )
        try:
            assert agent.stdout is not None
            for line in agent.stdout:
                say(line.decode("utf-8", "replace").rstrip())
            code = agent.wait()
        finally:
            _end(agent)
        if code != 0 or not out.is_file():
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip().splitlines()
            why = said[-1].removeprefix("error: ") if said else f"it ended with {code}"
            raise DeviceError(f"measuring on this machine failed: {why[:500]}", "see `evm-deploy doctor`.")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST + 1)


def _end(agent: subprocess.Popen[bytes]) -> None:
    if agent.stdout is not None:
        agent.stdout.close()
    if agent.poll() is None:
        if os.name == "posix":
            os.killpg(agent.pid, signal.SIGKILL)
        else:
            agent.kill()
        agent.wait()


def _check(options: ProfileOptions) -> None:
    """Raises OptionError: an option belongs to another device, or a core does not exist."""
    refuse_options(options, "local", ("lan", "runner", "app"))
    cores = os.cpu_count() or 1
    if options.threads > CROWD * cores:
        what = f"{options.threads} threads on {cores} cores would do nothing but wait for each other."
        raise OptionError(what, f"choose --threads up to {CROWD * cores}; 0 leaves it to the runtime.")
    if not options.affinity:
        return
    affinity = getattr(os, "sched_getaffinity", None)
    if affinity is None:
        raise OptionError("this system does not let a program choose its cores.", "leave out --affinity.")
    missing = sorted(set(options.affinity) - affinity(0))
    if missing:
        offered = ", ".join(map(str, sorted(affinity(0))))
        raise OptionError(f"this process may not use core {missing[0]}.", f"choose from {offered}.")
