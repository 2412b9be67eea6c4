"""One way to write JSON: stable text that any parser reads."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any


def dumps(value: Any) -> str:
    """`value` as JSON text with sorted keys, indent 2 and a final newline.

    Dataclasses become objects, tuples arrays, paths strings. JSON has no infinities and no NaN (a PSNR of equal
    arrays is one), so they become null. The text is ASCII: a terminal of any encoding can print it.
    """
    return json.dumps(_plain(value), sort_keys=True, indent=2, allow_nan=False) + "\n"


def utf8_name(name: str | Path) -> str:
    """A file's name as JSON can hold it: names on Linux are bytes, of any encoding or none."""
    return os.fsencode(name).decode("utf-8", "replace")


def first_problem(error: Any) -> tuple[str, str]:
    """Where in a document pydantic's ValidationError found the first fault ("": all of it), and which."""
    first = error.errors(include_url=False, include_input=False)[0]
    return ".".join(map(str, first["loc"]))[:200], first["msg"].removeprefix("Value error, ")[:200]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
