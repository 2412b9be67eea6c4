"""The agent as a program: it reads a request, writes a profile, and prints its progress to stdout."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import alone
from .profile import make_profile
from .request import AgentRequest, RequestError, read_request
from .runners import ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .runners import Rows


def main(arguments: Sequence[str], command: Sequence[str], rows: Rows = ROWS) -> int:
    """Runs the agent. arguments: REQUEST.json OUT.json; OUT.json is written only when it is complete.

    command: the arguments of Python that start this program again. Returns 0, or 2 with a line on stderr.
    """
    try:
        if list(arguments[:1]) == ["--alone"] and len(arguments) == 4:
            request = read_request(Path(arguments[2]))
            return alone.run_child(request.contenders[int(arguments[1])], request, rows, Path(arguments[3]))
        if len(arguments) != 2:
            raise RequestError("usage: REQUEST.json OUT.json")
        path, out = map(Path, arguments)
        request = read_request(path)
        pin_to_cores(request)
        found = make_profile(request, rows, lambda index: alone.start_child(command, path, index), _say)
        partial = out.with_name(out.name + ".partial")
        partial.write_text(json.dumps(found, allow_nan=False), encoding="utf-8")
        partial.replace(out)
        return 0
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def pin_to_cores(request: AgentRequest) -> None:
    """Pins this process, and those that it starts, to the requested cores. Raises RequestError."""
    if not request.affinity:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise RequestError("this system does not let a program choose its cores.")
    try:
        os.sched_setaffinity(0, request.affinity)
        missing = set(request.affinity) - os.sched_getaffinity(0)
    except OSError:
        missing = set(request.affinity)
    if missing:  # Linux silently ignores missing cores
        raise RequestError(f"some of the cores {request.affinity} do not exist.")


def _say(stage: str) -> None:
    print(stage, flush=True)
