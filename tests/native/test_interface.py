"""A library of another interface is refused with one line, by whoever loads it or sends it elsewhere."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from evm_deploy.errors import MissingToolError
from evm_deploy.profiling.devices.library import find_library
from evm_deploy.scan import native


def test_a_library_of_another_interface_is_refused(other_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.LIBRARY_VARIABLE, str(other_library))
    for use in (native.find_usable_library, native.isa, lambda: native.set_isa("baseline")):
        with pytest.raises(MissingToolError, match=r"libevm_ops.so is not the operator library of this") as caught:
            use()
        assert native.LIBRARY_VARIABLE in caught.value.fix


def test_it_is_sent_to_no_other_machine(other_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"system": "Linux", "machine": platform.machine(), "glibc": "9.9"}
    assert find_library(there, "board").path == native.native_library()
    monkeypatch.setenv(native.LIBRARY_VARIABLE, str(other_library))
    with pytest.raises(MissingToolError, match=r"libevm_ops.so is not the operator library of this"):
        find_library(there, "board")
