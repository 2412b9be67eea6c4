"""Lists the phones that adb knows, and chooses one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from evm_deploy.errors import DeviceError

_LISTED = re.compile(r"(\S+)\s+(no permissions|[a-z]+)\b(.*)")
READY = "device"
PASSING = ("offline", "authorizing", "connecting")  # temporary states of a phone that has just been connected
# Fixes for a phone that is connected but cannot be used.
_STATES = {
    "unauthorized": "unlock it, and allow USB debugging for this computer in the dialog on its screen.",
    "authorizing": "unlock it, and allow USB debugging for this computer in the dialog on its screen.",
    "offline": "unplug it and plug it in again, or run `adb reconnect`.",
    "no permissions": "give your user access to it (udev rules: apt install android-sdk-platform-tools-common).",
}


@dataclass(frozen=True)
class ListedPhone:
    """A phone in the output of `adb devices -l`."""

    serial: str
    state: str
    model: str


def parse_phones(text: str) -> list[ListedPhone]:
    """Parses the output of `adb devices -l`."""
    _, _, rows = text.replace("\r", "").partition("List of devices attached\n")
    found = []
    for row in map(_LISTED.match, rows.splitlines()):
        if row is not None and not row[0].startswith("*"):
            model = re.search(r"\bmodel:(\S+)", row[3])
            found.append(ListedPhone(row[1], row[2], model[1].replace("_", " ") if model else ""))
    return found


def choose_phone(phones: Sequence[ListedPhone], serial: str) -> ListedPhone:
    """Chooses the phone with this serial number, or the only one. Raises DeviceError: it cannot be used."""
    if not phones:
        known = f"finds no phone {serial!r}" if serial else "finds no phone"
        fix = "connect it, turn on USB debugging in its developer options, and check `adb devices`."
        raise DeviceError(f"adb {known}.", fix)
    if len(phones) > 1:
        names = ", ".join(f"adb:{phone.serial}" + (f" ({phone.model})" if phone.model else "") for phone in phones)
        raise DeviceError(f"adb finds {len(phones)} phones.", f"choose one of: {names}.")
    (phone,) = phones
    if phone.state != READY:
        fix = _STATES.get(phone.state, "start Android on it.")
        raise DeviceError(f"the phone {phone.serial} cannot be used: it is {phone.state}.", fix)
    return phone
