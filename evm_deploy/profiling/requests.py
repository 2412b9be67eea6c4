"""What an agent is asked: bundles as contenders, in words that `agent/request.py` reads."""

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evm_deploy.bundle import MANIFEST, Bundle
from evm_deploy.files import sha256_file
from evm_deploy.jsontext import dumps, utf8_name
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.tolerances import allowed

VERSION = 1


@dataclass(frozen=True)
class Contender:
    """A bundle, to be run in one way."""

    name: str  # unique
    bundle: Bundle
    label: str  # what the bundle is called in the report
    runner: str  # a row of the agent's
    provider: str | None = None
    library: str | None = None  # path of the operator library, where it is run
    notes: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)  # what only that runner reads
    tolerance: float | None = None  # of the golden pair; None: the bundle's
    shown: dict[str, Any] = field(default_factory=dict)  # of the result, what the bundle does not say


def opened(paths: Sequence[Path]) -> list[tuple[str, Bundle]]:
    """Every bundle with a name of its own: its folder's, its path where two folders have one name, a number where a
    bundle is there twice. Raises BundleError.
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


def request(
    device: str,
    contenders: Sequence[Contender],
    options: ProfileOptions,
    place: Callable[[Bundle], str] = lambda bundle: str(bundle.path.resolve()),
) -> str:
    """The text. device: its kind in the report; place: where the agent finds a bundle's folder."""
    rows = [
        {
            "name": one.name,
            "bundle": one.label,
            "folder": place(one.bundle),
            "sha256": sha256_file(one.bundle.path / MANIFEST),
            "runner": one.runner,
            "provider": one.provider,
            "library": one.library,
            "tolerance": one.tolerance or allowed(one.bundle.manifest),
            "notes": one.notes,
            "more": one.more,
            "shown": one.shown,
        }
        for one in contenders
    ]
    asked = {name: getattr(options, name) for name in ("iterations", "seconds", "warm_up", "threads", "affinity")}
    tool = importlib.metadata.version("evm-deploy")
    return dumps({"version": VERSION, "device": device, "tool": tool, "contenders": rows, "options": asked})
