"""The phones that adb knows, and the one that is meant."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from evm_deploy.errors import DeviceError

_LISTED = re.compile(r"(\S+)\s+(no permissions|[a-z]+)\b(.*)")
READY = "device"
PASSING = ("offline", "authorizing", "connecting")  # of a phone that has just been plugged in
# What to do about a phone that is there and cannot be used.
_STATES = {
    "unauthorized": "unlock it, and allow USB debugging for this computer in the question that it shows.",
    "authorizing": "unlock it, and allow USB debugging for this computer in the question that it shows.",
    "offline": "unplug it and plug it in again, or run `adb reconnect`.",
    "no permissions": "let your user use it (apt install android-sdk-platform-tools-common has the rules for udev).",
}


@dataclass(frozen=True)
class Listed:
    """A phone as `adb devices -l` lists it."""

    serial: str
    state: str
    model: str


def listed(text: str) -> list[Listed]:
    """The phones of what `adb devices -l` prints."""
    _, _, rows = text.replace("\r", "").partition("List of devices attached\n")
    found = []
    for row in map(_LISTED.match, rows.splitlines()):
        if row is not None and not row[0].startswith("*"):
            model = re.search(r"\bmodel:(\S+)", row[3])
            found.append(Listed(row[1], row[2], model[1].replace("_", " ") if model else ""))
    return found


def chosen(phones: Sequence[Listed], serial: str) -> Listed:
    """The one that can be used. Raises DeviceError."""
    if not phones:
        known = f"knows no phone {serial!r}" if serial else "knows no phone"
        fix = "plug it in, switch USB debugging on in its developer options, and look at `adb devices`."
        raise DeviceError(f"adb {known}.", fix)
    if len(phones) > 1:
        names = ", ".join(f"adb:{phone.serial}" + (f" ({phone.model})" if phone.model else "") for phone in phones)
        raise DeviceError(f"adb knows {len(phones)} phones.", f"choose one of: {names}.")
    (phone,) = phones
    if phone.state != READY:
        fix = _STATES.get(phone.state, "start Android on it.")
        raise DeviceError(f"the phone {phone.serial} cannot be used: it is {phone.state}.", fix)
    return phone
