"""A phone for `stand_in_adb.sh`: its files, and the programs that Android has."""

import json
import shlex
import stat
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
APP = "org.evmdeploy.benchmark"
FILES = f"sdcard/Android/data/{APP}/files"

BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: {usb}
  Wireless powered: false
  Max charging current: 500000
  status: {status}
  health: 2
  present: true
  level: 81
  scale: 100
  voltage: 4011
  temperature: 287
  technology: Li-ion
"""
THERMAL = """\
IsStatusOverride: false
ThermalStatusListeners:
\tcallbacks: 1
Thermal Status: {heat}
Cached temperatures:
\tTemperature{{mValue=99.0, mType=3, mName=skin-old, mStatus=0}}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{{mValue=41.5, mType=0, mName=CPU0, mStatus=0}}
\tTemperature{{mValue=33.25, mType=3, mName=skin, mStatus=0}}
\tTemperature{{mValue=0.0, mType=4, mName=USB, mStatus=0}}
Current cooling devices from HAL:
\tCoolingDevice{{mValue=0, mType=2, mName=cpu}}
Temperature static thresholds from HAL:
"""
_PROGRAMS = {
    "dumpsys": 'cat "$PHONE/dumpsys.$1"',
    "getprop": 'case $1 in *manufacturer) echo Stand;; *model) echo "In 5";; *release) echo 14;; esac',
    "input": "true",
    "logcat": 'cat "$PHONE/crash" 2>/dev/null',
    "pm": '[ -e "$PHONE/installed" ] && echo package:/data/app/base.apk',
    "pidof": 'p=$(cat "$PHONE/pid" 2>/dev/null) && kill -0 "$p" 2>/dev/null && echo "$p"',
    "am": """
[ "$1" = start ] || exit 0
[ -e "$PHONE/installed" ] || { echo "Error: Activity class does not exist."; exit 0; }
echo "Starting: Intent { cmp=x }"
APP "$PHONE" "$7" >/dev/null 2>"$PHONE/said" &
echo $! > "$PHONE/pid"
echo "Status: ok"
""",
}


class Phone:
    """Its folder. is_: what `stand_in_adb.sh` reads of it."""

    def __init__(self, phones: Path, serial: str = "PHONE1", **is_: Any) -> None:
        self.serial, self.root = serial, phones / serial
        for place in (FILES, "data/local/tmp", "sys/class/power_supply/battery", "bin", "is"):
            (self.root / place).mkdir(parents=True)
        app = shlex.join([sys.executable, "-I", "-S", str(FOLDER / "stand_in_app.py")])
        for name, text in _PROGRAMS.items():
            executable(self.root / "bin" / name, f"#!/bin/sh\n{text.replace('APP', app)}\n")
        self.battery(discharging=False)
        self.heat(0)
        self.awake("Awake")
        for key, value in {"state": "device", "model": "Stand_In", "install": "Success", **is_}.items():
            (self.root / "is" / key).write_text(f"{value}\n")

    def app(self, **behaviour: Any) -> None:
        """The app is there, and does what is said: `error`, `crash`, `answer`, `seconds`."""
        (self.root / "installed").touch()
        (self.root / "app.json").write_text(json.dumps(behaviour))

    def battery(self, discharging: bool, microamperes: int | None = None) -> None:
        """Its battery, and where it tells the current, that."""
        text = BATTERY.format(usb="false" if discharging else "true", status=3 if discharging else 2)
        (self.root / "dumpsys.battery").write_text(text)
        if microamperes is not None:
            self.current(microamperes)
            (self.root / "sys/class/power_supply/battery/voltage_now").write_text("4000000\n")

    def current(self, microamperes: int) -> None:
        """What leaves the battery now."""
        (self.root / "sys/class/power_supply/battery/current_now").write_text(f"{-microamperes}\n")

    def heat(self, status: int) -> None:
        """Android's thermal status."""
        (self.root / "dumpsys.thermalservice").write_text(THERMAL.format(heat=status))

    def awake(self, state: str) -> None:
        """Awake, Asleep, Dozing."""
        (self.root / "dumpsys.power").write_text(f"Power Manager State:\n  mWakefulness={state}\n")

    def lose(self) -> None:
        """Somebody pulls the cable."""
        (self.root / "is/lost").touch()

    def find(self) -> None:
        """And plugs it in again."""
        (self.root / "is/lost").unlink()

    @property
    def left(self) -> list[str]:
        """Files that were sent to it and are still there."""
        places = (self.root / FILES, self.root / "data/local/tmp")
        return [str(path.relative_to(self.root)) for place in places for path in sorted(place.iterdir())]


def executable(path: Path, text: str) -> Path:
    """Writes a program."""
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def install_adb(folder: Path, phones: Path) -> None:
    """Writes an `adb` into a folder; it knows the phones of another."""
    line = shlex.join(["sh", str(FOLDER / "stand_in_adb.sh")])
    executable(folder / "adb", f'#!/bin/sh\nPHONES={shlex.quote(str(phones))} exec {line} "$@"\n')


def runner(path: Path, text: str = "") -> Path:
    """A command-line runner, after some lines of shell."""
    line = shlex.join([sys.executable, "-I", "-S", str(FOLDER / "stand_in_app.py"), "--runner"])
    return executable(path, f'#!/bin/sh\n{text}\nexec {line} "$@"\n')
