"""Measures with the command-line runner on a phone, which needs no app."""

from __future__ import annotations

import contextlib
import queue
import re
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from evm_deploy.bundle import Bundle
from evm_deploy.errors import DeviceError, InputError
from evm_deploy.profiling.devices import adb_tool, sent
from evm_deploy.profiling.devices.adb_tool import Adb
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import LARGEST

PLACE = "/data/local/tmp/evm-deploy-"  # prefix of the folders of runs
OPERATORS = "libevm_ops.so"
MOST_LIBRARIES = 16
_VARIABLES = {
    "libonnxruntime.so": "ONNXRUNTIME_LIBRARY",
    OPERATORS: "EVM_OPS_LIBRARY",
}  # environment variables of the program
_DONE = b"evm-done:"
# Each second, a line shows how much processor time the program has used. The shell removes the folder when it ends,
# and it also ends when nobody reads its output any more.
_SCRIPT = """d={folder}
p=
trap 'kill -9 $p 2>/dev/null; cd /; rm -rf "$d"' EXIT
trap 'exit 1' HUP INT TERM PIPE
cd "$d" || exit 1
chmod 755 evm_run
export LD_LIBRARY_PATH=. {environment}
{command} > profile.json 2> said.txt &
p=$!
while kill -0 $p 2>/dev/null; do s=$(cat /proc/$p/stat 2>/dev/null); echo "at $s" || exit 1; sleep 1; done
wait $p
c=$?
p=
echo {done}$c
if [ $c -eq 0 ]; then cat profile.json; else cat said.txt; fi
"""


def measure(
    phone: Adb, named: Sequence[tuple[str, Bundle]], options: ProfileOptions, run: str, say: Callable[[str], None]
) -> tuple[bytes, list[str]]:
    """Returns the profile that the program printed, and warnings. run: a unique name."""
    assert options.runner is not None
    files = _list_files(options.runner, options.library)
    folder = f"{PLACE}{run}"
    there = name_folders(named)
    try:
        phone.shell(f"rm -rf {PLACE}*; mkdir -p {folder}")
        say(f"sending {len(named)} bundles and {options.runner.name} to {phone.where}")
        remarks = phone.push([*files, *sent.list_bundle_files(there)], folder)
        say(f"measuring on {phone.where}")
        command = _make_command([place for place, _ in there], options)
        environment = " ".join(f"{_VARIABLES[one.name]}=./{one.name}" for one in files if one.name in _VARIABLES)
        script = _SCRIPT.format(folder=folder, environment=environment, command=command, done=_DONE.decode())
        with phone.running(script) as output:
            return _read(output, options.timeout, phone), list(remarks)
    finally:
        with contextlib.suppress(DeviceError):
            phone.attempt(f"rm -rf {folder}")


def name_folders(named: Sequence[tuple[str, Bundle]]) -> list[tuple[str, Bundle]]:
    """A folder name for each bundle: its name, with characters that are safe in any shell."""
    return [
        (re.sub(r"[^\w.-]", "_", f"{index}-{name}", flags=re.ASCII), one) for index, (name, one) in enumerate(named)
    ]


def _list_files(runner: Path, library: bool) -> list[sent.SentFile]:
    """The program and the libraries beside it; our operator library only if requested. Raises InputError."""
    if not runner.is_file():
        raise InputError(f"--runner {runner} is not a file.", "name the program evm_run, built for the phone.")
    libraries = [path for path in sorted(runner.parent.glob("*.so")) if library or path.name != OPERATORS]
    if len(libraries) > MOST_LIBRARIES:
        fix = "put it into a folder with only libonnxruntime.so and the other libraries that it needs."
        raise InputError(f"--runner {runner} is in a folder with {len(libraries)} libraries.", fix)
    return [sent.SentFile("evm_run", runner), *(sent.SentFile(path.name, path) for path in libraries)]


def _make_command(names: Sequence[str], options: ProfileOptions) -> str:
    seconds = [] if options.seconds is None else ["--seconds", f"{options.seconds:g}"]
    counts = ["--iterations", str(options.iterations), "--warm-up", str(options.warm_up)]
    mask = sum(1 << core for core in set(options.affinity))
    pinned = ["taskset", f"{mask:x}"] if mask else []
    how = ["--threads", str(options.threads), *([] if options.library else ["--portable"])]
    return shlex.join([*pinned, "./evm_run", "--profile", *counts, *seconds, *how, *names])


def _read(output: IO[bytes], patience: float, phone: Adb) -> bytes:
    """Reads the program's output. Raises DeviceError: it failed, was idle for `patience`, or the phone is gone."""
    lines: queue.Queue[bytes] = queue.Queue(4096)
    threading.Thread(target=_hand_on, args=(output, lines), daemon=True).start()
    try:
        code = _wait_for_end(lines, patience, phone)
        rest = b""
        while (more := lines.get(timeout=patience)) and len(rest) <= LARGEST:
            rest += more
    except queue.Empty:
        fix = "raise --timeout if it is still working."
        raise DeviceError(f"the runner on {phone.where} did nothing for {patience:g} s.", fix) from None
    if code != b"0":
        said = " ".join(rest.decode("utf-8", "replace").split())[-300:].rstrip(". ")
        raise DeviceError(f"the runner on {phone.where} failed ({said}).", "see what it says.")
    return rest


def _wait_for_end(lines: queue.Queue[bytes], patience: float, phone: Adb) -> bytes:
    """Waits for the exit code of the program. Raises queue.Empty; DeviceError: the phone is gone."""
    pulse, last, until = b"", b"", time.monotonic() + patience
    while line := lines.get(timeout=max(0.0, until - time.monotonic())):
        if line.startswith(_DONE):
            return line.removeprefix(_DONE).strip()
        if line != pulse:  # it has used the processor since the last line
            pulse, until = line, time.monotonic() + patience
        last = b"" if line.startswith(b"at ") else line
    raise adb_tool.make_lost_error(phone.where, last.decode("utf-8", "replace"))


def _hand_on(output: IO[bytes], lines: queue.Queue[bytes]) -> None:
    """Puts every line into the queue, and an empty one at the end."""
    with output:
        while line := output.readline(adb_tool.LINE):
            lines.put(line)
    lines.put(b"")
