"""The order of the folders, as pyproject.toml has it: a folder imports earlier ones only, by its code or by a name."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.api import read_configuration
from importlinter.cli import lint_imports

import evm_deploy

CONFIGURATION = str(Path(__file__).parents[2] / "pyproject.toml")
PACKAGE = Path(evm_deploy.__file__).parent
OURS = re.compile(r"\bevm_deploy\.(\w*)")


@functools.cache
def layers() -> list[list[str]]:
    """The folders and files of the package, the last stage first; those of one list do not import each other."""
    (contract,) = (each for each in read_configuration(CONFIGURATION)["contracts_options"] if each["type"] == "layers")
    return [re.split(r"\s*\|\s*", layer) for layer in contract["layers"]]


def named_modules(tree: ast.Module, folder: str) -> Iterator[str]:
    """The folders of ours that the strings of a file name: what `import_module` or `python -m` may load.

    "" is a name that is put together while the program runs, so that nobody can tell what it loads.
    """
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings load nothing
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            yield from (name for name in OURS.findall(node.value) if not name or is_module(name))
        if isinstance(node, ast.Call) and name_of(node.func) in ("import_module", "__import__"):
            first = node.args[0]
            if isinstance(first, ast.JoinedStr) and isinstance(first.values[0], ast.FormattedValue):
                yield folder if name_of(first.values[0].value) == "__name__" else ""


def name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def is_module(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def wrong_names(tree: ast.Module, folder: str) -> list[str]:
    """The folders that a file of `folder` may not load and names; "" where that cannot be told."""
    levels = {name: level for level, layer in enumerate(layers()) for name in layer}
    return [name for name in named_modules(tree, folder) if name != folder and levels.get(name, -1) <= levels[folder]]


def test_a_stage_imports_earlier_stages_only(capsys: pytest.CaptureFixture[str]) -> None:
    """`lint-imports` prints what is wrong. Imports for type checkers count as well."""
    assert lint_imports(CONFIGURATION, no_cache=True) == 0, capsys.readouterr().out


def test_a_stage_loads_earlier_stages_only() -> None:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).parts
        if place != ("__init__.py",) and "templates" not in place:  # the package itself stands above all
            found[path] = wrong_names(ast.parse(path.read_text(encoding="utf-8")), place[0].removesuffix(".py"))
    assert len(found) > 200
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('import_module("evm_deploy.pipeline")', ["pipeline"]),
        ('importlib.import_module(f"evm_deploy.evaluation.{name}")', ["evaluation"]),
        ('run([sys.executable, "-m", "evm_deploy.cli"])', ["cli"]),
        ('run("python -m evm_deploy.benchmarking.benchmark", shell=True)', ["benchmarking"]),
        ('ROWS = {"local": "evm_deploy.reporting.html"}', ["reporting"]),
        ('import_module(f"evm_deploy.{name}")', [""]),
        ('import_module(f"{package}.{name}")', [""]),
        ('import_module(f"{__name__}.{name}")', []),
        ('import_module("evm_deploy.runtimes.onnxruntime")', []),
        ('import_module("torch")', []),
        ('print("call evm_deploy.export first")', []),
        ('"""As evm_deploy.pipeline does."""', []),
    ],
)
def test_names_that_a_stage_may_not_load(code: str, found: list[str]) -> None:
    assert wrong_names(ast.parse(code), "profiling") == found
