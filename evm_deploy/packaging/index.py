"""The schema of `evm-package.json`, the index of a package, and its strict reader."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from evm_deploy.errors import BundleError
from evm_deploy.files import check_relative, find_file, read_file
from evm_deploy.jsontext import check_version, dumps, read_dataclass, read_object
from evm_deploy.packaging.contents import INDEX, SIGNATURE

SCHEMA_VERSION = 1
LARGEST = 16 << 20  # largest index that is read, in bytes

_STRICT = {"extra": "forbid", "strict": True}  # pydantic reads this attribute of a stdlib dataclass
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIX = "package the bundles again."


@dataclass(frozen=True)
class FileRecord:
    """A file of the package."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256) or self.bytes < 0:
            raise ValueError("sha256 is not 64 hexadecimal digits, or bytes is negative")


@dataclass(frozen=True)
class ModelRecord:
    """A bundle in the package."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    folder: str  # relative to the package
    target: str
    precision: str
    manifest_sha256: str  # of its manifest.json, which has the hash of every file
    bytes: int  # size of the model

    def __post_init__(self) -> None:
        check_relative(self.folder)


@dataclass(frozen=True)
class Index:
    """The index of a package. Equal packages have equal indexes."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    platform: str
    name: str
    models: dict[str, ModelRecord]
    files: dict[str, FileRecord]  # by relative name: all files except the index and its signature
    tools: dict[str, str] = field(default_factory=dict)  # name: version
    licences: tuple[str, ...] = ()  # SPDX identifiers
    notes: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name in self.files:
            check_relative(name)
            if name in (INDEX, SIGNATURE):
                raise ValueError(f"{name} cannot hold its own hash")
        for name, model in self.models.items():
            manifest = self.files.get(f"{model.folder}/manifest.json")
            if manifest is None or manifest.sha256 != model.manifest_sha256:
                raise ValueError(f"the manifest of {name!r} is not among the files, or its hash differs")

    def to_json(self) -> str:
        """The text of `evm-package.json`."""
        return dumps(self)

    @classmethod
    def from_json(cls, text: bytes) -> Index:
        """Reads untrusted text. Raises BundleError: not JSON, or an unknown schema version, key, type or value."""
        found = read_object(text, INDEX, BundleError, _FIX)
        check_version(found.get("schema_version"), SCHEMA_VERSION, INDEX, BundleError)
        return read_dataclass(Index, text, INDEX, BundleError, _FIX)


def read_index(folder: Path, shown: Path) -> Index:
    """The index of the package in `folder`, which is called `shown` in errors. Raises BundleError: there is none."""
    if not (folder / INDEX).exists():
        raise BundleError(f"{shown} is no package: it has no {INDEX}.", "name what `evm-deploy package` wrote.")
    return Index.from_json(read_file(find_file(folder, INDEX, _make_error, shown=shown), LARGEST, _make_error))


def _make_error(cause: str) -> BundleError:
    return BundleError(cause, _FIX)
