"""The agent as a program: a request in, a profile out, and what it is doing on stdout."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import alone
from .profile import profile
from .request import Request, RequestError, read
from .runners import ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .runners import Rows


def main(arguments: Sequence[str], command: Sequence[str], rows: Rows = ROWS) -> int:
    """REQUEST.json OUT.json: writes the profile there when it is whole. Returns 0, or 2 with a line on stderr.

    command: what follows the interpreter to run this program again.
    """
    try:
        if list(arguments[:1]) == ["--alone"] and len(arguments) == 4:
            request = read(Path(arguments[2]))
            return alone.child(request.contenders[int(arguments[1])], request, rows, Path(arguments[3]))
        if len(arguments) != 2:
            raise RequestError("usage: REQUEST.json OUT.json")
        path, out = map(Path, arguments)
        request = read(path)
        pin(request)
        found = profile(request, rows, lambda index: alone.start(command, path, index), _say)
        partial = out.with_name(out.name + ".partial")
        partial.write_text(json.dumps(found, allow_nan=False), encoding="utf-8")
        partial.replace(out)
        return 0
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def pin(request: Request) -> None:
    """Keeps this process, and those that it starts, on the cores that were asked for. Raises RequestError."""
    if not request.affinity:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise RequestError("this system does not let a program choose its cores.")
    try:
        os.sched_setaffinity(0, request.affinity)
        missing = set(request.affinity) - os.sched_getaffinity(0)
    except OSError:
        missing = set(request.affinity)
    if missing:  # Linux takes what there is of them, without a word
        raise RequestError(f"the cores {request.affinity} are not all there.")


def _say(stage: str) -> None:
    print(stage, flush=True)
