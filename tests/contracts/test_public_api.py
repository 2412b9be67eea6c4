"""The public names of `evm_deploy`: they are there, they are callable, and no module of ours hides them."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest
import typer.main

import evm_deploy
from evm_deploy import cli

COMMANDS = sorted(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]


def test_the_names() -> None:
    assert {"Bundle", "EfficientVMamba", "ExportOptions", "load", "native_library", "selective_scan_fn"} <= set(
        evm_deploy.__all__
    )
    assert set(evm_deploy.__all__) <= set(dir(evm_deploy))


@pytest.mark.parametrize("name", sorted(evm_deploy.__all__))
def test_each_is_documented_and_callable(name: str) -> None:
    value = getattr(evm_deploy, name)
    assert callable(value)
    assert inspect.getdoc(value)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_a_function_of_its_name(name: str) -> None:
    assert inspect.isfunction(getattr(evm_deploy, name))


def test_no_module_hides_a_public_name() -> None:
    """Importing `package.name` binds `name` in the package: a module and a function cannot share one."""
    modules = {module.name for module in pkgutil.iter_modules(evm_deploy.__path__)}
    assert not modules & set(evm_deploy.__all__)


def test_commands_stay_functions_after_each_other() -> None:
    script = (
        "import evm_deploy, importlib, pkgutil\n"
        "for module in pkgutil.walk_packages(evm_deploy.__path__, 'evm_deploy.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        f"assert all(callable(getattr(evm_deploy, name)) for name in {COMMANDS})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="exprot"):
        _ = evm_deploy.exprot  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        importlib.import_module("evm_deploy.exprot")
