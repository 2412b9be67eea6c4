"""The options of `package`, and a row for each platform. The module of a platform is imported when it is used."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from evm_deploy.errors import OptionError, check_choice
from evm_deploy.options import option

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,39}")


@dataclass(frozen=True)
class Platform:
    """A platform that packages can be made for."""

    module: str
    help: str


PLATFORMS = {
    "ios": Platform("evm_deploy.packaging.ios", "a Swift package for Xcode"),
    "android": Platform("evm_deploy.packaging.android", "a Gradle library and a benchmark app"),
    "jetson": Platform("evm_deploy.packaging.linux", "C++ and Python loaders, engine script"),
    "linux": Platform("evm_deploy.packaging.linux", "C++ and Python loaders"),
    "web": Platform("evm_deploy.packaging.web", "a static page that works offline"),
}


@dataclass(frozen=True)
class PackageOptions:
    """How a package is made. Raises OptionError: an unknown platform, or a name that is not an identifier."""

    platform: str = field(
        metadata=option(f"{'; '.join(f'{name}: {row.help}' for name, row in PLATFORMS.items())}.", "--for")
    )
    name: str = field(  # never empty where a platform reads it
        default="", metadata=option("Of the module, the library or the page; if left out, that of the first model.")
    )
    # The same input gives the same bytes.
    archive: bool = field(default=False, metadata=option("Write OUT.zip beside it as well."))
    sign: Path | None = field(default=None, metadata=option("A minisign secret key to sign with.", kind=Path))
    overwrite: bool = field(default=False, metadata=option("Replace the package at --out."))

    def __post_init__(self) -> None:
        check_choice("platform", self.platform, PLATFORMS)
        if self.name and not _NAME.fullmatch(self.name):
            fix = "use up to 40 letters and digits, a letter first."
            raise OptionError(f"--name {self.name!r} is not a valid name in every language.", fix)
