"""The README and docs/ promise what exists: commands parse, Python compiles and uses public names, links lead on."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

import evm_deploy
from evm_deploy import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
SHELL = [text for language, text in BLOCKS if language in ("sh", "bash", "shell", "console")]
PYTHON = [text for language, text in BLOCKS if language in ("python", "py")]


def commands() -> list[list[str]]:
    """The arguments of every call of evm-deploy, up to a pipe or redirection."""
    found = []
    for line in "\n".join(SHELL).replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True) if "evm-deploy" in line else []
        if words and Path(words[0]).name == "evm-deploy":
            end = next((index for index, word in enumerate(words) if word in ("|", ">", "&&", "2>")), len(words))
            found.append(words[1:end])
    return found


def test_it_shows_a_session() -> None:
    assert {arguments[0] for arguments in commands()} >= {"export", "verify", "predict"}


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_its_commands_parse(arguments: list[str]) -> None:
    group: Any = typer.main.get_command(cli.app)
    if arguments[0].startswith("-"):
        assert arguments[0] in ("--help", "-h", "--version")
        return
    group.commands[arguments[0]].make_context(arguments[0], arguments[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_links_lead_to_files(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("text", PYTHON)
def test_its_python_uses_public_names(text: str) -> None:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "evm_deploy":
            assert node.attr in (*evm_deploy.__all__, "compat")
        if isinstance(node, ast.ImportFrom) and node.module == "evm_deploy":
            assert {alias.name for alias in node.names} <= set(evm_deploy.__all__)
