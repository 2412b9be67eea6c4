"""Whether a package, a folder or an archive, is what was written: every byte, every model, and who signed it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evm_deploy.bundle import MANIFEST, Bundle
from evm_deploy.errors import CheckFailed
from evm_deploy.files import find_file, sha256_file
from evm_deploy.folders import files_below
from evm_deploy.packaging import archive, sign
from evm_deploy.packaging.contents import INDEX, SIGNATURE, Named
from evm_deploy.packaging.index import Index, read_index

if TYPE_CHECKING:
    from evm_deploy.verification.parity import ParityReport

_FIX = "get the package again, or package the bundles again."


@dataclass(frozen=True)
class Verified:
    """A package all of whose bytes are those that its index lists."""

    path: Path  # as it was named
    platform: str
    name: str
    models: tuple[str, ...]
    files: int
    bytes: int
    signature: Literal["none", "not checked", "valid"]
    trusted_comment: str | None = None  # of the signature that was checked


@dataclass(frozen=True)
class PackageReport:
    """A package whose bytes are right, and what running its bundles showed."""

    package: Verified
    reports: dict[str, ParityReport]  # by the model's name

    @property
    def passed(self) -> bool:
        """Whether every bundle meets its golden pair."""
        return all(report.passed for report in self.reports.values())


def is_package(path: Path) -> bool:
    """Whether `verify` takes this: a folder with an index, or a file (an archive) rather than a bundle's folder."""
    return path.is_file() or ((path / INDEX).is_file() and not (path / MANIFEST).is_file())


def verify(path: Path, public_key: str | None = None) -> Verified:
    """Checks the package at `path`, with `public_key` (minisign's, a file or its base64) its signature as well.

    Raises BundleError: no package, or one that cannot be read; CheckFailed: changed, missing or additional files, no
    signature or a wrong one; InputError: the key.
    """
    with opened(path, public_key) as (verified, _):
        return verified


@contextlib.contextmanager
def opened(path: Path, public_key: str | None = None) -> Iterator[tuple[Verified, list[Named]]]:
    """What `verify` says, and the models, which are there for the length of the block. Raises what `verify` raises."""
    key = sign.read_public_key(public_key) if public_key is not None else None
    with contextlib.ExitStack() as stack:
        folder = path
        if path.is_file():
            folder = archive.unpack(path, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evm-package-"))))
        index = read_index(folder, path)
        comment = _check_signature(folder, key)
        _check_files(folder, index, path)
        models = [Named(name, Bundle.open(folder / model.folder)) for name, model in sorted(index.models.items())]
        signed = (folder / SIGNATURE).is_file()
        yield (
            Verified(
                path=path,
                platform=index.platform,
                name=index.name,
                models=tuple(item.name for item in models),
                files=len(index.files),
                bytes=sum(record.bytes for record in index.files.values()),
                signature="valid" if key else "not checked" if signed else "none",
                trusted_comment=comment,
            ),
            models,
        )


def _check_signature(folder: Path, key: sign.PublicKey | None) -> str | None:
    if key is None:
        return None
    if not (folder / SIGNATURE).is_file():
        raise CheckFailed("the package is not signed.", "ask who made it for a signed one, or leave --public-key out.")
    return sign.check_file(folder / INDEX, folder / SIGNATURE, key)


def _check_files(folder: Path, index: Index, path: Path) -> None:
    """Raises CheckFailed for the first file that is not as the index says, or is not in it."""
    for name, record in index.files.items():
        file = find_file(folder, name, lambda cause: CheckFailed(cause, _FIX), shown=path)
        if file.stat().st_size != record.bytes or sha256_file(file) != record.sha256:
            raise CheckFailed(f"{name} in {path} is not the file that was packaged (its sha256 differs).", _FIX)
    known = index.files.keys() | {INDEX, SIGNATURE}
    found = {file.relative_to(folder).as_posix() for file in files_below(folder) if file.name != ".DS_Store"}
    links = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_symlink()}
    if others := sorted((found | links) - known):
        raise CheckFailed(
            f"{path} holds {others[0]}, which is not part of the package.", "remove it, or build elsewhere."
        )
