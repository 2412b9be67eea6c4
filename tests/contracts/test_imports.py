"""Who may import what: starting is cheap because nothing heavy is loaded, and nothing depends on the command line."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

import evm_deploy
from evm_deploy import cli

PACKAGE = Path(evm_deploy.__file__).parent
HEAVY = {"torch", "onnx", "onnxruntime", "onnxscript", "pydantic", "scipy", "PIL", "numpy"}
HEAVY |= {
    "aiohttp",
    "coreai",
    "coreai_torch",
    "coremltools",
    "cryptography",
    "jinja2",
    "matplotlib",
    "segno",
    "tensorrt",
    "tensorrt_rtx",
}
COMMANDS = sorted(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
CLI_ONLY = {"typer", "click", "rich"}


def modules_after(statement: str) -> set[str]:
    """The top-level names in sys.modules of a fresh interpreter that ran `statement`."""
    script = f"{statement}\nimport sys, json; print(json.dumps(sorted({{n.split('.')[0] for n in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing() -> None:
    assert modules_after("import evm_deploy") & (HEAVY | CLI_ONLY) == set()


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_loads_no_library(command: str) -> None:
    """typer itself may load pydantic to read the arguments."""
    arguments = [command, "--help"] if command else ["--help"]
    loaded = modules_after(f"from evm_deploy.cli import main\nassert main({arguments}) == 0")
    assert loaded & (HEAVY - {"pydantic"}) == set()


def test_a_bundle_is_read_without_any_framework(tmp_path: Path) -> None:
    script = (
        "from evm_deploy.bundle import Bundle\nfrom evm_deploy.errors import BundleError\n"
        f"try: Bundle.open({str(tmp_path)!r})\nexcept BundleError: pass"
    )
    assert modules_after(script) & {"torch", "onnx", "onnxruntime", "onnxscript"} == set()


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_the_command_line(path: Path) -> None:
    if path.parent.name == "cli" or path.name == "__main__.py":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        origin = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        assert not {"cli", "evm_deploy.cli"} & {*names, origin}
