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
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
SHELL = [text for language, text in BLOCKS if language in ("sh", "bash", "shell", "console")]
PYTHON = [text for language, text in BLOCKS if language in ("python", "py")]


def list_commands(blocks: list[str]) -> list[list[str]]:
    """The arguments of every call of evm-deploy, up to a pipe or redirection."""
    found = []
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True) if "evm-deploy" in line else []
        if words and Path(words[0]).name == "evm-deploy":
            end = next((index for index, word in enumerate(words) if word in ("|", ">", "&&", "2>")), len(words))
            found.append(words[1:end])
    return found


def test_it_is_a_page() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert len(text.split()) <= 900


def test_its_session_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    (session,) = re.findall(r"^```console\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for arguments in list_commands([session]):
        assert cli.main(arguments) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    for line in ("runtime  ", "passed: compared with PyTorch, relative error at most 1.0e-04", "    0.9367  3"):
        assert line in session
        assert line in printed


@pytest.mark.parametrize("arguments", list_commands(SHELL), ids=" ".join)
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
