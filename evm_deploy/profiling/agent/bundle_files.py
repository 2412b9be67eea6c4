"""Reads a bundle for the agent: checks the hash of every file, and compares outputs with the golden pair."""

from __future__ import annotations

import hashlib
import json
import tokenize
from pathlib import Path
from typing import Any

import numpy as np

MANIFEST = "manifest.json"
MANIFEST_BYTES, SAMPLE_BYTES = 1 << 20, 1 << 29


class Unmeasurable(Exception):
    """A contender cannot be measured. The message is one line."""


class CheckedBundle:
    """A bundle whose files match its manifest."""

    def __init__(self, folder: Path, manifest: dict[str, Any], digest: str) -> None:
        self.folder, self.manifest, self.sha256 = folder, manifest, digest

    @property
    def model(self) -> Path:
        """The file or folder of the model."""
        return self.folder / str(self.manifest["model_file"])

    @property
    def size(self) -> int:
        """Size of the model in bytes."""
        model = self.manifest["model_file"]
        names = [name for name in self.manifest["files"] if name == model or name.startswith(model + "/")]
        return sum((self.folder / name).stat().st_size for name in names)

    def read_golden(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Reads the input of the golden pair and its expected outputs. Raises Unmeasurable."""
        count = len(self.manifest["outputs"])
        names = ["output.npy"] if count == 1 else [f"output{index}.npy" for index in range(count)]
        return self._read_array("input.npy"), [self._read_array(name) for name in names]

    def _read_array(self, name: str) -> np.ndarray:
        if "sample/" + name not in self.manifest["files"]:
            raise Unmeasurable(f"the bundle has no sample/{name}")
        path = _find_file(self.folder, "sample/" + name)
        try:
            if path.stat().st_size > SAMPLE_BYTES:
                raise ValueError("too large")
            # mmap allocates nothing, even if the header claims more data than the file has
            return np.array(np.lib.format.open_memmap(str(path), mode="r"))
        except (ValueError, OSError, SyntaxError, tokenize.TokenError) as error:  # the last two: of the header
            raise Unmeasurable(f"sample/{name} is not a plain array ({error})") from None


def check_bundle(folder: Path, expected: str | None) -> CheckedBundle:
    """Reads the bundle and compares every hash. expected: the sha256 of its manifest. Raises Unmeasurable."""
    path = _find_file(folder, MANIFEST)
    if path.stat().st_size > MANIFEST_BYTES:
        raise Unmeasurable("manifest.json is too large")
    text = path.read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    if expected is not None and digest != expected:
        raise Unmeasurable("manifest.json is not that of the requested bundle (its sha256 differs)")
    try:
        manifest = json.loads(text.decode("utf-8"))
        files = {str(name): str(value) for name, value in manifest["files"].items()}
        needed = [manifest[key] for key in ("target", "precision", "model_file")] + [len(manifest["outputs"])]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Unmeasurable("manifest.json is not a manifest") from None
    if not all(isinstance(text, str) for text in needed[:3]):
        raise Unmeasurable("manifest.json is not a manifest")
    for name, value in files.items():
        if hash_file(_find_file(folder, name)) != value:
            raise Unmeasurable(f"{name} is not the file that was exported (its sha256 differs)")
    checked = CheckedBundle(folder, manifest, digest)
    if not checked.size:
        raise Unmeasurable("the manifest does not list the model")
    return checked


def compute_relative_error(found: list[np.ndarray], expected: list[np.ndarray]) -> float | None:
    """The largest difference divided by the largest |expected| (at least 1), for the worst of all outputs.

    None: a value is not finite, or a shape differs.
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


def hash_file(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return digest.hexdigest()
            digest.update(block)


def _find_file(root: Path, name: str) -> Path:
    """Finds the regular file `name`. Its path must contain no link and must not leave the folder."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\\" in part or ":" in part for part in parts):
        raise Unmeasurable(f"{name!r} leaves the bundle's folder")
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise Unmeasurable(f"{name} is a link")
    if not path.is_file():
        raise Unmeasurable(f"{name} is missing")
    return path
