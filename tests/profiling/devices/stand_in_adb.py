"""A program that behaves as adb does, with phones that are folders on this machine.

    stand_in_adb.py FOLDER ARGUMENT...

FOLDER/phones.json lists the phones: serial, state, model, and how each behaves. FOLDER/<serial>/ is its file system, and
FOLDER/<serial>/bin holds its programs. A phone is lost as soon as FOLDER/<serial>/lost exists; with `calls` it is after so
many commands.
"""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

PLACES = ("/sdcard", "/data/local/tmp", "/sys/class/power_supply")  # of a phone, that are folders here
DEFAULTS: dict[str, Any] = {"state": "device", "model": "Stand_In", "old": False, "calls": None, "install": "Success"}


def main(folder: Path, arguments: list[str]) -> int:
    """Returns the exit code of adb."""
    phones = [{**DEFAULTS, **phone} for phone in json.loads((folder / "phones.json").read_text())]
    start = folder / "started"
    if not start.exists():
        start.touch()
        print("* daemon not running; starting now at tcp:5037\n* daemon started successfully", file=sys.stderr)
    if arguments[:1] == ["devices"]:
        return devices(folder, phones)
    serial = None
    if arguments[0] == "-s":
        serial, arguments = arguments[1], arguments[2:]
    phone = found(folder, phones, serial)
    root = folder / phone["serial"]
    return COMMANDS[arguments[0]](root, phone, arguments[1:])


def devices(folder: Path, phones: list[dict[str, Any]]) -> int:
    """As `adb devices -l` prints them; a state that is a list changes from call to call."""
    print("List of devices attached")
    for phone in phones:
        state = phone["state"]
        if isinstance(state, list):
            count = counted(folder / f"{phone['serial']}.asked")
            state = state[min(count, len(state)) - 1]
        if not (folder / phone["serial"] / "lost").exists():
            print(f"{phone['serial']:<22} {state} product:stand model:{phone['model']} device:in transport_id:1")
    print()
    return 0


def found(folder: Path, phones: list[dict[str, Any]], serial: str | None) -> dict[str, Any]:
    """The phone that a command is for, or the words of adb where it cannot be reached."""
    for phone in phones:
        if phone["serial"] == serial:
            root = folder / phone["serial"]
            calls = counted(root / "called")
            if phone["calls"] is not None and calls > phone["calls"]:
                (root / "lost").touch()
            if (root / "lost").exists():
                break
            return phone
    fail(f"adb: device '{serial}' not found")


def counted(path: Path) -> int:
    """How often it was asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(".")
    return path.stat().st_size


def shell(root: Path, phone: dict[str, Any], arguments: list[str]) -> int:
    """A shell there. Until Android 7 its ends of lines are those of a terminal, and its exit code is lost."""
    command = " ".join(arguments)
    for place in PLACES:
        command = command.replace(place, f"{root}{place}")
    path = os.pathsep.join([str(root / "bin"), os.environ["PATH"]])
    environment = dict(os.environ, PATH=path, PHONE=str(root))
    process = subprocess.Popen(
        [os.environ.get("STAND_IN_SHELL", "sh"), "-c", command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    while True:
        if (root / "lost").exists():  # the phone goes on, and finds nobody who reads
            return 1
        if select.select([process.stdout], [], [], 0.05)[0]:
            block = os.read(process.stdout.fileno(), 1 << 16)
            if not block:
                break
            sys.stdout.buffer.write(block.replace(b"\n", b"\r\n") if phone["old"] else block)
            sys.stdout.buffer.flush()
    code = process.wait()
    return 0 if phone["old"] else code


def exec_out(root: Path, phone: dict[str, Any], arguments: list[str]) -> int:
    """A shell there without a terminal."""
    return shell(root, {**phone, "old": False}, arguments)


def push(root: Path, phone: dict[str, Any], arguments: list[str]) -> int:
    """Copies a file, into folders that are there only."""
    source, target = Path(arguments[0]), root / arguments[1].lstrip("/")
    if phone.get("full") and source.stat().st_size > phone["full"]:
        fail(
            f"adb: error: failed to copy '{source}' to '{arguments[1]}': remote couldn't write: No space left on device"
        )
    if not target.parent.is_dir():
        fail(f"adb: error: failed to copy '{source}' to '{arguments[1]}': remote couldn't create file: Is a directory")
    shutil.copyfile(source, target)
    if phone.get("corrupt") and source.name == phone["corrupt"]:
        target.write_bytes(target.read_bytes() + b"!")
    print(f"{source}: 1 file pushed, 0 skipped. 31.4 MB/s ({source.stat().st_size} bytes in 0.001s)")
    return 0


def install(root: Path, phone: dict[str, Any], arguments: list[str]) -> int:
    """Takes the app, or says why not."""
    if not Path(arguments[-1]).is_file():
        fail(f"adb: failed to stat {arguments[-1]}: No such file or directory")
    print("Performing Streamed Install")
    if phone["install"] != "Success":
        fail(f"adb: failed to install {arguments[-1]}: Failure [{phone['install']}]")
    (root / "installed").touch()
    print("Success")
    return 0


def uninstall(root: Path, phone: dict[str, Any], arguments: list[str]) -> int:
    """Removes the app."""
    (root / "installed").unlink()
    print("Success")
    return 0


def fail(text: str) -> NoReturn:
    """Ends as adb does."""
    time.sleep(0.01)
    print(text, file=sys.stderr)
    raise SystemExit(1)


COMMANDS = {"shell": shell, "exec-out": exec_out, "push": push, "install": install, "uninstall": uninstall}

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
