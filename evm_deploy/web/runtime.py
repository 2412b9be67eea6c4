"""onnxruntime-web, in one exact version: fetched once with npm or taken from a folder, and checked by its hashes."""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from evm_deploy import caches
from evm_deploy.caches import find_cache_folder
from evm_deploy.errors import InputError, MissingToolError, OutputError
from evm_deploy.files import read_file, sha256_file
from evm_deploy.folders import FolderKind, write_folder

VARIABLE = "EVM_DEPLOY_ORT_WEB"
VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # sha512
LARGEST = 64 << 20  # largest size of the package, and of each file in it, in bytes
PATIENCE = 600  # seconds for npm: the package has 33 megabytes

FILES = {  # file in the package's dist/: sha256; the first three run on the CPU, the others on GPUs
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    "ort.webgpu.min.mjs": "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0",
    "ort-wasm-simd-threaded.asyncify.mjs": "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
GPU_FILES = tuple(name for name in FILES if "webgpu" in name or "asyncify" in name)

Say = Callable[[str], None]


def fetch_files(say: Say = lambda stage: None) -> dict[str, Path]:
    """The files that the page needs, by name, checked by hash.

    They come from the folder or packed file that EVM_DEPLOY_ORT_WEB names, or from the user's cache folder, or from
    `npm pack`. Raises InputError: the variable names something else than this version; MissingToolError: npm is not
    installed, or cannot fetch the package.
    """
    given = os.environ.get(VARIABLE)
    if given:
        return _find_given(Path(given).expanduser())
    kept = find_cache_folder() / f"onnxruntime-web-{VERSION}"
    if not _is_complete(kept):
        say(f"fetching {PACKAGE}")
        _store(_unpack(_fetch_package()), kept)
    return {name: kept / name for name in FILES}


def _find_given(place: Path) -> dict[str, Path]:
    if place.is_file():  # unpacked into the cache, as a fetched one
        kept = find_cache_folder() / f"onnxruntime-web-{VERSION}"
        if not _is_complete(kept):
            _store(_unpack(_check_hash(place, InputError)), kept)
        return {name: kept / name for name in FILES}
    for folder in (place, place / "dist", place / "node_modules" / "onnxruntime-web" / "dist"):
        if _is_complete(folder):
            return {name: folder / name for name in FILES}
    what = f"{VARIABLE} is {place}, which does not hold {PACKAGE}"
    raise InputError(f"{what}.", f"name its dist folder, or the file that `npm pack {PACKAGE}` writes.")


def _is_complete(folder: Path) -> bool:
    try:
        return all(sha256_file(folder / name) == digest for name, digest in FILES.items())
    except OSError:
        return False


def _fetch_package() -> bytes:
    """Fetches the package with npm."""
    npm = shutil.which("npm")
    fix = f"install Node.js, or set {VARIABLE} to a folder with the dist files of {PACKAGE}."
    if npm is None:
        raise MissingToolError(
            f"{PACKAGE} is not installed, and npm, which would fetch it, is not installed either.", fix
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--loglevel=error", "--ignore-scripts", "--pack-destination", folder, PACKAGE]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
            said = " ".join(done.stderr.split())[:200]
            reason = (said or f"it ended with {done.returncode}") if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
        made = sorted(Path(folder).glob("*.tgz"))
        if reason or len(made) != 1:
            fix = f"connect to the network, or set {VARIABLE} to a folder with the dist files of {PACKAGE}."
            raise MissingToolError(f"npm cannot fetch {PACKAGE} ({reason or 'it wrote nothing'}).", fix)
        return _check_hash(made[0], MissingToolError)


def _check_hash(path: Path, error: type[InputError] | type[MissingToolError]) -> bytes:
    """The bytes of the package. Raises `error`: it is another."""
    fix = f"fetch it again: npm pack {PACKAGE}"
    data = read_file(path, LARGEST, lambda cause: error(cause, fix))
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != INTEGRITY:
        raise error(f"the package is not {PACKAGE} (its sha512 differs).", fix)
    return data


def _unpack(data: bytes) -> dict[str, bytes]:
    """The needed files, by name. No path from the archive is used on the disk."""
    found = {}
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:gz") as archive:
            for name in FILES:
                member = archive.extractfile(f"package/dist/{name}")
                found[name] = member.read(LARGEST) if member else b""
    return found


def _store(found: dict[str, bytes], folder: Path) -> None:
    """Stores the files in the cache, all or none. Raises MissingToolError: the cache cannot be written."""
    kind = FolderKind("cache", next(iter(FILES)), lambda folder: FILES)
    try:
        with write_folder(folder, kind, overwrite=True) as draft:  # what is there is incomplete, or damaged
            for name, data in found.items():
                (draft / name).write_bytes(data)
    except OutputError as error:
        if not _is_complete(folder):  # otherwise another process stored them first
            fix = f"free some space, or set {caches.VARIABLE} to a folder that can be written."
            raise MissingToolError(error.cause, fix) from error
