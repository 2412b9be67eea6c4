"""The program on the other side of an ssh connection: it receives files, runs the agent, and leaves nothing behind.

Its source is sent through the connection and run by the Python there, 3.8 or newer, with nothing but its standard
library. It speaks in lines of JSON on stdout, after a line that only this connection knows; the end of its stdin means
that nobody listens any more.
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
SILENCE = 300.0  # seconds without one from the other side: the line is dead, though nobody has said so
TAIL = 20  # lines of the agent that are kept for an error
TRTEXEC = "/usr/src/tensorrt/bin/trtexec"  # where JetPack and the Debian packages put it, besides PATH
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


class Failure(Exception):
    """What the other side is told: a word for it, and what is to be known of it."""


def main(mark: str, source: BinaryIO, sink: BinaryIO) -> None:
    """Serves one profile. source, sink: stdin and stdout; mark: the line after which answers begin."""
    for name in SIGNALS:
        signal.signal(getattr(signal, name), leave)
    sink.write(b"\n" + mark.encode() + b"\n")
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="evm-remote-"))
        tell(sink, {"facts": facts(folder)})
        order = json.loads(line(source))
        for row in order["files"]:
            receive(folder, row, source, sink)
        run(folder, order["command"], source, sink)
        deliver(folder / order["out"], order["limit"], sink)
    except Failure as error:
        tell(sink, {"error": error.args[0], "text": error.args[1]})
    except OSError as error:
        tell(sink, {"error": "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "system", "text": str(error)})
    finally:
        for name in SIGNALS:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        if folder is not None:
            shutil.rmtree(str(folder), ignore_errors=True)
            if folder.exists():
                tell(sink, {"left": str(folder)})


def facts(folder: Path) -> dict[str, Any]:
    """What decides how bundles can be run here."""
    libc, version = platform.libc_ver()
    trtexec = shutil.which("trtexec") or (TRTEXEC if os.access(TRTEXEC, os.X_OK) else None)
    found = {
        "system": platform.system(),
        "machine": platform.machine(),
        "glibc": version if libc == "glibc" else "",
        "free": shutil.disk_usage(str(folder)).free,
        "trtexec": trtexec,
    }
    # In a process of its own: a library that was built for another machine may end it.
    command = [sys.executable, "-c", IMPORTS]
    done = subprocess.run(command, env=environment(folder), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    with contextlib.suppress(ValueError, IndexError):
        found.update(json.loads(done.stdout.decode().strip().splitlines()[-1]))
    return found


def environment(folder: Path) -> dict[str, str]:
    """For what runs here: it leaves its traces in the folder, which goes; onnxruntime makes a file when imported."""
    return dict(os.environ, TMPDIR=str(folder), PYTHONDONTWRITEBYTECODE="1", ORT_DISABLE_TELEMETRY="1")


def receive(folder: Path, row: dict[str, Any], source: BinaryIO, sink: BinaryIO) -> None:
    """Writes the bytes that follow as the file that `row` tells of, and reads them again for their hash."""
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
                tell(sink, {"beat": left})
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() != row["sha256"]:
        raise Failure("hash", row["name"])


def run(folder: Path, command: list[str], source: BinaryIO, sink: BinaryIO) -> None:
    """Runs the agent, handing its lines on, until it ends or nobody listens any more."""
    agent = subprocess.Popen(
        [sys.executable, *command],
        cwd=str(folder),
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        tail = watch(agent, source.fileno(), sink)
    finally:
        with contextlib.suppress(OSError):  # with everything that it has started
            os.killpg(agent.pid, signal.SIGKILL)
        agent.wait()
    if agent.returncode != 0:
        raise Failure("agent", "\n".join(tail) or f"it ended with {agent.returncode}")


def watch(agent: subprocess.Popen[bytes], source: int, sink: BinaryIO) -> list[str]:
    """The last lines of the agent, when it has ended. Raises SystemExit when nobody listens any more."""
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
                tell(sink, {"say": text})
        if now - told > BEAT:
            told = now
            tell(sink, {"beat": 0})
    return [*tail, rest.decode("utf-8", "replace")] if rest else tail


def deliver(path: Path, limit: int, sink: BinaryIO) -> None:
    """Sends the file, after a line with its size and hash."""
    if not path.is_file() or path.stat().st_size > limit:
        raise Failure("agent", "it wrote no profile, or a very large one")
    data = path.read_bytes()
    tell(sink, {"done": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    sink.write(data)
    sink.flush()


def line(source: BinaryIO) -> bytes:
    """The next line that is not empty, as signs of life are. Raises SystemExit at the end."""
    text = b"\n"
    while text == b"\n":
        text = source.readline()
    if not text.endswith(b"\n"):
        raise SystemExit(1)
    return text


def tell(sink: BinaryIO, value: dict[str, Any]) -> None:
    """One line to the other side."""
    sink.write(json.dumps(value).encode() + b"\n")
    sink.flush()


def leave(number: int, frame: object) -> None:
    """Ends the program in order when a signal comes."""
    raise SystemExit(128 + number)
