"""The files of an `.mlpackage`: what its manifest names, and nothing outside its folder."""

import json
from pathlib import Path
from typing import Any

from evm_deploy.errors import BundleError
from evm_deploy.manifest import check_relative
from evm_deploy.runtimes.mil.problems import damaged, shown

MANIFEST, DATA = "Manifest.json", "Data"
MANIFEST_BYTES = 1 << 20
MODEL_BYTES = 1 << 25  # the whole of a network of 2,000 operations takes one megabyte


def model_file(package: Path) -> Path:
    """The program's file in the package, which has at most MODEL_BYTES.

    Raises BundleError: not a package, or one whose manifest leads nowhere, elsewhere or to a larger file.
    """
    if not (package / MANIFEST).is_file():
        raise BundleError(f"{package} is not an .mlpackage: it has no {MANIFEST}.", "export the model again.")
    manifest = _manifest(inside(package, MANIFEST))
    root = manifest.get("rootModelIdentifier")
    items = manifest.get("itemInfoEntries")
    item = items.get(root) if isinstance(items, dict) and isinstance(root, str) else None
    path = item.get("path") if isinstance(item, dict) else None
    if not isinstance(path, str):
        raise damaged(f"{MANIFEST} in {package} names no model")
    file = inside(package, f"{DATA}/{path}")
    if file.stat().st_size > MODEL_BYTES:
        raise damaged(f"{file} has more than {MODEL_BYTES} bytes")
    return file


def inside(folder: Path, name: str) -> Path:
    """The regular file `name` of `folder`, reached through no link. Raises BundleError where there is none."""
    try:
        check_relative(name)
    except ValueError:
        raise damaged(f"{shown(name)} leaves the package or is not a portable path") from None
    path = folder
    for part in name.split("/"):
        path = path / part
        if path.is_symlink():
            raise damaged(f"{shown(name)} in {folder} is a link, which may leave the package")
    if not path.is_file():
        raise BundleError(f"{shown(name)} is missing from {folder}.", "copy the whole bundle, or export it again.")
    return path


def _manifest(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MANIFEST_BYTES:
        raise damaged(f"{path} has more than {MANIFEST_BYTES} bytes")
    try:
        manifest = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise damaged(f"{path} is not a JSON object")
    return manifest
