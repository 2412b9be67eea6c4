"""The benchmark app on a phone: installed where it is not, started on bundles beside it, and asked what it found."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from evm_deploy.bundle import Bundle
from evm_deploy.errors import DeviceError
from evm_deploy.profiling import requests
from evm_deploy.profiling.devices import adb_tool, sent
from evm_deploy.profiling.devices.adb_tool import Adb
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import LARGEST
from evm_deploy.profiling.requests import Contender

PACKAGE = "org.evmdeploy.benchmark"
FILES = f"/sdcard/Android/data/{PACKAGE}/files"
RUN = "evm_"  # what the folders of runs begin with
POLL = 1.0  # seconds
GONE = 3  # polls without the app or its answer, after which it has ended
_BUILD = "build the benchmark of `evm-deploy package --for android`, and name the .apk with --app"


def measure(
    phone: Adb, named: Sequence[tuple[str, Bundle]], options: ProfileOptions, run: str, say: Callable[[str], None]
) -> tuple[bytes, list[str]]:
    """The profile that the app told, and what is to be remarked on. run: a name that no other run has."""
    installed = _install(phone, options.app, say)
    folder = f"{FILES}/{RUN}{run}"
    try:
        phone.shell(f"am force-stop {PACKAGE}; rm -rf {FILES}/{RUN}*; mkdir -p {folder}")
        say(f"sending {len(named)} bundles to {phone.where}")
        remarks = _send(phone, named, options, folder)
        phone.attempt("input keyevent KEYCODE_WAKEUP")  # an app behind a dark screen is slowed down
        said = phone.shell(f"am start -W -n {PACKAGE}/.BenchmarkActivity --es request {RUN}{run}")
        if re.search(r"^Error", said, re.MULTILINE):
            raise DeviceError(f"{phone.where} does not start the app ({_line(said)}).", f"{_BUILD}.")
        say(f"measuring on {phone.where}")
        _wait(phone, folder, options.timeout)
        return phone.read(f"{folder}/profile.json", LARGEST), list(remarks)
    finally:
        _clean(phone, folder, installed)


def _install(phone: Adb, app: Path | None, say: Callable[[str], None]) -> bool:
    """Whether the app is there only since now. Raises DeviceError: it is not there, or cannot be installed."""
    code, text = phone.attempt(f"pm path {PACKAGE}")
    there = code == 0 and text.strip().startswith("package:")
    if app is None:
        if not there:
            raise DeviceError(f"the benchmark app is not on {phone.where}.", f"{_BUILD}, or a --runner.")
        return False
    say(f"installing the app on {phone.where}")
    said = phone.host(["install", "-r", str(app)])
    if not re.search(r"^Success", said, re.MULTILINE):
        reason = re.search(r"INSTALL_\w+", said)
        fix = "see what it says."
        if reason and reason[0] == "INSTALL_FAILED_UPDATE_INCOMPATIBLE":
            fix = f"another build of it is there, signed by another key: run `adb uninstall {PACKAGE}`."
        raise DeviceError(f"{phone.where} does not install {app.name} ({reason[0] if reason else _line(said)}).", fix)
    return not there


def _send(phone: Adb, named: Sequence[tuple[str, Bundle]], options: ProfileOptions, folder: str) -> tuple[str, ...]:
    folders = {bundle.path: f"b{index}" for index, (_, bundle) in enumerate(named)}
    contenders = [each for name, bundle in named for each in _ways(name, bundle, options)]
    text = requests.request("adb", contenders, options, lambda bundle: folders[bundle.path])
    with tempfile.TemporaryDirectory(prefix="evm-profile-") as here:
        asked = Path(here) / "request.json"
        asked.write_text(text, encoding="utf-8")
        files = sent.bundles({folders[bundle.path]: bundle for _, bundle in named}.items())
        return phone.push([*files, sent.Sent("request.json", asked)], folder)


def _ways(name: str, bundle: Bundle, options: ProfileOptions) -> list[Contender]:
    """The app has onnxruntime, and our operators where they were built for it: `library` asks for them."""
    ours = options.library and bundle.manifest.scan_form != "inlined"
    provider = None if options.provider == "cpu" else options.provider
    if options.every_way and ours:
        return [
            Contender(f"{name} on onnxruntime", bundle, name, "onnxruntime", provider),
            Contender(f"{name} on onnxruntime + evm_ops", bundle, name, "onnxruntime", provider, "evm_ops"),
        ]
    return [Contender(name, bundle, name, "onnxruntime", provider, "evm_ops" if ours else None)]


def _wait(phone: Adb, folder: str, patience: float) -> None:
    """Until the app has told its profile. Raises DeviceError: it failed, has ended, or does nothing for `patience`."""
    pulse, gone, until = "", 0, time.monotonic() + patience
    while True:
        _, now = phone.attempt(f"ls {folder}; p=$(pidof {PACKAGE}); echo pid=$p; cat /proc/$p/stat 2>/dev/null")
        names, _, process = now.partition("pid=")
        if "profile.json" in names.split():
            return
        if "error.txt" in names.split():
            text = phone.read(f"{folder}/error.txt", adb_tool.LINE).decode("utf-8", "replace")
            raise DeviceError(f"the app on {phone.where} failed: {_line(text)}.", "see what it says.")
        gone = 0 if process[:1].isdigit() else gone + 1
        if gone >= GONE:
            raise DeviceError(f"the app on {phone.where} has ended ({_crash(phone)}).", "see `adb logcat -b crash -d`.")
        if now != pulse:  # it has used the processor, or written something
            pulse, until = now, time.monotonic() + patience
        if time.monotonic() > until:
            fix = "unlock the phone, so that the app is in front, or raise --timeout."
            raise DeviceError(f"the app on {phone.where} did nothing for {patience:g} s.", fix)
        time.sleep(POLL)


def _crash(phone: Adb) -> str:
    """What the phone noted last when an app ended."""
    _, text = phone.attempt("logcat -b crash -d -t 60")
    reasons = re.findall(r"(?:[\w.]+(?:Exception|Error)\b.*|Fatal signal .*|Abort message: .*)", text)
    return _line(reasons[-1]) if reasons else "it says nothing"


def _clean(phone: Adb, folder: str, installed: bool) -> None:
    """As it was before, as far as the phone is still there."""
    try:
        phone.attempt(f"am force-stop {PACKAGE}; rm -rf {folder}")
        if installed:
            phone.host(["uninstall", PACKAGE])
    except DeviceError:
        pass  # what went wrong before is being told


def _line(text: str) -> str:
    return " ".join(text.split())[-300:].rstrip(". ")
