"""The program on the other side of an ssh connection: it receives files, runs the agent, and leaves nothing behind.

Its source is sent through the connection. It needs Python 3.8 or newer and only the standard library. It answers in
lines of JSON on stdout, after a line with a mark that is unique to the connection. The end of its stdin means that
the connection is closed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO

BEAT = 2.0  # seconds between signs of life
SILENCE = 300.0  # seconds without a sign from the other side before the connection counts as lost
TAIL = 20  # last lines of the agent, kept for an error
TRTEXEC = "/usr/src/tensorrt/bin/trtexec"  # where JetPack and the Debian packages install it, if it is not in PATH
SIGNALS = ("SIGHUP", "SIGTERM", "SIGINT")
IMPORTS = """
import json, numpy
found = {"numpy": numpy.__version__}
try:
    import onnxruntime
    found.update(onnxruntime=onnxruntime.__version__, providers=onnxruntime.get_available_providers())
except Exception:
    pass
print(json.dumps(found))
"""


class RemoteFailure(Exception):
    """A failure to report to the other side: a key word, and a text."""


def main(mark: str, source: BinaryIO, sink: BinaryIO) -> None:
    """Measures one profile. source, sink: stdin and stdout; mark: the line before the first answer."""
    for name in SIGNALS:
        signal.signal(getattr(signal, name), exit_on_signal)
    sink.write(b"\n" + mark.encode() + b"\n")
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="evm-remote-"))
        send_line(sink, {"facts": collect_facts(folder)})
        order = json.loads(read_line(source))
        for row in order["files"]:
            receive_file(folder, row, source, sink)
        run_agent(folder, order["command"], source, sink)
        send_file(folder / order["out"], order["limit"], sink)
    except RemoteFailure as error:
        send_line(sink, {"error": error.args[0], "text": error.args[1]})
    except OSError as error:
        send_line(
            sink, {"error": "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "system", "text": str(error)}
        )
    finally:
        for name in SIGNALS:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        if folder is not None:
            shutil.rmtree(str(folder), ignore_errors=True)
            if folder.exists():
                send_line(sink, {"left": str(folder)})


def collect_facts(folder: Path) -> dict[str, Any]:
    """The facts that decide how bundles can run on this machine."""
    libc, version = platform.libc_ver()
    trtexec = shutil.which("trtexec") or (TRTEXEC if os.access(TRTEXEC, os.X_OK) else None)
    found = {
        "system": platform.system(),
        "machine": platform.machine(),
        "glibc": version if libc == "glibc" else "",
        "free": shutil.disk_usage(str(folder)).free,
        "trtexec": trtexec,
    }
    # In a separate process, because a library built for another machine may crash it.
    command = [sys.executable, "-c", IMPORTS]
    done = subprocess.run(
        command, env=make_environment(folder), stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    with contextlib.suppress(ValueError, IndexError):
        found.update(json.loads(done.stdout.decode().strip().splitlines()[-1]))
    return found


def make_environment(folder: Path) -> dict[str, str]:
    """The environment of the agent. Temporary files go into the folder, which is removed; onnxruntime makes one."""
    return dict(os.environ, TMPDIR=str(folder), PYTHONDONTWRITEBYTECODE="1", ORT_DISABLE_TELEMETRY="1")


def receive_file(folder: Path, row: dict[str, Any], source: BinaryIO, sink: BinaryIO) -> None:
    """Writes the bytes that follow as the file described by `row`, and reads it again to compute its hash."""
    path = folder.joinpath(*row["name"].split("/"))
    path.parent.mkdir(parents=True, exist_ok=True)
    left, told = row["size"], time.monotonic()
    with path.open("xb") as file:
        while left:
            block = source.read(min(left, 1 << 18))
            if not block:
                raise SystemExit(1)
            file.write(block)
            left -= len(block)
            if time.monotonic() - told > BEAT:
                told = time.monotonic()
                send_line(sink, {"beat": left})
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() != row["sha256"]:
        raise RemoteFailure("hash", row["name"])


def run_agent(folder: Path, command: list[str], source: BinaryIO, sink: BinaryIO) -> None:
    """Runs the agent and passes on its output until it ends or the connection is closed."""
    agent = subprocess.Popen(
        [sys.executable, *command],
        cwd=str(folder),
        env=make_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        tail = watch_agent(agent, source.fileno(), sink)
    finally:
        with contextlib.suppress(OSError):  # together with all processes that it started
            os.killpg(agent.pid, signal.SIGKILL)
        agent.wait()
    if agent.returncode != 0:
        raise RemoteFailure("agent", "\n".join(tail) or f"it ended with {agent.returncode}")


def watch_agent(agent: subprocess.Popen[bytes], source: int, sink: BinaryIO) -> list[str]:
    """Waits for the agent, and returns its last lines. Raises SystemExit: the connection is closed."""
    assert agent.stdout is not None
    output, rest = agent.stdout.fileno(), b""
    tail: list[str] = []
    heard = told = time.monotonic()
    watched = [source, output]
    while agent.poll() is None or output in select.select(watched, [], [], 0)[0]:
        ready = select.select(watched, [], [], BEAT if output in watched else 0.05)[0]
        now = time.monotonic()
        if source in ready:
            heard = now
            if not os.read(source, 1 << 16):
                raise SystemExit(1)
        if now - heard > SILENCE:
            raise SystemExit(1)
        if output in ready:
            block = os.read(output, 1 << 16)
            if not block:
                watched.remove(output)
            *lines, rest = (rest + block).split(b"\n")
            rest = rest[-4096:]
            for text in (item.decode("utf-8", "replace").strip()[:500] for item in lines):
                tail = [*tail, text][-TAIL:]
                send_line(sink, {"say": text})
        if now - told > BEAT:
            told = now
            send_line(sink, {"beat": 0})
    return [*tail, rest.decode("utf-8", "replace")] if rest else tail


def send_file(path: Path, limit: int, sink: BinaryIO) -> None:
    """Sends the file, after a line with its size and hash."""
    if not path.is_file() or path.stat().st_size > limit:
        raise RemoteFailure("agent", "it wrote no profile, or a very large one")
    data = path.read_bytes()
    send_line(sink, {"done": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    sink.write(data)
    sink.flush()


def read_line(source: BinaryIO) -> bytes:
    """Reads the next line that is not empty; empty lines are signs of life. Raises SystemExit at the end."""
    text = b"\n"
    while text == b"\n":
        text = source.readline()
    if not text.endswith(b"\n"):
        raise SystemExit(1)
    return text


def send_line(sink: BinaryIO, value: dict[str, Any]) -> None:
    """Sends one line to the other side."""
    sink.write(json.dumps(value).encode() + b"\n")
    sink.flush()


def exit_on_signal(number: int, frame: object) -> None:
    """Ends the program, with its clean-up, when a signal arrives."""
    raise SystemExit(128 + number)
