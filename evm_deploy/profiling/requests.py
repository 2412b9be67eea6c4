"""Writes the request to an agent, which `agent/request.py` reads: bundles as contenders."""

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evm_deploy.bundle import MANIFEST, Bundle
from evm_deploy.files import sha256_file
from evm_deploy.jsontext import dumps, utf8_name
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.tolerances import find_tolerance

VERSION = 1


@dataclass(frozen=True)
class DeviceContender:
    """A bundle, and one way to run it."""

    name: str  # unique
    bundle: Bundle
    label: str  # the bundle's name in the report
    runner: str  # a runtime of the agent
    provider: str | None = None
    library: str | None = None  # path of the operator library on the device
    notes: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)  # further options of that runtime
    tolerance: float | None = None  # for the golden pair; None: that of the bundle
    shown: dict[str, Any] = field(default_factory=dict)  # fields of the result that are not in the bundle


def open_bundles(paths: Sequence[Path]) -> list[tuple[str, Bundle]]:
    """Opens the bundles and gives each a unique name. Raises BundleError.

    The name is that of the folder, or the path if two folders have the same name, with a number if a bundle is named
    twice.
    """
    bundles = [Bundle.open(path) for path in paths]
    whole = [path.resolve() for path in paths]
    alike = [{other for other in whole if other.name == path.name} for path in whole]
    names = [utf8_name(full.name if len(alike[i]) == 1 else paths[i]) for i, full in enumerate(whole)]
    seen: list[str] = []
    for name in names:
        again = names[: len(seen)].count(name)
        seen.append(f"{name} ({again + 1})" if again else name)
    return list(zip(seen, bundles, strict=True))


def write_request(
    device: str,
    contenders: Sequence[DeviceContender],
    options: ProfileOptions,
    place: Callable[[Bundle], str] = lambda bundle: str(bundle.path.resolve()),
) -> str:
    """Writes the text of a request. device: its kind in the report; place: the path of a bundle on the device."""
    rows = [
        {
            "name": one.name,
            "bundle": one.label,
            "folder": place(one.bundle),
            "sha256": sha256_file(one.bundle.path / MANIFEST),
            "runner": one.runner,
            "provider": one.provider,
            "library": one.library,
            "tolerance": one.tolerance or find_tolerance(one.bundle.manifest),
            "notes": one.notes,
            "more": one.more,
            "shown": one.shown,
        }
        for one in contenders
    ]
    asked = {name: getattr(options, name) for name in ("iterations", "seconds", "warm_up", "threads", "affinity")}
    tool = importlib.metadata.version("evm-deploy")
    return dumps({"version": VERSION, "device": device, "tool": tool, "contenders": rows, "options": asked})
