"""The interface of a platform's module: `write(bundles, folder, options, say) -> Contents`.

`write` fills the empty `folder`, which becomes the package, with files of any name outside RESERVED. A missing tool
raises MissingToolError, before much is written. Anything left out is stated in a note. The same bundles and options
must give the same bytes: no times, no names of this machine. Files that begin with `#!` become executable.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evm_deploy.bundle import MANIFEST, Bundle

Say = Callable[[str], None]  # is called with the name of each long step
INDEX = "evm-package.json"
SIGNATURE = INDEX + ".minisig"
RESERVED = (INDEX, SIGNATURE, "README.md", "NOTICE", "LICENSES")  # written for every platform by package.py


@dataclass(frozen=True)
class NamedBundle:
    """A bundle and its name in the package.

    The name is made from that of its folder: at most 40 letters, digits and underscores, a letter first, unique even
    if case is ignored. It may be a keyword of a language.
    """

    name: str
    bundle: Bundle


@dataclass(frozen=True)
class Contents:
    """What a platform's module wrote: the facts for the index, the README and the notices."""

    models: Mapping[str, str]  # name of each bundle: its folder in the package, as `copy_bundle` writes it
    readme: str  # Markdown: first the five lines that a developer needs, then the details
    licences: tuple[str, ...] = ()  # keys of licences.LICENCES: other parts of the package, or of its build
    notes: tuple[str, ...] = ()  # sentences about anything left out or not compiled; printed, and in the README
    tools: Mapping[str, str] = field(
        default_factory=dict
    )  # name: version of the parts of the package, and of the tools that build it


def copy_bundle(bundle: Bundle, folder: Path) -> Path:
    """Copies the bundle's manifest, and the files that it lists, into the new folder `folder`. Returns `folder`."""
    for name in (*bundle.manifest.files, MANIFEST):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / name, target)
    return folder
