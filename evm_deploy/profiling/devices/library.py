"""Decides whether our operator library can run on another machine."""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evm_deploy.scan import native

_ELF = {62: "x86_64", 183: "aarch64"}  # e_machine in the ELF header of our libraries for Linux


@dataclass(frozen=True)
class OperatorLibrary:
    """The file to send; or None, and a note that says why only the portable form is measured."""

    path: Path | None
    notes: tuple[str, ...] = ()


def find_library(facts: dict[str, Any], host: str) -> OperatorLibrary:
    """Finds a library for the machine with these facts: EVM_DEPLOY_NATIVE_LIBRARY if set, or the one built here.

    Raises MissingToolError where it is of another version.
    """
    if not native.available():
        return _use_portable(f"there is no operator library here to send to {host}")
    path = native.native_library()
    data = path.read_bytes()
    there = (facts.get("system"), facts.get("machine"))
    if there[0] != "Linux" or _find_machine(data) != there[1]:
        where = " ".join(map(str, there))
        fix = f"{native.LIBRARY_VARIABLE} can name one, for example from a package for jetson or linux"
        return _use_portable(f"the operator library here is not for {host} ({where[:60]}); {fix}")
    if native.INTERFACE.encode() + b"\0" not in data:  # one for another processor cannot be loaded and asked
        raise native.make_interface_error(path)
    needed, has = _find_glibc(data), _parse_version(str(facts.get("glibc") or "0.0"))
    if needed > has:
        wanted = ".".join(map(str, needed))
        return _use_portable(f"the operator library here needs glibc {wanted}, which is newer than that of {host}")
    return OperatorLibrary(path)


def _use_portable(why: str) -> OperatorLibrary:
    return OperatorLibrary(None, (f"{why}, so the portable form was measured.",))


def _find_machine(data: bytes) -> str | None:
    return _ELF.get(struct.unpack_from("<H", data, 18)[0]) if data[:4] == b"\x7fELF" and len(data) > 20 else None


def _find_glibc(data: bytes) -> tuple[int, ...]:
    """The newest version of glibc that the library requires."""
    return max((_parse_version(found.decode()) for found in re.findall(rb"GLIBC_(\d+\.\d+)", data)), default=(0, 0))


def _parse_version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
