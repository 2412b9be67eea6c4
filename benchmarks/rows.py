"""Rows of measured figures: as a table to read, and with their conditions as a file."""

import json
from pathlib import Path
from typing import Any

from evm_deploy.evaluation.conditions import read_conditions


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of equal keys as a Markdown table."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads)] + [[_cell(row[head]) for head in heads] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def save(path: Path, rows: list[dict[str, Any]], **more: Any) -> None:
    """Writes the rows and their conditions as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"conditions": read_conditions(), **more, "rows": rows}, indent=2) + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
