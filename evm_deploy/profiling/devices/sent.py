"""Files to send to another machine."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evm_deploy.bundle import MANIFEST, Bundle


@dataclass(frozen=True)
class SentFile:
    """A file to send: its name on the other machine, with `/`, and its path on this one."""

    name: str
    path: Path

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.path.stat().st_size


def list_bundle_files(folders: Iterable[tuple[str, Bundle]]) -> list[SentFile]:
    """All files of bundles, each bundle in its own folder on the other machine."""
    return [
        SentFile(f"{folder}/{name}", bundle.path / name)
        for folder, bundle in folders
        for name in (MANIFEST, *bundle.manifest.files)
    ]
