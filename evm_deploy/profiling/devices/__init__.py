"""The devices on which a bundle can be measured: a module for each kind, imported when it is used."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from evm_deploy.errors import OptionError, check_choice
from evm_deploy.profiling.device_kinds import DEVICES

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


def find_device(text: str) -> tuple[Device, str]:
    """Finds the module and the address for a value of `--device`. Raises OptionError: no such device."""
    name, colon, address = text.partition(":")
    if name not in DEVICES and not difflib.get_close_matches(name.lower(), DEVICES, 1):
        kinds = ", ".join(row.syntax for row in DEVICES.values())
        fix = f"a machine of this name is ssh://{text.removeprefix('//')}; kinds of devices are {kinds}."
        raise OptionError(f"there is no kind of device {name!r}.", fix)
    check_choice("device", name, DEVICES)
    row = DEVICES[name]
    if colon and ":" not in row.syntax:
        raise OptionError(f"--device {text!r}: {name} has no address.", f"write {row.syntax}.")
    return cast(Device, importlib.import_module(row.module)), address.removeprefix("//")
