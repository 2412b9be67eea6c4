"""Gives malformed files to the commands that read them: run.py [--count N] [--seed S] [--only NAME] [--keep FOLDER].

Each command runs in a forked child, which has imported everything before. Nothing may end in another way than with exit
code 0, 1 or 2, and in the last case an error and its fix; nor take a gigabyte beyond the imports, nor a minute, nor
leave a file half written. Prints a line for each command that does, and how many ran. Exit code 1 if there are any.
"""

from __future__ import annotations

import argparse
import collections
import gc
import importlib
import logging
import os
import pkgutil
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import archives
import checkpoints
import documents
import graphs
import pictures
from cases import Case

import evm_deploy

SEEDS = Path(__file__).parents[1] / "compatibility" / "0.1.0.zip"
GROUPS = (checkpoints, documents, graphs, archives, pictures)
SECONDS = 60  # of processor time
PATIENCE = 300  # seconds on the clock, of a machine that does other things as well
LARGEST = 1 << 30  # bytes beyond the imports
ADDRESSES = 8 << 30  # bytes; a child that wants more gets a MemoryError, not the machine's last page


@dataclass(frozen=True)
class Outcome:
    """How a command ended. `code` is negative where a signal ended it; `peak` is in bytes."""

    code: int
    out: str
    err: str
    peak: int
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, help="a sample of so many, not all")
    parser.add_argument("--quick", action="store_true", help="only what takes less than about a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cases whose name has this")
    parser.add_argument("--verbose", action="store_true", help="a line for every case")
    parser.add_argument("--keep", type=Path, help="a folder for the files of the cases that fail")
    options = parser.parse_args()
    import_everything()
    faults, codes = 0, collections.Counter[int]()
    with tempfile.TemporaryDirectory(prefix="evm-hostile-") as scratch:
        seeds = Path(scratch) / "seeds"
        with zipfile.ZipFile(SEEDS) as archive:
            archive.extractall(seeds)
        cases = choose(list_cases(seeds, options.seed), options)
        base = run(Path(scratch), ["--version"]).peak
        for case in cases:
            folder = Path(scratch) / "case"
            folder.mkdir()
            outcome = run(folder, case.make(folder))
            codes[outcome.code] += 1
            if options.verbose:
                print(
                    f"{case.name}: {outcome.code} in {outcome.seconds:.1f} s, {(outcome.peak - base) >> 20} MB",
                    flush=True,
                )
            for fault in find_faults(outcome, base, folder):
                faults += 1
                print(f"{case.name}: {fault}", flush=True)
                if options.keep is not None:
                    shutil.copytree(folder, options.keep / case.name.replace("/", "_"), dirs_exist_ok=True)
            shutil.rmtree(folder)
    said = ", ".join(f"{count} ended with {code}" for code, count in sorted(codes.items()))
    print(f"{len(cases)} malformed inputs: {said}; {faults} faults")
    return 1 if faults else 0


def import_everything() -> None:
    """Nothing here runs: threads would be missing in a child."""
    logging.disable(logging.WARNING)  # coremltools' wishes for other versions
    for name in ("coremltools", "onnxruntime", "torch", "matplotlib.figure", "jinja2", "safetensors.torch"):
        importlib.import_module(name)
    for module in pkgutil.walk_packages(evm_deploy.__path__, "evm_deploy."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.freeze()  # a collection in a child would copy every page


def list_cases(seeds: Path, seed: int) -> list[Case]:
    """All cases; the same seed gives the same."""
    cases = [case for group in GROUPS for case in group.make_cases(seeds, random.Random(seed))]
    twice = [name for name, count in collections.Counter(case.name for case in cases).items() if count > 1]
    if twice:
        raise ValueError(f"two cases have the name {twice[0]}")
    return cases


def choose(cases: list[Case], options: argparse.Namespace) -> list[Case]:
    chosen = [case for case in cases if options.only in case.name]
    if options.quick:
        chosen = [case for case in chosen if case.quick]
    if options.count is not None:
        chosen = random.Random(options.seed).sample(chosen, min(options.count, len(chosen)))
    return chosen


def run(folder: Path, arguments: list[str]) -> Outcome:
    """Runs a command line in a child whose current folder is `folder`."""
    out, err = folder.parent / "stdout", folder.parent / "stderr"
    began = time.monotonic()
    child = os.fork()
    if not child:
        _run_in_child(folder, arguments, out, err)
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            break
        if time.monotonic() - began > PATIENCE:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    texts = [path.read_text(errors="replace") for path in (out, err)]
    code = os.waitstatus_to_exitcode(status)
    return Outcome(code, *texts, usage.ru_maxrss << 10, time.monotonic() - began)


def _run_in_child(folder: Path, arguments: list[str], out: Path, err: Path) -> None:
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        for stream, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES,) * 2)
        from evm_deploy.cli.entry import main as run_command

        sys.stdout, sys.stderr = (open(stream, "w", closefd=False) for stream in (1, 2))  # noqa: SIM115
        code = run_command(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def find_faults(outcome: Outcome, base: int, folder: Path) -> list[str]:
    """What a command may not do, and did."""
    faults = []
    said = outcome.err.splitlines()
    last = said[-1][:200] if said else ""
    if outcome.code not in (0, 1, 2):
        faults.append(f"ended with {outcome.code} after {outcome.seconds:.0f} s: {' | '.join(said[-2:])[:400]}")
    if "Traceback (most recent call last)" in outcome.out + outcome.err:
        faults.append(f"a traceback: {last}")
    if outcome.code == 2 and not (len(said) > 1 and said[-2].startswith("error: ") and said[-1].startswith("fix: ")):
        faults.append(f"no error with a fix: {last!r}")
    if "there is not enough memory" in outcome.err:
        faults.append("all memory was taken")
    if outcome.peak - base > LARGEST:
        faults.append(f"took {(outcome.peak - base) >> 20} MB")
    left = [path.name for path in folder.iterdir() if path.name.endswith((".partial", ".old"))]
    if left or (outcome.code == 2 and (folder / "out").exists()):
        faults.append(f"left {', '.join(left) or 'out'}")
    return faults


if __name__ == "__main__":
    sys.exit(main())
