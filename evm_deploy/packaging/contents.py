"""What a platform's module gets, and what it gives back: `write(bundles, folder, options, say) -> Contents`.

`write` fills `folder`, an empty one that becomes the package: anything but the names in RESERVED. What it needs and
does not find raises MissingToolError, before much is written; what it leaves out is a note. The same bundles and
options must give the same bytes: no times, no names of this machine. Files that begin with `#!` become executable.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evm_deploy.bundle import MANIFEST, Bundle

Say = Callable[[str], None]  # takes what is being done, where it takes long
INDEX = "evm-package.json"
SIGNATURE = INDEX + ".minisig"
RESERVED = (INDEX, SIGNATURE, "README.md", "NOTICE", "LICENSES")  # written for every platform by package.py


@dataclass(frozen=True)
class Named:
    """A bundle, and its name in the package.

    The name is that of its folder, as far as it has letters, digits and underscores: a letter first, at most 40,
    unique whatever the case. It may be a keyword of a language.
    """

    name: str
    bundle: Bundle


@dataclass(frozen=True)
class Contents:
    """What a platform's module wrote, for the index, the README and the notices."""

    models: Mapping[str, str]  # name of each bundle: its folder in the package, whole, as `copy_bundle` writes it
    readme: str  # Markdown: first the five lines that a developer needs, then what else there is to know
    licences: tuple[str, ...] = ()  # keys of licences.LICENCES: what else is in the package, or is fetched by its build
    notes: tuple[str, ...] = ()  # what was left out or not compiled, a sentence each; printed, and in the README
    tools: Mapping[str, str] = field(default_factory=dict)  # name: version of what the package has in it or builds on


def copy_bundle(bundle: Bundle, folder: Path) -> Path:
    """Copies what the bundle's manifest lists, and the manifest, into the new folder `folder`, which it returns."""
    for name in (*bundle.manifest.files, MANIFEST):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / name, target)
    return folder
