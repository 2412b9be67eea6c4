"""A board or a server: the agent is sent there with the bundles, by the `ssh` of this machine and its configuration."""

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
from evm_deploy.profiling.devices.answers import accepted, refuse
from evm_deploy.profiling.devices.connection import Connection
from evm_deploy.profiling.devices.sent import Sent
from evm_deploy.profiling.devices.ways import Ways
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport

COMMAND, PYTHON = "EVM_DEPLOY_SSH", "EVM_DEPLOY_REMOTE_PYTHON"  # environment variables
# Nobody is there to type; a dead line is noticed after half a minute; what else the user has configured stays.
OPTIONS = (
    "BatchMode=yes ConnectTimeout=20 ServerAliveInterval=5 ServerAliveCountMax=6 ClearAllForwardings=yes "
    "ControlMaster=no RemoteCommand=none LogLevel=ERROR"
).split()
ROOM = 64 << 20  # bytes that the agent may need there besides the files

_ADDRESS = re.compile(r"(?:(?P<user>[^@/\s-][^/\s]*)@)?(?P<host>[\w.][\w.-]*|\[[\w:.%]+\])(?::(?P<port>\d{1,5}))?/?")


@dataclass(frozen=True)
class Address:
    """Where ssh connects to; what is None comes from its configuration."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Of `[user@]host[:port]`. Raises OptionError."""
        found = _ADDRESS.fullmatch(text)
        if found is None or int(found["port"] or 1) not in range(1, 65536):
            raise OptionError(f"--device ssh://{text} names no host.", "write ssh://[user@]host[:port].")
        return cls(found["host"].strip("[]"), found["user"], int(found["port"]) if found["port"] else None)

    def command(self) -> list[str]:
        """What runs a shell command there. Raises MissingToolError: there is no ssh."""
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
    """`Device.measure`. The environment may name the ssh command (EVM_DEPLOY_SSH) and the Python there."""
    refuse(options, "ssh", ("checkpoint", "operators", "lan", "runner", "app"))
    place = Address.parse(address)
    named = requests.opened(bundles)
    python = os.environ.get(PYTHON) or "python3"
    with tempfile.TemporaryDirectory(prefix="evm-profile-") as folder:
        say(f"connecting to {place}")
        with Connection(place.command(), python, str(place), options.timeout) as there:
            facts = there.facts()
            files, text = _order(named, options, facts, str(place))
            asked = Path(folder) / "request.json"
            asked.write_text(text, encoding="utf-8")
            files += [Sent("request.json", asked), Sent("agent.pyz", zipped.archive(Path(folder) / "agent.pyz"))]
            _room(files, facts, str(place))
            say(f"sending {sum(one.size for one in files):,} bytes to {place}")
            found = there.run(files, ["agent.pyz", "request.json", "profile.json"], "profile.json", say)
    return accepted(found, "ssh", str(place), [bundle for _, bundle in named])


def _order(
    named: Sequence[tuple[str, Bundle]], options: ProfileOptions, facts: dict[str, Any], host: str
) -> tuple[list[Sent], str]:
    """What is sent, and the request for the agent there."""
    folders = {bundle.path: f"bundles/{index}" for index, (_, bundle) in enumerate(named)}
    files = sent.bundles({folders[bundle.path]: bundle for _, bundle in named}.items())
    ways = Ways(facts, host, options)
    contenders = [each for name, bundle in named for each in ways.of(name, bundle)]
    if ways.library.path is not None and any(one.library for one in contenders):
        files.append(Sent(ways.library_there, ways.library.path))
    return files, requests.request("ssh", contenders, options, lambda bundle: folders[bundle.path])


def _room(files: Sequence[Sent], facts: dict[str, Any], host: str) -> None:
    """Raises DeviceError where the files do not fit on the disk there."""
    free, needed = facts.get("free"), sum(one.size for one in files) + ROOM
    if isinstance(free, int) and free < needed:
        raise refusals.there({"error": "disk", "text": f"{free:,} bytes are free, {needed:,} are needed"}, host)
