"""The state of a Jetson, from nvpmodel, jetson_clocks and the lines of tegrastats."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

# Groups of power rails (tegrastats' names) whose sum is the power of the module; the first complete group counts.
# On Orin Nano and NX, Xavier NX and Nano, one rail feeds all others; AGX Orin and AGX Xavier have no such rail.
MODULE = (
    ("VDD_IN",),
    ("POM_5V_IN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
NO_SENSOR = ("PMIC",)  # always reports 50 or 100 °C

_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*) (-?\d+)(?:mW)?/-?\d+(?:mW)?(?!\w)")
_ZONE = re.compile(r"\b([A-Za-z][\w-]*)@(-?\d+(?:\.\d+)?)C\b")
_CORES = re.compile(r"\bCPU \[([^\]]*)\]")
_MODE = re.compile(r"NV Power Mode:[ \t]*(\S[^\r\n]*)(?:\s+(\d+)\s*$)?")
_CLOCK = re.compile(r"^\s*(cpu\d+:|GPU|EMC)\s.*?MinFreq=(\d+) MaxFreq=(\d+) CurrentFreq=\d+(?:.*FreqOverride=(\d))?")


class Reading:
    """One line of tegrastats: watts of the module, degrees Celsius by zone, MHz of each core that is on."""

    def __init__(self, watts: float | None, temperatures: dict[str, float], clocks: list[float]) -> None:
        self.watts, self.temperatures, self.clocks = watts, temperatures, clocks


def parse_line(line: str) -> Reading:
    """Parses any line. Values that are not in it are None or empty."""
    temperatures = {zone: float(value) for zone, value in _ZONE.findall(line) if zone not in NO_SENSOR}
    rails: dict[str, int] = {}
    for name, value in _RAIL.findall(line):
        rails.setdefault(name, int(value))
    cores = _CORES.search(line)
    clocks = re.findall(r"\d+%@(\d+)", cores.group(1)) if cores else []
    group = next((group for group in MODULE if all(name in rails for name in group)), None)
    watts = None if group is None else max(0.0, sum(rails[name] for name in group) / 1e3)
    # A zone that is switched off reports -256.
    temperatures = {zone: value for zone, value in temperatures.items() if value > -100}
    return Reading(watts, temperatures, [float(value) for value in clocks])


def parse_mode(text: str) -> str | None:
    """The power mode in the output of `nvpmodel -q`, with its number."""
    found = _MODE.search(text)
    if found is None:
        return None
    name, number = found.group(1).strip(), found.group(2)
    return name if number is None else f"{name} ({number})"


def parse_clocks(text: str) -> dict[str, str]:
    """Parses `jetson_clocks --show`: the range of each clock, and whether all are held at their maximum."""
    found: dict[str, list[tuple[int, int]]] = {}
    held = ""
    for line in text.splitlines():
        match = _CLOCK.match(line)
        if match and "Online=0" not in line:
            name = match.group(1).rstrip(":0123456789").lower()
            found.setdefault(name, []).append((int(match.group(2)), int(match.group(3))))
            held = ", held" if name == "emc" and match.group(4) == "1" else held
    said = {f"clock {name}": _format_range(rows, 1e3 if name == "cpu" else 1e6) for name, rows in found.items()}
    if "emc" in found:  # the memory's clock: its minimum stays below its maximum even when it is held
        said["clock emc"] += held
    rest = [low == high for name, rows in found.items() if name != "emc" for low, high in rows]
    return {"jetson_clocks": "held" if all(rest) else "not held", **said} if rest else {}


def is_jetson(root: Path = Path("/")) -> bool:
    """Whether this machine is a Jetson."""
    try:
        return b"nvidia,tegra" in (root / "proc/device-tree/compatible").read_bytes()
    except OSError:
        return (root / "etc/nv_tegra_release").is_file()


def read_power_modes(run: Callable[[Sequence[str]], str | None] | None = None) -> dict[str, str]:
    """The power mode and clocks of the board, as far as this user may read them."""
    run = run or run_program
    found = {}
    said = parse_mode(run(["nvpmodel", "-q"]) or "")
    if said is not None:
        found["nvpmodel"] = said
    shown = parse_clocks(run(["jetson_clocks", "--show"]) or "")
    return {**found, **(shown or {"jetson_clocks": "not known (only root may ask)"})}


def count_overcurrent(root: Path = Path("/")) -> int | None:
    """How often clocks were reduced since the start because the board drew too much power; None: not counted."""
    counts = []
    for path in sorted((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt")):
        try:
            counts.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    return sum(counts) if counts else None


def run_program(command: Sequence[str]) -> str | None:
    """Runs a program and returns its output. None: it does not exist, or it fails."""
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


def _format_range(rows: Sequence[tuple[int, int]], unit: float) -> str:
    """Formats a range in MHz. unit: 1 MHz in the unit of the rows (kHz for cores, Hz for the others)."""
    return f"{min(low for low, _ in rows) / unit:.0f} to {max(high for _, high in rows) / unit:.0f} MHz"
