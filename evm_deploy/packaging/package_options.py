"""The options of `package`, and a row for each platform. The module of a platform is imported when it is used."""

import re
from dataclasses import dataclass
from pathlib import Path

from evm_deploy.errors import OptionError, check_choice

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

    platform: str
    name: str = "EfficientVMamba"  # of the Swift or Kotlin module, the CMake project, the title of the page
    archive: bool = False  # also write OUT.zip beside the folder; the same input gives the same bytes
    sign: Path | None = None  # a minisign secret key
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_choice("platform", self.platform, PLATFORMS)
        if not _NAME.fullmatch(self.name):
            fix = "use up to 40 letters and digits, a letter first."
            raise OptionError(f"--name {self.name!r} is not a valid name in every language.", fix)
