"""Checks that a package (folder or archive) is as it was written: every byte, every model, and the signature."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evm_deploy.bundle import MANIFEST, Bundle
from evm_deploy.errors import CheckFailed, OptionError
from evm_deploy.files import find_file, sha256_file
from evm_deploy.folders import list_files, read_whole, restore_folder
from evm_deploy.packaging import archive, sign
from evm_deploy.packaging.contents import INDEX, SIGNATURE, NamedBundle
from evm_deploy.packaging.index import Index, read_index
from evm_deploy.packaging.package import KIND

if TYPE_CHECKING:
    from evm_deploy.verification.parity import ParityReport

_FIX = "get the package again, or package the bundles again."


@dataclass(frozen=True)
class VerifiedPackage:
    """A package whose files all match its index."""

    path: Path  # as the user gave it
    platform: str
    name: str
    models: tuple[str, ...]
    files: int
    bytes: int
    signature: Literal["none", "not checked", "valid"]
    trusted_comment: str | None = None  # of the checked signature


@dataclass(frozen=True)
class PackageReport:
    """A package whose files match its index, and the results of running its bundles."""

    package: VerifiedPackage
    reports: dict[str, ParityReport]  # by the model's name

    @property
    def passed(self) -> bool:
        """Whether every bundle reproduces its golden pair."""
        return all(report.passed for report in self.reports.values())


def is_package(path: Path) -> bool:
    """Whether `path` is meant for a package: a folder with an index, or a zip file."""
    if path.name:
        restore_folder(path.with_name(path.name.removesuffix(".zip")), KIND)
    if path.is_file():
        return path.suffix.lower() == ".zip" or archive.has_index(path)
    return (path / INDEX).is_file() and not (path / MANIFEST).is_file()


def verify(path: Path, public_key: str | None = None) -> VerifiedPackage:
    """Checks the package at `path`. public_key: minisign's key, as a file or in base64, to check the signature too.

    Raises BundleError: not a package, or it cannot be read; CheckFailed: changed, missing or additional files, a
    missing or wrong signature; InputError: the key is not valid.
    """
    with open_package(path, public_key) as (verified, _):
        return verified


@contextlib.contextmanager
def open_package(path: Path, public_key: str | None = None) -> Iterator[tuple[VerifiedPackage, list[NamedBundle]]]:
    """Checks a package as `verify` does, and yields the result with its bundles, which exist during the block."""
    key = sign.read_public_key(public_key) if public_key is not None else None
    with contextlib.ExitStack() as stack:
        folder = path
        if path.is_file():
            folder = archive.unpack(path, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evm-package-"))))
        index, comment, models = read_whole(folder, lambda: _check_package(folder, path, key))
        signed = (folder / SIGNATURE).is_file()
        yield (
            VerifiedPackage(
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


@contextlib.contextmanager
def open_only_model(path: Path) -> Iterator[Bundle]:
    """Checks a package as `verify` does, and yields its bundle, which exists during the block.

    Raises OptionError too: it has several.
    """
    with open_package(path) as (_, models):
        if len(models) > 1:
            folder = f"name the folder of one, such as {models[0].bundle.path}"
            fix = "unpack it, and name the folder of one." if path.is_file() else f"{folder}."
            raise OptionError(f"{path} has several models: {', '.join(model.name for model in models)}.", fix)
        yield models[0].bundle


def _check_package(folder: Path, path: Path, key: sign.PublicKey | None) -> tuple[Index, str | None, list[NamedBundle]]:
    """The index, the trusted comment and the bundles of the package in `folder`, all of which are as they should be."""
    index = read_index(folder, path)
    comment = _check_signature(folder, key)
    _check_files(folder, index, path)
    models = [NamedBundle(name, Bundle.open(folder / model.folder)) for name, model in sorted(index.models.items())]
    return index, comment, models


def _check_signature(folder: Path, key: sign.PublicKey | None) -> str | None:
    if key is None:
        return None
    if not (folder / SIGNATURE).is_file():
        raise CheckFailed("the package is not signed.", "ask its maker for a signed one, or leave out --public-key.")
    return sign.check_file(folder / INDEX, folder / SIGNATURE, key)


def _check_files(folder: Path, index: Index, path: Path) -> None:
    """Raises CheckFailed for the first file that differs from the index or is not in it."""
    for name, record in index.files.items():
        file = find_file(folder, name, lambda cause: CheckFailed(cause, _FIX), shown=path)
        if file.stat().st_size != record.bytes or sha256_file(file) != record.sha256:
            raise CheckFailed(f"{name} in {path} is not the file that was packaged (its sha256 differs).", _FIX)
    known = index.files.keys() | {INDEX, SIGNATURE}
    found = {file.relative_to(folder).as_posix() for file in list_files(folder) if file.name != ".DS_Store"}
    links = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_symlink()}
    if others := sorted((found | links) - known):
        raise CheckFailed(
            f"{path} holds {others[0]}, which is not part of the package.", "remove it, or build elsewhere."
        )
