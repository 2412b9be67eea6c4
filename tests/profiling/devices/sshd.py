"""A real sshd on this machine, on a free port, with keys and a configuration of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
SEPARATION = Path("/run/sshd")  # where an sshd of root confines what speaks to strangers; its service makes it

_SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
"""
_CLIENT = """\
Host *
  IdentitiesOnly yes
  IdentityAgent none
  GlobalKnownHostsFile none
Host board stranger unknown
  HostName 127.0.0.1
  Port {port}
Host board
  IdentityFile {folder}/user
  UserKnownHostsFile {folder}/known
Host stranger
  IdentityFile {folder}/host
  UserKnownHostsFile {folder}/known
Host unknown
  IdentityFile {folder}/user
  UserKnownHostsFile {folder}/none
"""


@dataclass(frozen=True)
class Server:
    """The sshd. `board` lets us in; `stranger` does not know our key; `unknown` has a host key that we do not know."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int

    @property
    def command(self) -> str:
        """For EVM_DEPLOY_SSH."""
        return f"ssh -F {self.folder}/config"

    def cut(self) -> int:
        """Kills the processes that serve connections, and nothing that runs in them. Returns how many there were."""
        mine = descendants(self.process.pid)
        served = [pid for pid in mine if name(pid).startswith("sshd")]
        for pid in served:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(served)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Starts it, and ends it with every connection."""
    if os.geteuid() == 0:
        SEPARATION.mkdir(mode=0o755, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for key in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    for title, text in (("sshd_config", _SERVER), ("config", _CLIENT)):
        (folder / title).write_text(text.format(port=port, folder=folder))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        server = Server(process, folder, port)
        _wait(server)
        yield server
        server.cut()
    finally:
        process.kill()
        process.wait()


def _wait(server: Server) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError((server.folder / "log").read_text())


def descendants(pid: int) -> list[int]:
    """Every process below another."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found += level
    return found


def name(pid: int) -> str:
    """Of the program that a process runs."""
    try:
        return (Path("/proc") / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def working_in(folder: Path) -> list[int]:
    """The processes whose current folder is inside of this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                place = str((entry / "cwd").readlink()).removesuffix(" (deleted)")
                if Path(place).is_relative_to(folder):
                    found.append(int(entry.name))
    return found


def python(path: Path, before: str = "", program: str = sys.executable) -> str:
    """A Python for the other side: this one, after some lines of shell. Returns its path."""
    path.write_text(f'#!/bin/sh\n{before}\nexec "{program}" "$@"\n')
    path.chmod(0o755)
    return str(path)
