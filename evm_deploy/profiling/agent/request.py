"""The request to the agent: bundles on this machine, how to run each, and how often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VERSION = 1
LARGEST = 4 << 20  # bytes


class RequestError(Exception):
    """The whole request cannot be measured. The message is one line."""


class AgentContender:
    """A bundle, and one way to run it."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.name: str = row["name"]
        self.bundle: str = row["bundle"]  # its name in the report
        self.folder = Path(row["folder"])
        self.sha256: str = row["sha256"]  # the expected hash of the manifest in `folder`
        self.runner: str = row["runner"]
        self.tolerance = float(row["tolerance"])  # for the golden pair
        self.provider: str = row.get("provider") or "CPUExecutionProvider"
        self.library: str | None = row.get("library")
        self.notes: list[str] = list(row.get("notes", ()))
        self.more: dict[str, Any] = row.get("more") or {}  # further options of its runner
        self.shown: dict[str, Any] = row.get("shown") or {}  # fields of the result that are not in the bundle


class AgentRequest:
    """All contenders, and how they are measured; `ProfileOptions` explains the options."""

    def __init__(self, value: dict[str, Any]) -> None:
        options = value["options"]
        self.device: str = value["device"]  # the kind of device: local, ssh, ...
        self.tool: str = value["tool"]
        self.contenders = [AgentContender(row) for row in value["contenders"]]
        self.iterations = int(options["iterations"])
        self.seconds: float | None = options.get("seconds")
        self.warm_up = int(options["warm_up"])
        self.threads = int(options.get("threads") or 0)
        self.affinity = [int(core) for core in options.get("affinity") or ()]


def read_request(path: Path) -> AgentRequest:
    """Reads a request. Raises RequestError: the file is not a request."""
    try:
        if path.stat().st_size > LARGEST:
            raise RequestError(f"{path} is too large for a request.")
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.get("version") != VERSION:
            raise RequestError(f"this agent reads requests of version {VERSION}.")
        return AgentRequest(value)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} is not a request ({error}).") from None
