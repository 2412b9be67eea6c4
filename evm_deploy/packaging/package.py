"""Writes bundles as a package: a folder with an index of its content and, on request, an archive and signatures."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast

from evm_deploy.bundle import MANIFEST, Bundle
from evm_deploy.errors import InputError, OptionError
from evm_deploy.files import sha256_file
from evm_deploy.folders import FolderKind, check_outside, list_files, write_folder_and_files
from evm_deploy.manifest import Manifest
from evm_deploy.packaging import archive, sign
from evm_deploy.packaging.contents import INDEX, RESERVED, SIGNATURE, Contents, NamedBundle, Say
from evm_deploy.packaging.index import FileRecord, Index, ModelRecord, read_index
from evm_deploy.packaging.licences import write_licences
from evm_deploy.packaging.package_options import PLATFORMS, PackageOptions
from evm_deploy.packaging.readme import render_readme
from evm_deploy.targets import targets_for

LONGEST_NAME = 40


@dataclass(frozen=True)
class Package:
    """A package that has been written."""

    path: Path
    index: Index
    bytes: int  # total size of its files
    archive: Path | None = None
    archive_sha256: str | None = None
    signatures: tuple[Path, ...] = ()


class _PlatformModule(Protocol):
    def write(self, bundles: Sequence[NamedBundle], folder: Path, options: PackageOptions, say: Say) -> Contents: ...


def package(
    bundles: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: PackageOptions,
    say: Say,
) -> Package:
    """Writes the package `out` of the bundles and, on request, OUT.zip beside it. A failure leaves nothing behind.

    Raises BundleError, OptionError (the platform does not accept a bundle), OutputError, MissingToolError, InputError
    (the key).
    """
    say("reading the bundles")
    key = sign.read_secret_key(options.sign) if options.sign is not None else None
    named = _name_bundles([_open_bundle(Path(path), options.platform) for path in bundles])
    options = replace(options, name=options.name or _name_package(named[0].bundle.manifest))
    target = Path(os.path.realpath(out))
    check_outside(target, [item.bundle.path for item in named])
    zipped = target.with_name(target.name + ".zip") if options.archive else None
    signature = zipped.with_name(zipped.name + ".minisig") if zipped and key else None
    beside = [path.name for path in (zipped, signature) if path]
    with write_folder_and_files(target, KIND, options.overwrite, beside) as (folder, drafts):
        say(f"writing the package for {options.platform}")
        platform = cast(_PlatformModule, importlib.import_module(PLATFORMS[options.platform].module))
        index = _write_common_files(folder, named, platform.write(named, folder, options, say), options)
        if key:
            sign.sign_file(folder / INDEX, folder / SIGNATURE, key, INDEX)
        if zipped:
            say("writing the archive")
            archive.write_archive(folder, drafts[0], options.name)
            if key:  # the archive too, for people who check it before they unpack it
                sign.sign_file(drafts[0], drafts[1], key, zipped.name)
        size = sum(file.stat().st_size for file in list_files(folder))
        digest = sha256_file(drafts[0]) if zipped else None
    signatures = ((target / SIGNATURE,) if key else ()) + ((signature,) if signature else ())
    return Package(Path(out), index, size, zipped, digest, signatures)


def _open_bundle(path: Path, platform: str) -> Bundle:
    bundle = Bundle.open(path)
    takes = targets_for(platform)
    if bundle.manifest.target not in takes:
        what = f"{path} is a bundle for {bundle.manifest.target}"
        raise OptionError(f"{what}; {platform} accepts {' or '.join(takes)}.", f"export it with --target {takes[0]}.")
    return bundle


def _name_bundles(bundles: Sequence[Bundle]) -> list[NamedBundle]:
    """Gives each bundle its name in the package. Raises InputError: no bundle, or one is named twice."""
    if not bundles:
        raise InputError("there is no bundle to package.", "name at least one folder that `evm-deploy export` wrote.")
    named: list[NamedBundle] = []
    for bundle in bundles:
        real = bundle.path.resolve()
        if any(other.bundle.path.resolve() == real for other in named):
            raise InputError(f"{bundle.path} is named twice.", "name every bundle once.")
        named.append(
            NamedBundle(_make_unique(_make_identifier(real.name), {other.name.lower() for other in named}), bundle)
        )
    return named


def _name_package(manifest: Manifest) -> str:
    """Names a package after the family of its model, or the class; manifests of 0.1.0 do not say the family."""
    said = str(manifest.model.get("family") or manifest.model.get("class") or "EfficientVMamba")
    name = re.sub(r"[^A-Za-z0-9]", "", said)[:40]
    return name if name[:1].isalpha() else f"Model{name}"[:40]


def _make_identifier(text: str) -> str:
    """Makes an identifier of `text`: letters and digits, underscores for all else, a letter first."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return (name if name[:1].isalpha() else f"model_{name}".strip("_"))[:LONGEST_NAME].rstrip("_")


def _make_unique(name: str, taken: set[str]) -> str:
    """`name`, or the first of name_2, name_3, ... that is not in `taken` (lower case)."""
    numbered = (f"{name[: LONGEST_NAME - len(end)]}{end}" for end in (f"_{count}" for count in range(2, 100_000)))
    return name if name.lower() not in taken else next(other for other in numbered if other.lower() not in taken)


def _write_common_files(
    folder: Path, named: Sequence[NamedBundle], contents: Contents, options: PackageOptions
) -> Index:
    """Writes the files that every package has, the index last."""
    written = {entry.name for entry in folder.iterdir()} & set(RESERVED)
    if written or contents.models.keys() != {item.name for item in named}:
        raise RuntimeError(f"the platform {options.platform} wrote {sorted(written)}, or left out a model")
    licences = write_licences(folder, contents.licences)
    models = {item.name: _make_record(item.bundle, contents.models[item.name]) for item in named}
    text = render_readme(options, contents.readme, models, _hash_files(folder), contents.notes)
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")
    tools = {"evm-deploy": importlib.metadata.version("evm-deploy"), **contents.tools}
    index = Index(options.platform, options.name, models, _hash_files(folder), tools, licences, contents.notes)
    (folder / INDEX).write_text(index.to_json(), encoding="utf-8", newline="\n")
    _set_modes(folder)
    return index


def _make_record(bundle: Bundle, place: str) -> ModelRecord:
    manifest = bundle.manifest
    return ModelRecord(place, manifest.target, manifest.precision, sha256_file(bundle.path / MANIFEST), bundle.size)


def _set_modes(folder: Path) -> None:
    """Makes scripts (files that begin with `#!`) executable, and all other files not executable."""
    for file in list_files(folder):
        with file.open("rb") as opened:
            file.chmod(0o755 if opened.read(2) == b"#!" else 0o644)


def _hash_files(folder: Path) -> dict[str, FileRecord]:
    files = sorted((file.relative_to(folder).as_posix(), file) for file in list_files(folder))
    return {name: FileRecord(sha256_file(file), file.stat().st_size) for name, file in files}


def _list_files(root: Path) -> set[str]:
    """The names of all files of the package at `root`. Raises BundleError: its index cannot be read."""
    return read_index(root, root).files.keys() | {INDEX, SIGNATURE}


KIND = FolderKind("package", INDEX, _list_files, archive.is_part)
