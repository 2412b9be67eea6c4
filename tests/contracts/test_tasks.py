"""Only tasks/ knows what the outputs of a model mean: nobody else compares a task or a meaning."""

import ast
from pathlib import Path

import pytest

import evm_deploy

PACKAGE = Path(evm_deploy.__file__).parent
SKIPPED = {PACKAGE / "tasks", PACKAGE / "packaging" / "templates"}  # the latter is copied to machines without us
SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if not SKIPPED & set(path.parents)]


def find_comparisons(text: str) -> list[int]:
    """The lines that compare something called a task or a meaning, or look it up among others.

    `is None` asks whether one was named at all.
    """
    found = []
    for node in ast.walk(ast.parse(text)):
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        sides = [] if any(isinstance(side, ast.Constant) and side.value is None for side in sides) else sides
        sides += [node.subject] if isinstance(node, ast.Match) else []
        if any(isinstance(side, ast.Attribute) and side.attr in ("task", "meaning") for side in sides):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_else_compares_a_task_or_a_meaning(path: Path) -> None:
    allowed = 1 if path == PACKAGE / "manifest.py" else 0  # whether the table has it
    assert len(find_comparisons(path.read_text(encoding="utf-8"))) <= allowed


@pytest.mark.parametrize(
    "text",
    [
        'manifest.task == "classification"',
        '"features" != spec.meaning',
        'spec.meaning in ("logits", "probabilities")',
        "match manifest.task:\n    case 'backbone': pass",
    ],
)
def test_comparisons_are_found(text: str) -> None:
    assert find_comparisons(text) == [1]


@pytest.mark.parametrize("text", ["find_task(manifest.task).metric == other.metric", "options.task is not None"])
def test_asking_the_row_is_no_comparison(text: str) -> None:
    assert find_comparisons(text) == []
