"""Runs `adb` for one phone: shell commands and file transfers, with errors that say what to do."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import IO, cast

from evm_deploy.errors import DeviceError, MissingToolError
from evm_deploy.files import sha256_file
from evm_deploy.profiling.devices import phones
from evm_deploy.profiling.devices.sent import SentFile

COMMAND_SECONDS = 60.0  # for commands that a connected phone answers at once
PUSH_SECONDS = 1800.0
WAIT_SECONDS = 10.0  # for a phone that has just been connected
LINE = 1 << 16
_CODE = "evm-exit:"  # before the exit code, which adb returns only from Android 7 on
_GONE = re.compile(
    r"device '[^']*' not found|device offline|device unauthorized|no devices/emulators found|error: closed"
    r"|protocol fault|device still (?:authorizing|connecting)|connection reset|cannot connect to daemon"
)


class Adb:
    """One phone; made with `connect`. Every method raises DeviceError: the phone is disconnected or refuses."""

    def __init__(self, serial: str, model: str) -> None:
        self.serial, self.model = serial, model
        self.where = f"{model} ({serial})" if model else serial

    @classmethod
    def connect(cls, serial: str) -> Adb:
        """Connects to the phone with this serial number, or to the only one (""). Raises MissingToolError: no adb."""
        if shutil.which("adb") is None:
            raise MissingToolError("adb is not installed.", "apt install adb, or install Android's platform tools.")
        until = time.monotonic() + WAIT_SECONDS
        while True:
            known = [
                each for each in phones.parse_phones(_run_adb(["devices", "-l"])) if not serial or each.serial == serial
            ]
            if not any(each.state in phones.PASSING for each in known) or time.monotonic() >= until:
                found = phones.choose_phone(known, serial)
                return cls(found.serial, found.model)
            time.sleep(0.2)

    def shell(self, command: str, seconds: float = COMMAND_SECONDS) -> str:
        """Runs a shell command on the phone and returns its output. Raises DeviceError also if it fails."""
        code, text = self.attempt(command, seconds)
        if code != 0:
            said = " ".join(text.split())[-300:] or f"it ended with {code}"
            raise DeviceError(f"{self.where} refuses `{command[:120]}` ({said}).", "see what it says.")
        return text

    def attempt(self, command: str, seconds: float = COMMAND_SECONDS) -> tuple[int, str]:
        """Runs a shell command on the phone. Returns its exit code and its output with stderr, lines ending in \\n."""
        text = _run_adb(["-s", self.serial, "shell", f"{{ {command}\n}} 2>&1; c=$?; echo; echo {_CODE}$c"], seconds)
        said, mark, code = text.replace("\r\n", "\n").rpartition(_CODE)
        if not mark or not code.strip().isdigit():
            raise make_lost_error(self.where, text)
        return int(code), said.removesuffix("\n")

    def host(self, arguments: Sequence[str], seconds: float = PUSH_SECONDS) -> str:
        """Runs an adb command such as `install` and returns its output; the caller checks it for success."""
        return _run_adb(["-s", self.serial, *arguments], seconds)

    def push(self, files: Sequence[SentFile], folder: str) -> tuple[str, ...]:
        """Copies files into a folder on the phone, and compares their hashes there.

        Returns warnings: the phone may have no sha256sum.
        """
        for one in files:
            target = f"{folder}/{one.name}"
            self.shell(f"mkdir -p {shlex.quote(target.rpartition('/')[0])}")
            said = _run_adb(["-s", self.serial, "push", str(one.path), target], PUSH_SECONDS)
            if "failed to copy" in said or re.search(r"^(?:adb: )?error", said, re.MULTILINE):
                raise _make_push_error(self.where, said)
        names = " ".join(shlex.quote(one.name) for one in files)
        code, text = self.attempt(f"cd {shlex.quote(folder)} && sha256sum {names}", PUSH_SECONDS)
        if code == 127:
            return ("the phone has no sha256sum, so the files were not compared after copying",)
        rows = [line.split(None, 1) for line in text.splitlines()]
        told = {row[1].removeprefix("*"): row[0] for row in rows if len(row) == 2}
        for one in files:
            if told.get(one.name) != sha256_file(one.path):
                raise DeviceError(f"{one.name} changed on the way to {self.where} (its sha256 differs).", "try again.")
        return ()

    def read(self, path: str, limit: int) -> bytes:
        """Reads a file of at most `limit` bytes from the phone."""
        with self.running(f"cat {shlex.quote(path)}", "exec-out") as output, output:
            data = output.read(limit + 1)
        if len(data) > limit:
            raise DeviceError(f"{path} on {self.where} has more than {limit} bytes.", "try again.")
        return data

    @contextlib.contextmanager
    def running(self, command: str, how: str = "shell") -> Iterator[IO[bytes]]:
        """Runs a shell command on the phone and yields its output as a stream, which the caller closes.

        At the end of the block, the command loses its reader.
        """
        arguments = ["adb", "-s", self.serial, how, command]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(arguments, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet)
        try:
            yield cast(IO[bytes], process.stdout)
        finally:
            process.kill()
            process.wait()


def _run_adb(arguments: Sequence[str], seconds: float = COMMAND_SECONDS) -> str:
    """Runs adb and returns its output with stderr. Raises DeviceError: it takes too long, or the phone is gone."""
    try:
        done = subprocess.run(
            ["adb", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"adb gave no answer for {seconds:g} s.", "unplug the phone, and run `adb kill-server`."
        ) from None
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0 and _GONE.search(text):
        raise make_lost_error(arguments[1] if arguments[0] == "-s" else "the phone", text)
    return text


def make_lost_error(where: str, said: str) -> DeviceError:
    """Makes the error for a phone that was connected and is not any more."""
    text = " ".join(said.split())[-300:].rstrip(". ") or "no message"
    return DeviceError(
        f"the phone {where} is disconnected ({text}).", "connect it again; the next run removes the files on it."
    )


def _make_push_error(where: str, said: str) -> DeviceError:
    text = " ".join(said.split())[-300:].rstrip(". ")
    if "No space left" in said:
        return DeviceError(f"the storage of {where} is full ({text}).", "free some space there.")
    return DeviceError(f"{where} does not accept the files ({text}).", "see what it says.")
