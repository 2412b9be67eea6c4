"""Where a bundle can be measured: one row a device, the module of each imported on use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from evm_deploy.errors import OptionError, check_choice

if TYPE_CHECKING:
    from evm_deploy.profiling.profile_options import ProfileOptions
    from evm_deploy.profiling.report import ProfileReport


class Device(Protocol):
    """What the module of a device has."""

    def measure(
        self, address: str, bundles: Sequence[Path], options: ProfileOptions, say: Callable[[str], None]
    ) -> ProfileReport:
        """Measures the bundles there, taking turns, and brings back what the device told.

        address: what follows the device's name in `--device`, "" where nothing does. The report holds what was
        measured; what is computed of it (`ProfileReport.summarised`) is the caller's.
        Raises BundleError, OptionError, MissingToolError, and DeviceError for a device that cannot be reached or is
        lost.
        """
        ...


@dataclass(frozen=True)
class Row:
    """A kind of device: how it is written, and the module that measures on it."""

    syntax: str
    module: str
    help: str


DEVICES: dict[str, Row] = {
    "local": Row("local", "evm_deploy.profiling.devices.local", "this machine"),
    "ssh": Row("ssh://[user@]host[:port]", "evm_deploy.profiling.devices.ssh", "a board or a server, by OpenSSH"),
    "adb": Row("adb[:serial]", "evm_deploy.profiling.devices.adb", "an Android phone"),
    "browser": Row("browser", "evm_deploy.profiling.devices.browser", "any phone or computer that opens a web page"),
}


def device(text: str) -> tuple[Device, str]:
    """The module for what `--device` says, and the address there. Raises OptionError: no such device."""
    name, colon, address = text.partition(":")
    check_choice("device", name, DEVICES)
    row = DEVICES[name]
    if colon and ":" not in row.syntax:
        raise OptionError(f"--device {text!r}: {name} has no address.", f"write {row.syntax}.")
    return cast(Device, importlib.import_module(row.module)), address.removeprefix("//")
