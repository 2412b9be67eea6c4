"""What the agent is asked: bundles that lie on this machine, how each is run, and how often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VERSION = 1
LARGEST = 4 << 20  # bytes


class RequestError(Exception):
    """What cannot be measured as a whole, in one line."""


class Contender:
    """A bundle, run in one way."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.name: str = row["name"]
        self.bundle: str = row["bundle"]  # what it is called in the report
        self.folder = Path(row["folder"])
        self.sha256: str = row["sha256"]  # that the manifest in `folder` must have
        self.runner: str = row["runner"]
        self.tolerance = float(row["tolerance"])  # of the golden pair
        self.provider: str = row.get("provider") or "CPUExecutionProvider"
        self.library: str | None = row.get("library")
        self.notes: list[str] = list(row.get("notes", ()))
        self.more: dict[str, Any] = row.get("more") or {}  # what only its runner reads
        self.shown: dict[str, Any] = row.get("shown") or {}  # of the result, what the bundle does not say


class Request:
    """All of them, and how they are measured; `ProfileOptions` says what the options mean."""

    def __init__(self, value: dict[str, Any]) -> None:
        options = value["options"]
        self.device: str = value["device"]  # kind of it: local, ssh, ...
        self.tool: str = value["tool"]
        self.contenders = [Contender(row) for row in value["contenders"]]
        self.iterations = int(options["iterations"])
        self.seconds: float | None = options.get("seconds")
        self.warm_up = int(options["warm_up"])
        self.threads = int(options.get("threads") or 0)
        self.affinity = [int(core) for core in options.get("affinity") or ()]


def read(path: Path) -> Request:
    """Raises RequestError for a file that is no request."""
    try:
        if path.stat().st_size > LARGEST:
            raise RequestError(f"{path} is too large for a request.")
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.get("version") != VERSION:
            raise RequestError(f"this agent reads requests of version {VERSION}.")
        return Request(value)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} is not a request ({error}).") from None
