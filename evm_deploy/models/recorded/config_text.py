"""Reads the text of a configuration written in Python, without running it."""

from __future__ import annotations

import ast
import warnings
from typing import Any

MOST_TEXT = 1 << 18  # characters
_DEEPEST = 40


def parse_config(text: str) -> dict[str, Any] | None:
    """The values that the text assigns to names, of literals and `dict(...)`; None stands for anything else.

    Returns None where it is no Python, or longer than configurations are.
    """
    if len(text) > MOST_TEXT:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in its strings
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: it is nested too deeply
        return None
    return {
        target.id: _read_value(node.value, 0)
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _read_value(node: ast.expr, depth: int) -> Any:
    if depth > _DEEPEST:
        return None
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_read_value(each, depth + 1) for each in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {key.value: _read_value(each, depth + 1) for key, each in pairs if isinstance(key, ast.Constant)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {each.arg: _read_value(each.value, depth + 1) for each in node.keywords if each.arg is not None}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _read_value(node.operand, depth + 1)
        return -number if isinstance(number, (int, float)) else None
    return None
