"""From bundles to a package: a folder that says of itself what is in it, and an archive and signatures where wanted."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from evm_deploy.bundle import MANIFEST, Bundle
from evm_deploy.errors import InputError, OptionError
from evm_deploy.files import sha256_file
from evm_deploy.folders import Kind, check_free, check_outside, files_below, write_folder
from evm_deploy.packaging import archive, sign
from evm_deploy.packaging.contents import INDEX, RESERVED, SIGNATURE, Contents, Named, Say
from evm_deploy.packaging.index import FileRecord, Index, ModelRecord, read_index
from evm_deploy.packaging.licences import write_licences
from evm_deploy.packaging.package_options import PLATFORMS, PackageOptions
from evm_deploy.packaging.readme import readme
from evm_deploy.targets import targets_for

LONGEST_NAME = 40


@dataclass(frozen=True)
class Package:
    """A package that was written."""

    path: Path
    index: Index
    bytes: int  # of all files
    archive: Path | None = None
    archive_sha256: str | None = None
    signatures: tuple[Path, ...] = ()


class _Platform(Protocol):
    def write(self, bundles: Sequence[Named], folder: Path, options: PackageOptions, say: Say) -> Contents: ...


def package(
    bundles: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: PackageOptions,
    say: Say,
) -> Package:
    """Writes the package `out` of the bundles, and OUT.zip beside it where wanted; nothing is left when anything fails.

    Raises BundleError, OptionError (a bundle that the platform does not take), OutputError, MissingToolError,
    InputError (the key).
    """
    say("reading the bundles")
    key = sign.read_secret_key(options.sign) if options.sign is not None else None
    named = _named([_taken(Path(path), options.platform) for path in bundles])
    target = Path(os.path.realpath(out))
    check_outside(target, [item.bundle.path for item in named])
    check_free(target, KIND, options.overwrite)
    zipped = target.with_name(target.name + ".zip") if options.archive else None
    signature = zipped.with_name(zipped.name + ".minisig") if zipped and key else None
    beside = [path for path in (zipped, signature) if path]
    with (
        archive.write_files(beside, options.overwrite) as drafts,
        write_folder(target, KIND, options.overwrite) as folder,
    ):
        say(f"writing the package for {options.platform}")
        platform = cast(_Platform, importlib.import_module(PLATFORMS[options.platform].module))
        index = _finish(folder, named, platform.write(named, folder, options, say), options)
        if key:
            sign.sign_file(folder / INDEX, folder / SIGNATURE, key, INDEX)
        if zipped:
            say("writing the archive")
            archive.write(folder, drafts[0], options.name)
            if key:  # of the archive as well, for those who check it before they unpack it
                sign.sign_file(drafts[0], drafts[1], key, zipped.name)
        size = sum(file.stat().st_size for file in files_below(folder))
        digest = sha256_file(drafts[0]) if zipped else None
    signatures = ((target / SIGNATURE,) if key else ()) + ((signature,) if signature else ())
    return Package(Path(out), index, size, zipped, digest, signatures)


def _taken(path: Path, platform: str) -> Bundle:
    bundle = Bundle.open(path)
    takes = targets_for(platform)
    if bundle.manifest.target not in takes:
        what = f"{path} is a bundle for {bundle.manifest.target}"
        raise OptionError(f"{what}; {platform} takes {' or '.join(takes)}.", f"export it with --target {takes[0]}.")
    return bundle


def _named(bundles: Sequence[Bundle]) -> list[Named]:
    """The bundles with their names in the package. Raises InputError: none, or one twice."""
    if not bundles:
        raise InputError("there is no bundle to package.", "name at least one folder that `evm-deploy export` wrote.")
    named: list[Named] = []
    for bundle in bundles:
        real = bundle.path.resolve()
        if any(other.bundle.path.resolve() == real for other in named):
            raise InputError(f"{bundle.path} is named twice.", "name every bundle once.")
        named.append(Named(_unique(_identifier(real.name), {other.name.lower() for other in named}), bundle))
    return named


def _identifier(text: str) -> str:
    """The letters and digits of `text`, all else underscores, a letter first."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return (name if name[:1].isalpha() else f"model_{name}".strip("_"))[:LONGEST_NAME].rstrip("_")


def _unique(name: str, taken: set[str]) -> str:
    """`name`, or the first of name_2, name_3, ... that is not taken, whatever the case."""
    numbered = (f"{name[: LONGEST_NAME - len(end)]}{end}" for end in (f"_{count}" for count in range(2, 100_000)))
    return name if name.lower() not in taken else next(other for other in numbered if other.lower() not in taken)


def _finish(folder: Path, named: Sequence[Named], contents: Contents, options: PackageOptions) -> Index:
    """Writes what every package has, and last its index."""
    written = {entry.name for entry in folder.iterdir()} & set(RESERVED)
    if written or contents.models.keys() != {item.name for item in named}:
        raise RuntimeError(f"the platform {options.platform} wrote {sorted(written)}, or left out a model")
    licences = write_licences(folder, contents.licences)
    models = {item.name: _record(item.bundle, contents.models[item.name]) for item in named}
    text = readme(options, contents.readme, models, _hashes(folder), contents.notes)
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")
    tools = {"evm-deploy": importlib.metadata.version("evm-deploy"), **contents.tools}
    index = Index(options.platform, options.name, models, _hashes(folder), tools, licences, contents.notes)
    (folder / INDEX).write_text(index.to_json(), encoding="utf-8", newline="\n")
    _set_modes(folder)
    return index


def _record(bundle: Bundle, place: str) -> ModelRecord:
    manifest = bundle.manifest
    return ModelRecord(place, manifest.target, manifest.precision, sha256_file(bundle.path / MANIFEST), bundle.size)


def _set_modes(folder: Path) -> None:
    """Scripts, which begin with `#!`, become executable; the rest is not."""
    for file in files_below(folder):
        with file.open("rb") as opened:
            file.chmod(0o755 if opened.read(2) == b"#!" else 0o644)


def _hashes(folder: Path) -> dict[str, FileRecord]:
    files = sorted((file.relative_to(folder).as_posix(), file) for file in files_below(folder))
    return {name: FileRecord(sha256_file(file), file.stat().st_size) for name, file in files}


def _listed(root: Path) -> set[str]:
    """The names of all files of the package at `root`."""
    return read_index(root, root).files.keys() | {INDEX, SIGNATURE}


KIND = Kind("package", INDEX, _listed)
