"""Which machine can take our operator library."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.profiling.devices.library import _find_glibc, _find_machine, find_library
from evm_deploy.scan import native

X86, ARM, RISCV = 62, 183, 243


def elf(machine: int, *needs: str) -> bytes:
    return (
        b"\x7fELF\x02\x01\x01".ljust(18, b"\0")
        + struct.pack("<H", machine)
        + b"\0".join(map(str.encode, needs))
        + b"\0"
    )


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "libevm_ops.so"
    path.write_bytes(elf(ARM, native.INTERFACE, "GLIBC_2.17", "GLIBC_2.4", "GLIBCXX_3.4.30", "GLIBC_2.28"))
    monkeypatch.setenv(native.LIBRARY_VARIABLE, str(path))
    return path


def facts(machine: str = "aarch64", glibc: str = "2.31", system: str = "Linux") -> dict[str, str]:
    return {"system": system, "machine": machine, "glibc": glibc}


@pytest.mark.parametrize("glibc", ["2.28", "2.31", "3.0"])
def test_the_same_kind_of_machine_takes_it(built: Path, glibc: str) -> None:
    found = find_library(facts(glibc=glibc), "board")
    assert (found.path, found.notes) == (built, ())


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (facts(machine="x86_64"), "is not for board (Linux x86_64)"),
        (facts(system="Darwin"), "is not for board (Darwin aarch64)"),
        (facts(glibc="2.27"), "needs glibc 2.28"),
        (facts(glibc=""), "needs glibc 2.28"),  # another C library
        ({}, "is not for board"),
    ],
)
def test_another_machine_runs_the_portable_form_and_says_so(built: Path, there: dict[str, str], why: str) -> None:
    found = find_library(there, "board")
    assert found.path is None
    assert why in found.notes[0]
    assert found.notes[0].endswith("the portable form was measured.")


def test_no_library_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(native.LIBRARY_VARIABLE, raising=False)
    monkeypatch.setattr("evm_deploy.__path__", [str(tmp_path)])
    assert "no operator library here" in find_library(facts(), "board").notes[0]


def test_files_of_other_kinds() -> None:
    assert [_find_machine(elf(each)) for each in (X86, ARM, RISCV)] == ["x86_64", "aarch64", None]
    assert _find_glibc(b"no versions") == (0, 0)


@given(st.binary(max_size=64))
def test_any_file_is_looked_at(data: bytes) -> None:
    _find_machine(data)
    _find_machine(b"\x7fELF" + data)
    _find_glibc(data)
