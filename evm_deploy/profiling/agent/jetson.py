"""What a Jetson tells of itself: nvpmodel, jetson_clocks, and the lines of tegrastats."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

# Rails whose sum is what the module draws, by what tegrastats calls them, the first group that is whole. One rail feeds
# all others on Orin Nano and NX, Xavier NX and Nano; AGX Orin and AGX Xavier have no such rail.
MODULE = (
    ("VDD_IN",),
    ("POM_5V_IN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
NO_SENSOR = ("PMIC",)  # says 50 or 100 C whatever the weather

_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*) (-?\d+)(?:mW)?/-?\d+(?:mW)?(?!\w)")
_ZONE = re.compile(r"\b([A-Za-z][\w-]*)@(-?\d+(?:\.\d+)?)C\b")
_CORES = re.compile(r"\bCPU \[([^\]]*)\]")
_MODE = re.compile(r"NV Power Mode:[ \t]*(\S[^\r\n]*)(?:\s+(\d+)\s*$)?")
_CLOCK = re.compile(r"^\s*(cpu\d+:|GPU|EMC)\s.*?MinFreq=(\d+) MaxFreq=(\d+) CurrentFreq=\d+(?:.*FreqOverride=(\d))?")


class Reading:
    """One line of tegrastats: watts of the module, degrees Celsius by zone, MHz by core that is on."""

    def __init__(self, watts: float | None, temperatures: dict[str, float], clocks: list[float]) -> None:
        self.watts, self.temperatures, self.clocks = watts, temperatures, clocks


def reading(line: str) -> Reading:
    """Of any line; what it does not say is None or empty."""
    temperatures = {zone: float(value) for zone, value in _ZONE.findall(line) if zone not in NO_SENSOR}
    rails: dict[str, int] = {}
    for name, value in _RAIL.findall(line):
        rails.setdefault(name, int(value))
    cores = _CORES.search(line)
    clocks = re.findall(r"\d+%@(\d+)", cores.group(1)) if cores else []
    group = next((group for group in MODULE if all(name in rails for name in group)), None)
    watts = None if group is None else max(0.0, sum(rails[name] for name in group) / 1e3)
    # A zone that is switched off reads -256.
    temperatures = {zone: value for zone, value in temperatures.items() if value > -100}
    return Reading(watts, temperatures, [float(value) for value in clocks])


def mode(text: str) -> str | None:
    """The power mode that `nvpmodel -q` prints, with its number."""
    found = _MODE.search(text)
    if found is None:
        return None
    name, number = found.group(1).strip(), found.group(2)
    return name if number is None else f"{name} ({number})"


def clocks(text: str) -> dict[str, str]:
    """Of `jetson_clocks --show`: the range of each clock, and whether jetson_clocks holds them at their maximum."""
    found: dict[str, list[tuple[int, int]]] = {}
    held = ""
    for line in text.splitlines():
        match = _CLOCK.match(line)
        if match and "Online=0" not in line:
            name = match.group(1).rstrip(":0123456789").lower()
            found.setdefault(name, []).append((int(match.group(2)), int(match.group(3))))
            held = ", held" if name == "emc" and match.group(4) == "1" else held
    said = {f"clock {name}": _range(rows, 1e3 if name == "cpu" else 1e6) for name, rows in found.items()}
    if "emc" in found:  # the memory's clock: its least stays below its most when it is held
        said["clock emc"] += held
    rest = [low == high for name, rows in found.items() if name != "emc" for low, high in rows]
    return {"jetson_clocks": "held" if all(rest) else "not held", **said} if rest else {}


def present(root: Path = Path("/")) -> bool:
    """Whether this machine is one."""
    try:
        return b"nvidia,tegra" in (root / "proc/device-tree/compatible").read_bytes()
    except OSError:
        return (root / "etc/nv_tegra_release").is_file()


def power(run: Callable[[Sequence[str]], str | None] | None = None) -> dict[str, str]:
    """Everything that decides how fast the board may be, as far as this user may know it."""
    run = run or output
    found = {}
    said = mode(run(["nvpmodel", "-q"]) or "")
    if said is not None:
        found["nvpmodel"] = said
    shown = clocks(run(["jetson_clocks", "--show"]) or "")
    return {**found, **(shown or {"jetson_clocks": "not known (only root may ask)"})}


def overcurrent(root: Path = Path("/")) -> int | None:
    """How often clocks were cut because the board drew too much, since it was started; None where nothing counts it."""
    counts = []
    for path in sorted((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt")):
        try:
            counts.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    return sum(counts) if counts else None


def output(command: Sequence[str]) -> str | None:
    """What a program prints; None where there is none, or it fails."""
    path = shutil.which(command[0])
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=15,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _range(rows: Sequence[tuple[int, int]], unit: float) -> str:
    """In MHz. unit: how much of the rows' unit is one; kHz for cores, Hz for the others."""
    return f"{min(low for low, _ in rows) / unit:.0f} to {max(high for _, high in rows) / unit:.0f} MHz"
