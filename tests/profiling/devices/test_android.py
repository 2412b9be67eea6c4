"""What Android prints, and what is understood of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.profiling.devices import android, phones
from evm_deploy.profiling.devices.phones import ListedPhone

LISTED = """\
* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
emulator-5554          device product:sdk_gphone64 model:sdk_gphone64_x86_64 device:emu64x transport_id:1
192.168.1.20:5555      device product:in model:In_5 device:in transport_id:2
0123456789ABCDEF       unauthorized usb:1-1 transport_id:3
FEDCBA                 no permissions (user in plugdev group; are your udev rules wrong?); see [http://x] usb:1-2
HT4ABC                 offline

"""
HEAT = """\
IsStatusOverride: false
Thermal Status: 2
Cached temperatures:
\tTemperature{mValue=99.0, mType=0, mName=CPU0, mStatus=0}
\tTemperature{mValue=98.0, mType=0, mName=CPU9, mStatus=0}
Current temperatures from HAL:
\tTemperature{mValue=51.5, mType=0, mName=CPU0, mStatus=2}
\tTemperature{mValue=-3.5, mType=3, mName=skin, mStatus=0}
\tTemperature{mValue=NaN, mType=3, mName=odd, mStatus=0}
\tTemperature{mValue=0.0, mType=4, mName=USB, mStatus=0}
Current cooling devices from HAL:
\tTemperature{mValue=1.0, mType=0, mName=none, mStatus=2}
"""


def test_phones_as_adb_lists_them() -> None:
    assert (
        phones.parse_phones(LISTED)
        == phones.parse_phones(LISTED.replace("\n", "\r\n"))
        == [
            ListedPhone("emulator-5554", "device", "sdk gphone64 x86 64"),
            ListedPhone("192.168.1.20:5555", "device", "In 5"),
            ListedPhone("0123456789ABCDEF", "unauthorized", ""),
            ListedPhone("FEDCBA", "no permissions", ""),
            ListedPhone("HT4ABC", "offline", ""),
        ]
    )
    assert phones.parse_phones("adb: error\n") == []


def test_heat() -> None:
    assert android.parse_thermal(HEAT) == (2, {"CPU0": 51.5, "skin": -3.5})
    assert android.parse_thermal("Can't find service: thermalservice") == (None, {})


def test_battery_without_what_comes_after_it() -> None:
    text = "Current Battery Service state:\n  AC powered: true\n  level: 75\n[Log]\n  level: 3\n"
    assert android.parse_fields(text) == {"AC powered": "true", "level": "75"}


def test_a_phone_that_tells_nothing() -> None:
    assert android.read_state(lambda command: (127, "sh: dumpsys: not found")) == android.PhoneState()
    assert android.read_name(lambda command: (1, "")) == (None, None)


@pytest.mark.parametrize(
    ("text", "watts"),
    [
        ("500000\n4000000\n", 2.0),
        ("-500000\n4000000\n", 2.0),  # some kernels count what leaves the battery as negative
        ("500\n4000000\n", None),  # milliamperes, or next to nothing: not known
        ("500000\n4000\n", None),
        ("cat: /sys/class/power_supply/battery/current_now: Permission denied\n4000000\n", None),
        ("", None),
    ],
)
def test_power_of_the_battery(text: str, watts: float | None) -> None:
    assert android.read_watts(lambda command: (0, text)) == watts
    assert android.read_watts(lambda command: (1, text)) is None


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    phones.parse_phones("List of devices attached\n" + text)
    android.parse_thermal(text)
    android.read_state(lambda command: (0, text))
    android.read_watts(lambda command: (0, text))
    android.read_name(lambda command: (0, text))
