"""`config.json`, which tells the page what to show, run and measure."""

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from evm_deploy.bundle import MANIFEST, Bundle
from evm_deploy.errors import OptionError
from evm_deploy.targets import target_of
from evm_deploy.tasks import find_task
from evm_deploy.tolerances import find_tolerance
from evm_deploy.web.kernels import MODULE
from evm_deploy.web.runtime import VERSION


@dataclass(frozen=True)
class PageModel:
    """A bundle on the page."""

    name: str  # shown on the page; unique
    folder: str  # the folder with its files, relative to the page, with a slash at the end
    bundle: Bundle
    cut: Mapping[str, bytes] = field(default_factory=dict)  # the cut graph (graph/cut.py), the plan first; or nothing

    @property
    def cut_folder(self) -> str:
        """The folder with the cut graph, as `folder`."""
        return f"cut/{self.folder}"

    def list_files(self) -> tuple[str, ...]:
        """The bundle's files, the manifest first."""
        return (MANIFEST, *sorted(self.bundle.manifest.files))

    def list_cut_files(self) -> dict[str, bytes]:
        """The files of the cut graph, by their names relative to the page."""
        return {self.cut_folder + name: data for name, data in self.cut.items()}

    def describe(self) -> dict[str, Any]:
        """The facts that the page has before it fetches the bundle. Raises BundleError: an unknown precision."""
        manifest = self.bundle.manifest
        text = (self.bundle.path / MANIFEST).read_bytes()
        return {
            "name": self.name,
            "folder": self.folder,
            "sha256": hashlib.sha256(text).hexdigest(),
            "bytes": sum((self.bundle.path / name).stat().st_size for name in self.list_files())
            + sum(map(len, self.cut.values())),
            "limits": find_task(manifest.task).limit_golden(find_tolerance(manifest))._asdict(),
            "cut": self._describe_cut(),
        }

    def _describe_cut(self) -> dict[str, str] | None:
        if not self.cut:
            return None
        plan = next(iter(self.cut))
        digest = hashlib.sha256(self.cut[plan]).hexdigest()
        return {"folder": self.cut_folder, "plan": plan, "sha256": digest}


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
    module: bytes | None = None,
) -> dict[str, Any]:
    """The content of `config.json`. threads: of WASM; 0 measures with one thread and with a thread for each core.
    provider: all, or only webgpu. module: the kernels of our operators, MODULE in the folder of the runtime.

    Raises OptionError: onnxruntime-web cannot run a bundle.
    """
    check_models(models)
    return {
        "mode": mode,
        "title": title,
        "tool": importlib.metadata.version("evm-deploy"),
        "runtime": VERSION,
        "models": [model.describe() for model in models],
        "method": {"iterations": method.iterations, "seconds": method.seconds, "warm_up": method.warm_up},
        "threads": threads,
        "provider": provider,
        "kernels": None if module is None else {"file": MODULE, "sha256": hashlib.sha256(module).hexdigest()},
    }


def check_models(models: Sequence[PageModel]) -> None:
    """Raises OptionError unless a browser can run the bundles."""
    for model in models:
        target = model.bundle.manifest.target
        if not target_of(target).is_portable:
            fix = "export it with --target onnx."
            raise OptionError(f"{model.bundle.path} is a {target} bundle: browsers run onnx bundles.", fix)
