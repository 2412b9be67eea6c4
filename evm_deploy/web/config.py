"""`config.json`, which tells the page what to show, run and measure."""

import hashlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evm_deploy.bundle import MANIFEST, Bundle
from evm_deploy.errors import OptionError
from evm_deploy.targets import target_of
from evm_deploy.tasks import find_task
from evm_deploy.tolerances import find_tolerance
from evm_deploy.web.runtime import VERSION


@dataclass(frozen=True)
class PageModel:
    """A bundle on the page."""

    name: str  # shown on the page; unique
    folder: str  # the folder with its files, relative to the page, with a slash at the end
    bundle: Bundle

    def list_files(self) -> tuple[str, ...]:
        """The bundle's files, the manifest first."""
        return (MANIFEST, *sorted(self.bundle.manifest.files))

    def describe(self) -> dict[str, Any]:
        """The facts that the page has before it fetches the bundle. Raises BundleError: an unknown precision."""
        manifest = self.bundle.manifest
        text = (self.bundle.path / MANIFEST).read_bytes()
        return {
            "name": self.name,
            "folder": self.folder,
            "sha256": hashlib.sha256(text).hexdigest(),
            "bytes": sum((self.bundle.path / name).stat().st_size for name in self.list_files()),
            "limits": find_task(manifest.task).limit_golden(find_tolerance(manifest))._asdict(),
        }


@dataclass(frozen=True)
class PageMethod:
    """How the page measures: the part of `ProfileOptions` that a browser can follow."""

    iterations: int | None = 50
    seconds: float | None = None
    warm_up: int = 5


def make_config(
    mode: Literal["profile", "package"],
    title: str,
    models: Sequence[PageModel],
    method: PageMethod,
    *,
    threads: int = 0,
    provider: str = "all",
) -> dict[str, Any]:
    """The content of `config.json`. threads: of WASM; 0 measures with one thread and with a thread for each core.
    provider: all, or only webgpu.

    Raises OptionError: onnxruntime-web cannot run a bundle.
    """
    for model in models:
        check_model(model)
    return {
        "mode": mode,
        "title": title,
        "tool": importlib.metadata.version("evm-deploy"),
        "runtime": VERSION,
        "models": [model.describe() for model in models],
        "method": {"iterations": method.iterations, "seconds": method.seconds, "warm_up": method.warm_up},
        "threads": threads,
        "provider": provider,
    }


def check_model(model: PageModel) -> None:
    """Raises OptionError unless a browser can run the bundle."""
    manifest = model.bundle.manifest
    if not target_of(manifest.target).is_portable:
        fix = "export it with --target onnx."
        raise OptionError(f"{model.bundle.path} is a {manifest.target} bundle: browsers run onnx bundles.", fix)
