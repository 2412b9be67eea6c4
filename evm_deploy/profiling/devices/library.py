"""Whether our operator library, built for this machine or for the one that is named, runs on another machine."""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evm_deploy.errors import MissingToolError
from evm_deploy.scan import native

_ELF = {62: "x86_64", 183: "aarch64"}  # e_machine of the files that we build for Linux


@dataclass(frozen=True)
class Library:
    """The file to send, or None and why the portable form is measured alone."""

    path: Path | None
    notes: tuple[str, ...] = ()


def usable(facts: dict[str, Any], host: str) -> Library:
    """For the machine that told these facts: EVM_DEPLOY_NATIVE_LIBRARY where it is set, or what was built here."""
    try:
        path = native.native_library()
    except MissingToolError:
        return _portable(f"there is no operator library here that {host} could be sent")
    data = path.read_bytes()
    there = (facts.get("system"), facts.get("machine"))
    if there[0] != "Linux" or _machine(data) != there[1]:
        where = " ".join(map(str, there))
        fix = f"{native.LIBRARY_VARIABLE} may name one, such as a package for jetson or linux has"
        return _portable(f"the operator library here is not for {host} ({where[:60]}); {fix}")
    needed, has = _glibc(data), _version(str(facts.get("glibc") or "0.0"))
    if needed > has:
        wanted = ".".join(map(str, needed))
        return _portable(f"the operator library here needs glibc {wanted}, newer than that of {host}")
    return Library(path)


def _portable(why: str) -> Library:
    return Library(None, (f"{why}: the portable form was measured.",))


def _machine(data: bytes) -> str | None:
    return _ELF.get(struct.unpack_from("<H", data, 18)[0]) if data[:4] == b"\x7fELF" and len(data) > 20 else None


def _glibc(data: bytes) -> tuple[int, ...]:
    """The newest version of its symbols that the library asks for."""
    return max((_version(found.decode()) for found in re.findall(rb"GLIBC_(\d+\.\d+)", data)), default=(0, 0))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
