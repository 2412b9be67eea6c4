"""The devices on which a bundle can be measured: a row for each kind. Its module is imported when it is used."""

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
    """The interface of a device's module."""

    def measure(
        self, address: str, bundles: Sequence[Path], options: ProfileOptions, say: Callable[[str], None]
    ) -> ProfileReport:
        """Measures the bundles on the device, in turns, and returns its report.

        address: the part of `--device` after the name of the device, or "". The report holds only measurements; the
        caller computes the statistics (`profiling.summaries`).
        Raises BundleError, OptionError, MissingToolError, and DeviceError: the device cannot be reached, or the
        connection to it is lost.
        """
        ...


@dataclass(frozen=True)
class DeviceKind:
    """A kind of device: how to write it in `--device`, and the module that measures on it."""

    syntax: str
    module: str
    help: str


DEVICES: dict[str, DeviceKind] = {
    "local": DeviceKind("local", "evm_deploy.profiling.devices.local", "this machine"),
    "ssh": DeviceKind(
        "ssh://[user@]host[:port]", "evm_deploy.profiling.devices.ssh", "a board or a server, over OpenSSH"
    ),
    "adb": DeviceKind("adb[:serial]", "evm_deploy.profiling.devices.adb", "an Android phone"),
    "browser": DeviceKind(
        "browser", "evm_deploy.profiling.devices.browser", "any phone or computer that opens a web page"
    ),
}


def find_device(text: str) -> tuple[Device, str]:
    """Finds the module and the address for a value of `--device`. Raises OptionError: no such device."""
    name, colon, address = text.partition(":")
    check_choice("device", name, DEVICES)
    row = DEVICES[name]
    if colon and ":" not in row.syntax:
        raise OptionError(f"--device {text!r}: {name} has no address.", f"write {row.syntax}.")
    return cast(Device, importlib.import_module(row.module)), address.removeprefix("//")
