"""Finds the files of an `.mlpackage` that its manifest names, and nothing outside its folder."""

from pathlib import Path
from typing import Any

from evm_deploy.errors import BundleError
from evm_deploy.files import check_relative, find_file, read_file
from evm_deploy.jsontext import read_object
from evm_deploy.runtimes.mil.problems import make_package_error, quote

MANIFEST, DATA = "Manifest.json", "Data"
MANIFEST_BYTES = 1 << 20
MODEL_BYTES = 1 << 25  # a network of 2,000 operations takes one megabyte


def find_model_file(package: Path) -> Path:
    """Finds the program's file in the package, of at most MODEL_BYTES.

    Raises BundleError: not a package, or its manifest names a file that is missing, outside, or too large.
    """
    if not (package / MANIFEST).is_file():
        raise BundleError(f"{package} is not an .mlpackage: it has no {MANIFEST}.", "export the model again.")
    manifest = _read_manifest(find_inside(package, MANIFEST))
    root = manifest.get("rootModelIdentifier")
    items = manifest.get("itemInfoEntries")
    item = items.get(root) if isinstance(items, dict) and isinstance(root, str) else None
    path = item.get("path") if isinstance(item, dict) else None
    if not isinstance(path, str):
        raise make_package_error(f"{MANIFEST} in {package} names no model")
    return find_inside(package, f"{DATA}/{path}", MODEL_BYTES)


def find_inside(folder: Path, name: str, limit: int | None = None) -> Path:
    """Finds the regular file `name` in `folder`, of at most `limit` bytes; its path must contain no link.

    Raises BundleError: there is none.
    """
    try:
        check_relative(name)
    except ValueError:
        raise make_package_error(f"{quote(name)} leaves the package or is not a portable path") from None
    return find_file(folder, name, _make_error, limit)


def _make_error(cause: str) -> BundleError:
    return BundleError(cause, "copy the whole bundle, or export it again.")


def _read_manifest(path: Path) -> dict[str, Any]:
    content = read_file(path, MANIFEST_BYTES, _make_error)
    return read_object(content, str(path), BundleError, "export the model again.")
