"""A connection to the program in `remote.py`: sends it orders and files, and reads its answers, which are untrusted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import secrets
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from evm_deploy.errors import DeviceError
from evm_deploy.files import sha256_file
from evm_deploy.profiling.devices import refusals
from evm_deploy.profiling.devices.sent import SentFile
from evm_deploy.profiling.report import LARGEST

LINE, NOISE = 1 << 16, 1 << 20  # longest line, and longest output of a login shell before our first line, in bytes
BLOCK = 1 << 18
BEAT = 10.0  # seconds between the signs of life that we send
FAREWELL = 20.0  # seconds for the other side to clean up
GLANCE = 1.0  # seconds if the connection was never made, so that nothing has to be cleaned up
_PROGRAM = Path(__file__).with_name("remote.py")
_START = (
    "import sys; sys.version_info < (3, 8) and sys.exit({old}); "
    'exec(compile(sys.stdin.buffer.read({size}), "evm-deploy", "exec"))'
)


class Connection:
    """A connection to the other machine, used as a context. Leaving it waits until the other side has cleaned up.

    command: runs the shell command that follows it on the other machine; python: the Python there; patience: seconds
    without a sign of life before giving up. Every method raises DeviceError.
    """

    def __init__(self, command: Sequence[str], python: str, where: str, patience: float) -> None:
        self.where, self._patience = where, patience
        self._mark = f"evm-deploy {secrets.token_hex(16)}"
        source = _PROGRAM.read_bytes() + f"\nmain({self._mark!r}, sys.stdin.buffer, sys.stdout.buffer)\n".encode()
        start = _START.format(size=len(source), old=f'"{refusals.OLD_PYTHON} " + sys.version.split()[0]')
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `close`
        self._process = subprocess.Popen(
            [*command, f"exec {shlex.quote(python)} -c {shlex.quote(start)}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,  # we handle Ctrl-C, so that the other side can clean up first
        )
        self._answers: queue.Queue[dict[str, Any] | bytes | None] = queue.Queue(1024)
        self._speech: queue.Queue[Iterable[bytes] | None] = queue.Queue()
        self._speech.put([source])
        self._over, self._there = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._listen, self._speak)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def ask_facts(self) -> dict[str, Any]:
        """Asks for the facts about the other machine."""
        return refusals.check_object(self._wait_for_answer("facts", lambda stage: None)["facts"], self.where)

    def run(self, files: Sequence[SentFile], command: Sequence[str], out: str, say: Callable[[str], None]) -> bytes:
        """Sends the files, runs Python on `command` in their folder, and returns the file `out` that it wrote.

        say: is called with each line that the program prints.
        """
        rows = [{"name": one.name, "size": one.size, "sha256": sha256_file(one.path)} for one in files]
        order = {"files": rows, "command": list(command), "out": out, "limit": LARGEST}
        self._speech.put(_encode_order(order, files))
        found = self._wait_for_answer("done", say)
        data = self._take_next(self._patience)
        if data is None:
            raise self._explain_loss()
        if not isinstance(data, bytes) or hashlib.sha256(data).hexdigest() != found.get("sha256"):
            raise refusals.explain_garbage(self.where)
        return data

    def close(self) -> None:
        """Ends the connection. The other side notices, ends its processes, and removes its folder."""
        self._over.set()
        self._speech.put(None)
        with contextlib.suppress(queue.Empty):  # lets a listener continue that waits for space in the queue
            while True:
                self._answers.get_nowait()
        try:
            self._process.wait(FAREWELL if self._there.is_set() else GLANCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(FAREWELL)
        self._said.close()

    def _wait_for_answer(self, key: str, say: Callable[[str], None]) -> dict[str, Any]:
        """Waits for the answer with `key`, and passes on the lines of progress before it."""
        until = time.monotonic() + self._patience
        while True:
            answer = self._take_next(until - time.monotonic())
            if not isinstance(answer, dict):
                raise self._explain_loss()
            if key in answer:
                return answer
            if "error" in answer:
                raise refusals.explain_failure(answer, self.where)
            if "say" in answer:
                say(str(answer["say"]))
            if answer.get("beat") != 0:  # beat 0 means that the connection works, not that the agent does
                until = time.monotonic() + self._patience

    def _take_next(self, seconds: float) -> dict[str, Any] | bytes | None:
        try:
            return self._answers.get(timeout=max(seconds, 0))
        except queue.Empty:
            raise refusals.explain_silence(self.where, self._patience) from None

    def _explain_loss(self) -> DeviceError:
        """The error for a connection that has ended, from the output of ssh."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(FAREWELL)
        size = self._said.seek(0, 2)
        self._said.seek(max(0, size - LINE))
        text = self._said.read(LINE).decode("utf-8", "replace")
        return refusals.explain_end(self._process.poll(), text, self.where)

    def _listen(self) -> None:
        """Puts the answers of the other side into the queue, and None at the end or after an invalid answer."""
        with cast(IO[bytes], self._process.stdout) as pipe:
            try:
                if self._find_mark(pipe):
                    while text := pipe.readline(LINE):
                        value = refusals.check_object(json.loads(text), self.where)
                        self._hear(value)
                        if "done" in value:
                            self._hear(pipe.read(min(max(int(value["done"]), 0), LARGEST)))
            except (ValueError, TypeError, RecursionError, DeviceError):
                self._hear({"error": "garbage"})
        self._hear(None)

    def _find_mark(self, pipe: IO[bytes]) -> bool:
        noise = 0
        while noise <= NOISE and (text := pipe.readline(LINE)):
            if text.strip() == self._mark.encode():
                self._there.set()
                return True
            noise += len(text)
        return False

    def _hear(self, value: dict[str, Any] | bytes | None) -> None:
        if not self._over.is_set():
            self._answers.put(value)

    def _speak(self) -> None:
        """Sends the waiting orders, and regular signs of life, until the connection ends."""
        with contextlib.suppress(OSError), cast(IO[bytes], self._process.stdin) as pipe:
            while not self._over.is_set():
                try:
                    blocks = self._speech.get(timeout=BEAT)
                except queue.Empty:
                    blocks = [b"\n"]
                for block in blocks or ():
                    if self._over.is_set():
                        return
                    pipe.write(block)
                pipe.flush()


def _encode_order(order: dict[str, Any], files: Sequence[SentFile]) -> Iterator[bytes]:
    yield json.dumps(order).encode() + b"\n"
    for one in files:
        with one.path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block
