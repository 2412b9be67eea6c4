"""Doctor: each way in which a machine can be unready has its own row and fix."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evm_deploy import diagnosis as module
from evm_deploy.diagnosis import doctor


def row(name: str) -> module.Check:
    return next(check for check in doctor() if check.name == name)


def install(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    """Makes `import name` give `value`, or raise it."""
    real = module.importlib.import_module

    def fake(wanted: str) -> Any:
        if wanted != name:
            return real(wanted)
        if isinstance(value, Exception):
            raise value
        return value

    monkeypatch.setattr(module.importlib, "import_module", fake)
    monkeypatch.setattr(module.importlib.metadata, "requires", lambda _: [
        "onnxruntime<2,>=1.20", "torch>=2.13", 'onnx>=99; extra == "x"'
    ])  # fmt: skip


def test_this_machine_is_ready() -> None:
    checks = doctor()
    assert [check.name for check in checks][:5] == ["python", "torch", "onnx", "onnxscript", "onnxruntime"]
    assert all(check.ready for check in checks)
    assert "CPUExecutionProvider" in row("onnxruntime").detail


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "onnxruntime", ModuleNotFoundError("No module", name="onnxruntime"))
    check = row("onnxruntime")
    assert check.status == "missing"
    assert not check.ready
    assert check.fix == 'pip install "onnxruntime>=1.20"'


@pytest.mark.parametrize(
    ("version", "status"), [("1.19.2", "old"), ("1.20.0", "ok"), ("1.100", "ok"), ("2.0rc1", "ok")]
)
def test_versions_are_compared_as_numbers(monkeypatch: pytest.MonkeyPatch, version: str, status: str) -> None:
    install(monkeypatch, "onnxruntime", SimpleNamespace(__version__=version, get_available_providers=lambda: ["CPU"]))
    assert row("onnxruntime").status == status


def test_what_an_extra_asks_for_is_not_required(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "onnx", SimpleNamespace(__version__="1.17"))
    assert row("onnx").status == "ok"


@pytest.mark.parametrize("error", [ImportError("libcudart.so: no such file"), ModuleNotFoundError("x", name="numpy")])
def test_a_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    install(monkeypatch, "torch", error)
    check = row("torch")
    assert check.status == "broken"
    assert not check.ready


def test_python_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    assert module._check_python().status == "old"


def test_no_native_library_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evm_deploy.scan.native.available", lambda: False)
    check = row("native operators")
    assert check.status == "missing"
    assert check.ready
    assert "C++ compiler" in check.fix


def test_a_native_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "libevm_ops.so").write_bytes(b"not a library")
    monkeypatch.setattr("evm_deploy.scan.native.available", lambda: True)
    monkeypatch.setattr("evm_deploy.scan.native.native_library", lambda: tmp_path / "libevm_ops.so", raising=False)
    assert row("native operators").status == "broken"


def test_a_native_library_of_another_interface(monkeypatch: pytest.MonkeyPatch, other_library: Path) -> None:
    monkeypatch.setenv("EVM_DEPLOY_NATIVE_LIBRARY", str(other_library))
    assert row("native operators").status == "broken"


def test_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/adb" if name == "adb" else None)
    assert row("adb").status == "ok"
    assert row("ssh").status == "missing"
    assert row("ssh").ready
    assert "openssh-client" in row("ssh").fix


@pytest.mark.parametrize(
    ("python", "libc", "fix"),
    [
        ((3, 11, 2), ("glibc", "2.34"), "pip install coreai-core"),
        ((3, 10, 9), ("glibc", "2.34"), "use Python 3.11 or newer."),
        ((3, 11, 2), ("glibc", "2.31"), "use a system with glibc 2.34 or newer; this has 2.31."),
        ((3, 11, 2), ("", ""), "pip install coreai-core"),
    ],
)
def test_a_package_that_this_system_has_not(
    monkeypatch: pytest.MonkeyPatch, python: tuple[int, ...], libc: tuple[str, str], fix: str
) -> None:
    def find(package: str) -> str:
        raise module.importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(module.importlib.metadata, "version", find)
    monkeypatch.setattr(module.platform, "libc_ver", lambda: libc)
    monkeypatch.setattr(module.sys, "version_info", python)
    (package,) = (row for row in module.OPTIONAL if row.name == "coreai-core")
    assert module._check_optional(package).fix == fix
