"""Names say what a thing is: no class name occurs twice, and functions are verbs, not participles."""

import ast
import functools
from collections import Counter
from pathlib import Path

import pytest

import evm_deploy

PACKAGE = Path(evm_deploy.__file__).parent
TEMPLATES = PACKAGE / "packaging" / "templates"  # sources of generated packages, which stand alone

OPERATORS = {"quantized_efficient_scan_2d", "ordered_scan"}  # named after the operators

IRREGULAR = frozenset(
    "begun bound built chosen cut done drawn found given gone held kept known left lost made met put said seen sent "
    "shown spoken taken told worn written".split()
)
VERBS = frozenset({"embed", "feed", "need", "seed", "speed"})  # verbs that end like a participle


@functools.cache
def package_trees() -> tuple[ast.Module, ...]:
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if TEMPLATES not in path.parents]
    return tuple(ast.parse(path.read_text(encoding="utf-8")) for path in paths)


def is_participle(name: str) -> bool:
    word = name.split("_")[0]
    return word in IRREGULAR or (word.endswith("ed") and word not in VERBS)


def function_names(tree: ast.Module) -> set[str]:
    """Public functions of a module, and methods of its classes. Properties are left out: they may be adjectives."""
    owners = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef))]
    functions = [
        node for owner in owners for node in owner.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    properties = {
        node.name for node in functions if any("property" in ast.unparse(each) for each in node.decorator_list)
    }
    return {node.name for node in functions if not node.name.startswith("_")} - properties


@pytest.mark.parametrize("name", ["written", "opened", "held_against", "cropped_image", "quantized_scan"])
def test_a_participle_is_recognised(name: str) -> None:
    assert is_participle(name)


@pytest.mark.parametrize("name", ["write", "open_bundle", "is_opened", "need_labels", "feed", "read"])
def test_a_verb_is_no_participle(name: str) -> None:
    assert not is_participle(name)


def test_no_class_name_occurs_twice() -> None:
    names = Counter(node.name for tree in package_trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert {name for name, count in names.items() if count > 1} == set()


def test_no_public_function_is_a_participle() -> None:
    names = set().union(*map(function_names, package_trees()))
    assert set(filter(is_participle, names)) - OPERATORS == set()
