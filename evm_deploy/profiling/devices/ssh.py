"""Measures on a board or a server: sends the agent and the bundles with `ssh` and the user's configuration."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evm_deploy.bundle import Bundle
from evm_deploy.errors import MissingToolError, OptionError
from evm_deploy.profiling import requests, zipped
from evm_deploy.profiling.devices import refusals, sent
from evm_deploy.profiling.devices.answers import accept_profile, refuse_options
from evm_deploy.profiling.devices.connection import Connection
from evm_deploy.profiling.devices.sent import SentFile
from evm_deploy.profiling.devices.ways import RemoteWays
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport

COMMAND, PYTHON = "EVM_DEPLOY_SSH", "EVM_DEPLOY_REMOTE_PYTHON"  # environment variables
# No prompts; a lost connection is noticed after half a minute; the rest of the user's configuration is kept.
OPTIONS = (
    "BatchMode=yes ConnectTimeout=20 ServerAliveInterval=5 ServerAliveCountMax=6 ClearAllForwardings=yes "
    "ControlMaster=no RemoteCommand=none LogLevel=ERROR"
).split()
ROOM = 64 << 20  # bytes that the agent may need there in addition to the files

_ADDRESS = re.compile(r"(?:(?P<user>[^@/\s-][^/\s]*)@)?(?P<host>[\w.][\w.-]*|\[[\w:.%]+\])(?::(?P<port>\d{1,5}))?/?")


@dataclass(frozen=True)
class Address:
    """The address for ssh; parts that are None come from ssh's configuration."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parses `[user@]host[:port]`. Raises OptionError."""
        found = _ADDRESS.fullmatch(text)
        if found is None or int(found["port"] or 1) not in range(1, 65536):
            raise OptionError(f"--device ssh://{text} names no host.", "write ssh://[user@]host[:port].")
        return cls(found["host"].strip("[]"), found["user"], int(found["port"]) if found["port"] else None)

    def make_command(self) -> list[str]:
        """The command that runs a shell command there. Raises MissingToolError: ssh is not installed."""
        program = shlex.split(os.environ.get(COMMAND) or "ssh")
        if shutil.which(program[0]) is None:
            fix = f"install OpenSSH (apt install openssh-client), or name it with {COMMAND}."
            raise MissingToolError(f"{program[0]} is not installed.", fix)
        options = [part for option in OPTIONS for part in ("-o", option)]
        user = ["-l", self.user] if self.user else []
        port = ["-p", str(self.port)] if self.port else []
        return [*program, "-T", *options, *user, *port, "--", self.host]

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" if self.user else self.host


def measure(
    address: str, bundles: Sequence[Path], options: ProfileOptions, say: Callable[[str], None]
) -> ProfileReport:
    """`Device.measure`. EVM_DEPLOY_SSH may name the ssh command, EVM_DEPLOY_REMOTE_PYTHON the Python there."""
    refuse_options(options, "ssh", ("checkpoint", "operators", "lan", "runner", "app"))
    place = Address.parse(address)
    named = requests.open_bundles(bundles)
    python = os.environ.get(PYTHON) or "python3"
    with tempfile.TemporaryDirectory(prefix="evm-profile-") as folder:
        say(f"connecting to {place}")
        with Connection(place.make_command(), python, str(place), options.timeout) as there:
            facts = there.ask_facts()
            files, text = _make_order(named, options, facts, str(place))
            asked = Path(folder) / "request.json"
            asked.write_text(text, encoding="utf-8")
            files += [
                SentFile("request.json", asked),
                SentFile("agent.pyz", zipped.write_agent(Path(folder) / "agent.pyz")),
            ]
            _check_room(files, facts, str(place))
            say(f"sending {sum(one.size for one in files):,} bytes to {place}")
            found = there.run(files, ["agent.pyz", "request.json", "profile.json"], "profile.json", say)
    return accept_profile(found, "ssh", str(place), [bundle for _, bundle in named])


def _make_order(
    named: Sequence[tuple[str, Bundle]], options: ProfileOptions, facts: dict[str, Any], host: str
) -> tuple[list[SentFile], str]:
    """The files to send, and the request for the agent."""
    folders = {bundle.path: f"bundles/{index}" for index, (_, bundle) in enumerate(named)}
    files = sent.list_bundle_files({folders[bundle.path]: bundle for _, bundle in named}.items())
    ways = RemoteWays(facts, host, options)
    contenders = [each for name, bundle in named for each in ways.list_contenders(name, bundle)]
    if ways.library.path is not None and any(one.library for one in contenders):
        files.append(SentFile(ways.library_there, ways.library.path))
    return files, requests.write_request("ssh", contenders, options, lambda bundle: folders[bundle.path])


def _check_room(files: Sequence[SentFile], facts: dict[str, Any], host: str) -> None:
    """Raises DeviceError: the files do not fit on the disk of the other machine."""
    free, needed = facts.get("free"), sum(one.size for one in files) + ROOM
    if isinstance(free, int) and free < needed:
        raise refusals.explain_failure(
            {"error": "disk", "text": f"{free:,} bytes are free, {needed:,} are needed"}, host
        )
