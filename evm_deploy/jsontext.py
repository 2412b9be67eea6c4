"""One way to write JSON, stable text that any parser reads, and one to read documents that nobody vouches for."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math
import re
from pathlib import Path
from typing import Any, TypeVar

from evm_deploy.errors import EvmDeployError

Value = TypeVar("Value")

# What a document may have at most: far more than ours do, and far less than would fill the memory.
MOST_CONTAINERS, MOST_VALUES, MOST_NAMES = 300_000, 2_000_000, 20_000

OPTIONAL = {"optional": True}  # metadata of a dataclass's field that is left out where it is None


def dumps(value: Any) -> str:
    """`value` as JSON text with sorted keys, indent 2 and a final newline.

    Dataclasses become objects, tuples arrays, paths strings, of which `utf8_name` makes text. JSON has no infinities
    and no NaN (a PSNR of equal arrays is one), so they become null. The text is ASCII: a terminal of any encoding can
    print it.
    """
    return json.dumps(_plain(value), sort_keys=True, indent=2, allow_nan=False) + "\n"


def utf8_name(name: str | Path) -> str:
    """A file's name as JSON can hold it. Names on Linux are bytes, of any encoding or none: those that are not UTF-8
    become %E9 and the like, so that different names stay different.
    """
    return re.sub("[\ud800-\udfff]", _escape_surrogate, str(name))


def _escape_surrogate(found: re.Match[str]) -> str:
    code = ord(found[0]) - 0xDC00  # Python keeps a byte that is not UTF-8 in this way
    return f"%{code:02X}" if 0x80 <= code <= 0xFF else "\ufffd"


def read_object(text: bytes, what: str, error: type[EvmDeployError], fix: str) -> dict[str, Any]:
    """The JSON object that is the document `text`, which is called `what`.

    Raises `error`: it is none, or has so many values that reading it would take all memory.
    """
    if text.count(b"{") + text.count(b"[") > MOST_CONTAINERS or text.count(b",") > MOST_VALUES:
        raise error(f"{what} has more than {MOST_CONTAINERS} objects and lists, or {MOST_VALUES} values.", fix)
    try:
        value = json.loads(text, object_pairs_hook=_make_object)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise error(f"{what} is not a JSON object.", fix)
    return value


def check_version(found: object, known: int, what: str, error: type[EvmDeployError]) -> None:
    """Raises `error` unless the document `what` has the version that is known here."""
    if found != known or isinstance(found, bool):
        raise error(
            f"{what} has schema version {str(found)[:20]}; this evm-deploy reads {known}.",
            "use the evm-deploy that wrote it, or a newer one.",
        )


def read_dataclass(
    kind: type[Value], text: bytes, what: str, error: type[EvmDeployError], fix: str, is_not: str = "valid"
) -> Value:
    """The dataclass of this kind that the untrusted document `text` holds, which `read_object` has read before.

    Raises `error`: `what` is not `is_not`.
    """
    from pydantic import ValidationError

    try:
        value: Value = _make_validator(kind).validate_json(text)  # type: ignore[arg-type]  # a class is hashable
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        where, problem = ".".join(map(str, first["loc"]))[:200], first["msg"].removeprefix("Value error, ")[:200]
        raise error(f"{what} is not {is_not}: {': '.join(filter(None, (where, problem)))}.", fix) from None
    return value


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_NAMES:
        raise ValueError(f"an object has more than {MOST_NAMES} names")
    return dict(pairs)


@functools.cache
def _make_validator(kind: Any) -> Any:
    """Stops at the first fault in a list: pydantic would keep a record of a kilobyte for each of millions."""
    from pydantic import TypeAdapter
    from pydantic_core import SchemaValidator

    schema = copy.deepcopy(TypeAdapter(kind).core_schema)
    nodes: list[Any] = [schema]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if node.get("type") in ("list", "tuple"):
                node["fail_fast"] = True
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node
    return SchemaValidator(schema)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {
            field.name: _plain(held)
            for field, held in fields.items()
            if held is not None or not field.metadata.get("optional")
        }
    if isinstance(value, dict):
        return {utf8_name(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, Path)):
        return utf8_name(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
