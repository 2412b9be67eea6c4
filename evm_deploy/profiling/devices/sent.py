"""Files for another machine."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evm_deploy.bundle import MANIFEST, Bundle


@dataclass(frozen=True)
class Sent:
    """A file for the other side: its name there, with `/`, and where it is here."""

    name: str
    path: Path

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size


def bundles(folders: Iterable[tuple[str, Bundle]]) -> list[Sent]:
    """Every file of bundles, each in its folder there."""
    return [
        Sent(f"{folder}/{name}", bundle.path / name)
        for folder, bundle in folders
        for name in (MANIFEST, *bundle.manifest.files)
    ]
