"""`config.json`, which tells the page what it is for."""

import hashlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evm_deploy.bundle import MANIFEST, Bundle
from evm_deploy.errors import OptionError
from evm_deploy.targets import target_of
from evm_deploy.tolerances import allowed
from evm_deploy.web.runtime import VERSION


@dataclass(frozen=True)
class Model:
    """A bundle on the page."""

    name: str  # as it is shown; unique
    folder: str  # where its files are, relative to the page, with a slash at the end
    bundle: Bundle

    def names(self) -> tuple[str, ...]:
        """The bundle's files, the manifest first."""
        return (MANIFEST, *sorted(self.bundle.manifest.files))

    def entry(self) -> dict[str, Any]:
        """What the page knows of it before it has fetched it. Raises BundleError: an unknown precision."""
        text = (self.bundle.path / MANIFEST).read_bytes()
        return {
            "name": self.name,
            "folder": self.folder,
            "sha256": hashlib.sha256(text).hexdigest(),
            "bytes": sum((self.bundle.path / name).stat().st_size for name in self.names()),
            "tolerance": allowed(self.bundle.manifest),
        }


@dataclass(frozen=True)
class Method:
    """How the page measures: `ProfileOptions`, as far as a browser can follow them."""

    iterations: int | None = 50
    seconds: float | None = None
    warm_up: int = 5


def config(
    mode: Literal["profile", "package"],
    title: str,
    models: Sequence[Model],
    method: Method,
    *,
    threads: int = 0,
    provider: str = "all",
) -> dict[str, Any]:
    """Plain values. threads: of WASM, 0 for one and as many as there are cores. provider: all, or webgpu alone.

    Raises OptionError: a bundle that onnxruntime-web cannot read.
    """
    for model in models:
        check(model)
    return {
        "mode": mode,
        "title": title,
        "tool": importlib.metadata.version("evm-deploy"),
        "runtime": VERSION,
        "models": [model.entry() for model in models],
        "method": {"iterations": method.iterations, "seconds": method.seconds, "warm_up": method.warm_up},
        "threads": threads,
        "provider": provider,
    }


def check(model: Model) -> None:
    """Raises OptionError unless a browser can run the bundle."""
    manifest = model.bundle.manifest
    if not target_of(manifest.target).is_portable:
        fix = "export it with --target onnx."
        raise OptionError(f"{model.bundle.path} is a {manifest.target} bundle: browsers run onnx ones.", fix)
