"""Facts about the phone from Android: battery, temperature, model."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

Attempt = Callable[[str], tuple[int, str]]  # runs a shell command on the phone; returns its exit code and output

BATTERY = "/sys/class/power_supply/battery"
LEAST_CURRENT, MOST_CURRENT = (
    20_000,
    20_000_000,
)  # plausible microamperes of a running phone; some kernels report milliamperes
HOT = 2  # Android's thermal status "moderate"; from here on, clocks are reduced
_SERVICE = "evm-service:"
_DISCHARGING = "3"
_STATUS = {"1": "unknown", "2": "charging", _DISCHARGING: "discharging", "4": "not charging", "5": "full"}
_HEAT = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_ZONE = re.compile(r"Temperature\{mValue=(-?\d+(?:\.\d+)?), mType=-?\d+, mName=([^,}]{1,60}), mStatus=\d+\}")


@dataclass(frozen=True)
class PhoneState:
    """The phone at one moment. power: conditions that affect its speed, in words; temperatures: Celsius by zone."""

    power: dict[str, str] = field(default_factory=dict)
    temperatures: dict[str, float] = field(default_factory=dict)
    throttled: bool | None = None
    discharging: bool = False  # on battery only, so that the battery's current is that of the phone


def read_state(attempt: Attempt) -> PhoneState:
    """Asks the phone for its state; values that it does not give are left out."""
    battery_text, heat_text, power_text = _read_services(attempt)
    battery, heat = parse_fields(battery_text), parse_thermal(heat_text)
    awake = re.search(r"mWakefulness=(\w+)", power_text)
    power = {}
    if battery.get("level", "").isdigit():
        power["battery"] = f"{battery['level']} %, {_STATUS.get(battery.get('status', ''), 'unknown')}"
    if plugged := [name.removesuffix(" powered") for name, value in battery.items() if _is_power_source(name, value)]:
        power["plugged"] = ", ".join(plugged)
    if heat[0] is not None:
        power["thermal status"] = _HEAT[heat[0]] if heat[0] < len(_HEAT) else str(heat[0])
    if awake:
        power["screen"] = awake[1].lower()
    temperatures = dict(heat[1])
    if re.fullmatch(r"-?\d{1,4}", battery.get("temperature", "")):
        temperatures["battery"] = int(battery["temperature"]) / 10
    discharging = battery.get("status") == _DISCHARGING and not plugged
    return PhoneState(power, temperatures, None if heat[0] is None else heat[0] >= HOT, discharging)


def parse_fields(text: str) -> dict[str, str]:
    """Parses the `name: value` lines in the first section of `dumpsys battery`."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.strip().partition(": ")
        if colon and len(found) < 64:
            found.setdefault(name, value.strip())
    return found


def parse_thermal(text: str) -> tuple[int | None, dict[str, float]]:
    """Parses `dumpsys thermalservice`: the status, and the current temperatures.

    Zones that report 0 do not exist.
    """
    status = re.search(r"^\s*Thermal Status: (\d+)\s*$", text, re.MULTILINE)
    _, _, now = text.partition("Current temperatures from HAL:")
    zones = _ZONE.findall(now.partition("Current cooling devices")[0])[:64]
    return int(status[1]) if status else None, {name: float(value) for value, name in zones if float(value) != 0}


def read_watts(attempt: Attempt) -> float | None:
    """The power that the battery gives now, in watts; None: the phone does not tell, or the unit is not known."""
    code, text = attempt(f"cat {BATTERY}/current_now {BATTERY}/voltage_now")
    numbers = [int(each) for each in text.split() if re.fullmatch(r"-?\d{1,10}", each)]
    if code != 0 or len(numbers) != 2:
        return None
    current, voltage = abs(numbers[0]), numbers[1]  # some kernels report a discharging current as negative
    if not (LEAST_CURRENT <= current <= MOST_CURRENT and 2_000_000 <= voltage <= 30_000_000):
        return None
    return current * voltage / 1e12


def read_name(attempt: Attempt) -> tuple[str | None, str | None]:
    """The manufacturer and model, and the version of Android."""
    asked = "; ".join(f"getprop ro.{key}" for key in ("product.manufacturer", "product.model", "build.version.release"))
    rows = _run(attempt, asked).splitlines()
    maker, model, release = (row.strip()[:100] for row in (*rows, "", "", "")[:3])
    return " ".join(filter(None, (maker, model))) or None, f"Android {release}" if release else None


def _is_power_source(name: str, value: str) -> bool:
    return name.endswith(" powered") and value == "true"


def _read_services(attempt: Attempt) -> list[str]:
    """The output of three services, in one command, so that the phone is asked only once."""
    _, text = attempt("; ".join(f"echo {_SERVICE}; dumpsys {name}" for name in ("battery", "thermalservice", "power")))
    return [*text.split(_SERVICE + "\n")[1:], "", "", ""][:3]


def _run(attempt: Attempt, command: str) -> str:
    code, text = attempt(command)
    return text if code == 0 else ""
