"""What tests of the packages for phones share: small bundles with names, and parsers of the languages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from evm_deploy.bundle import Bundle
from evm_deploy.packaging.contents import NamedBundle

# A label may be anything of one line; these would end a string, a comment or a tag of every language that is written.
HOSTILE = (
    '"; import Evil //',
    "\\(exit(1)) ${System.exit(1)} $x",
    '</string><x a=\'&amp;\'> """ */ ]]> @NAME@ \u202e',
)


@pytest.fixture
def hostile() -> tuple[str, ...]:
    return HOSTILE


@pytest.fixture
def make_named(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> Callable[..., list[NamedBundle]]:
    """Small bundles with these names: `make_named("a", "b", labels=..., **manifest)`."""

    def make(*names: str, labels: Sequence[str] = ("cat", "dog", "eel"), **changes: Any) -> list[NamedBundle]:
        folder = tmp_path / "bundles"
        return [
            NamedBundle(name, make_bundle(folder / name, labels=tuple(labels), overwrite=True, **changes))
            for name in names
        ]

    return make


@pytest.fixture(scope="session")
def mistakes() -> Callable[[str, str], list[str]]:
    """What a parser finds wrong with a text: `mistakes("swift", text)`, a list of places and what is there."""
    tree_sitter = pytest.importorskip("tree_sitter")
    grammars = {name: pytest.importorskip(f"tree_sitter_{name}") for name in ("swift", "kotlin")}

    def wrong(node: Any) -> list[str]:
        if node.type == "ERROR" or node.is_missing:
            return [f"line {node.start_point[0] + 1}: {node.text.decode()[:60]!r}"]
        return [each for child in node.children if node.has_error for each in wrong(child)]

    def find(language: str, text: str) -> list[str]:
        parser = tree_sitter.Parser(tree_sitter.Language(grammars[language].language()))
        return wrong(parser.parse(text.encode()).root_node)

    return find
