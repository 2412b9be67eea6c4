"""A bundle as the agent reads it: the hash of every file, the golden pair, and what a runtime made of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

MANIFEST = "manifest.json"
MANIFEST_BYTES, SAMPLE_BYTES = 1 << 20, 1 << 29


class Refused(Exception):
    """Why a contender is not measured, in one line."""


class Checked:
    """A bundle whose files are those of its manifest."""

    def __init__(self, folder: Path, manifest: dict[str, Any], digest: str) -> None:
        self.folder, self.manifest, self.sha256 = folder, manifest, digest

    @property
    def model(self) -> Path:
        """The model's file, or folder."""
        return self.folder / str(self.manifest["model_file"])

    @property
    def size(self) -> int:
        """Bytes of the model."""
        model = self.manifest["model_file"]
        names = [name for name in self.manifest["files"] if name == model or name.startswith(model + "/")]
        return sum((self.folder / name).stat().st_size for name in names)

    def golden(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """The input of the golden pair, and the outputs that it must give. Raises Refused."""
        count = len(self.manifest["outputs"])
        names = ["output.npy"] if count == 1 else [f"output{index}.npy" for index in range(count)]
        return self._array("input.npy"), [self._array(name) for name in names]

    def _array(self, name: str) -> np.ndarray:
        if "sample/" + name not in self.manifest["files"]:
            raise Refused(f"the bundle has no sample/{name}")
        path = _plain(self.folder, "sample/" + name)
        try:
            if path.stat().st_size > SAMPLE_BYTES:
                raise ValueError("too large")
            # a mapping allocates nothing on the word of a header that promises more than the file has
            return np.array(np.lib.format.open_memmap(str(path), mode="r"))
        except (ValueError, OSError) as error:
            raise Refused(f"sample/{name} is not a plain array ({error})") from None


def check(folder: Path, expected: str | None) -> Checked:
    """Reads the bundle and compares every file's hash. expected: the sha256 of its manifest. Raises Refused."""
    path = _plain(folder, MANIFEST)
    if path.stat().st_size > MANIFEST_BYTES:
        raise Refused("manifest.json is too large")
    text = path.read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    if expected is not None and digest != expected:
        raise Refused("manifest.json is not the one that was to be measured (its sha256 differs)")
    try:
        manifest = json.loads(text.decode("utf-8"))
        files = {str(name): str(value) for name, value in manifest["files"].items()}
        needed = [manifest[key] for key in ("target", "precision", "model_file")] + [len(manifest["outputs"])]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Refused("manifest.json is not a manifest") from None
    if not all(isinstance(text, str) for text in needed[:3]):
        raise Refused("manifest.json is not a manifest")
    for name, value in files.items():
        if sha256(_plain(folder, name)) != value:
            raise Refused(f"{name} is not the file that was exported (its sha256 differs)")
    checked = Checked(folder, manifest, digest)
    if not checked.size:
        raise Refused("the manifest does not list the model")
    return checked


def relative_error(found: list[np.ndarray], expected: list[np.ndarray]) -> float | None:
    """The largest difference as a share of the largest |expected|, at least of 1, the worst of all outputs.

    None where a value is not finite, or the shapes are others.
    """
    worst = 0.0
    if len(found) != len(expected):
        return None
    for index, right in enumerate(expected):
        mine = np.asarray(found[index])
        if mine.shape != right.shape or not (np.isfinite(mine).all() and np.isfinite(right).all()):
            return None
        difference = np.abs(mine.astype(np.float64) - right.astype(np.float64)).max(initial=0.0)
        worst = max(worst, float(difference / max(float(np.abs(right).max(initial=0)), 1.0)))
    return worst


def sha256(path: Path) -> str:
    """Of the file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return digest.hexdigest()
            digest.update(block)


def _plain(root: Path, name: str) -> Path:
    """The regular file `name`, reached through no link and no way out of the folder."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\\" in part or ":" in part for part in parts):
        raise Refused(f"{name!r} leaves the bundle's folder")
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise Refused(f"{name} is a link")
    if not path.is_file():
        raise Refused(f"{name} is missing")
    return path
