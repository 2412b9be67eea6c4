"""Measures with the benchmark app on a phone: installs it if necessary, sends bundles, and reads its profile."""

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
from evm_deploy.profiling.requests import DeviceContender

PACKAGE = "org.evmdeploy.benchmark"
FILES = f"/sdcard/Android/data/{PACKAGE}/files"
RUN = "evm_"  # prefix of the folders of runs
POLL = 1.0  # seconds
GONE = 3  # after this many polls without the app or its answer, the app has ended
_BUILD = "build the benchmark of `evm-deploy package --for android`, and name the .apk with --app"


def measure(
    phone: Adb, named: Sequence[tuple[str, Bundle]], options: ProfileOptions, run: str, say: Callable[[str], None]
) -> tuple[bytes, list[str]]:
    """Returns the profile that the app wrote, and warnings. run: a unique name."""
    installed = _install(phone, options.app, say)
    folder = f"{FILES}/{RUN}{run}"
    try:
        phone.shell(f"am force-stop {PACKAGE}; rm -rf {FILES}/{RUN}*; mkdir -p {folder}")
        say(f"sending {len(named)} bundles to {phone.where}")
        remarks = _send(phone, named, options, folder)
        phone.attempt("input keyevent KEYCODE_WAKEUP")  # apps are slowed down while the screen is off
        said = phone.shell(f"am start -W -n {PACKAGE}/.BenchmarkActivity --es request {RUN}{run}")
        if re.search(r"^Error", said, re.MULTILINE):
            raise DeviceError(f"{phone.where} does not start the app ({_shorten(said)}).", f"{_BUILD}.")
        say(f"measuring on {phone.where}")
        _wait(phone, folder, options.timeout)
        return phone.read(f"{folder}/profile.json", LARGEST), list(remarks)
    finally:
        _clean(phone, folder, installed)


def _install(phone: Adb, app: Path | None, say: Callable[[str], None]) -> bool:
    """Installs the app if it is missing. Returns whether it was. Raises DeviceError: it cannot be installed."""
    code, text = phone.attempt(f"pm path {PACKAGE}")
    there = code == 0 and text.strip().startswith("package:")
    if app is None:
        if not there:
            raise DeviceError(f"the benchmark app is not on {phone.where}.", f"{_BUILD}; or use --runner.")
        return False
    say(f"installing the app on {phone.where}")
    said = phone.host(["install", "-r", str(app)])
    if not re.search(r"^Success", said, re.MULTILINE):
        reason = re.search(r"INSTALL_\w+", said)
        fix = "see what it says."
        if reason and reason[0] == "INSTALL_FAILED_UPDATE_INCOMPATIBLE":
            fix = f"another build of it is there, signed by another key: run `adb uninstall {PACKAGE}`."
        raise DeviceError(
            f"{phone.where} does not install {app.name} ({reason[0] if reason else _shorten(said)}).", fix
        )
    return not there


def _send(phone: Adb, named: Sequence[tuple[str, Bundle]], options: ProfileOptions, folder: str) -> tuple[str, ...]:
    folders = {bundle.path: f"b{index}" for index, (_, bundle) in enumerate(named)}
    contenders = [each for name, bundle in named for each in _list_contenders(name, bundle, options)]
    text = requests.write_request("adb", contenders, options, lambda bundle: folders[bundle.path])
    with tempfile.TemporaryDirectory(prefix="evm-profile-") as here:
        asked = Path(here) / "request.json"
        asked.write_text(text, encoding="utf-8")
        files = sent.list_bundle_files({folders[bundle.path]: bundle for _, bundle in named}.items())
        return phone.push([*files, sent.SentFile("request.json", asked)], folder)


def _list_contenders(name: str, bundle: Bundle, options: ProfileOptions) -> list[DeviceContender]:
    """The contenders of one bundle. The app has onnxruntime and perhaps our operators, which `library` requests."""
    ours = options.library and bundle.manifest.scan_form != "inlined"
    provider = None if options.provider == "cpu" else options.provider
    if options.every_way and ours:
        return [
            DeviceContender(f"{name} on onnxruntime", bundle, name, "onnxruntime", provider),
            DeviceContender(f"{name} on onnxruntime + evm_ops", bundle, name, "onnxruntime", provider, "evm_ops"),
        ]
    return [DeviceContender(name, bundle, name, "onnxruntime", provider, "evm_ops" if ours else None)]


def _wait(phone: Adb, folder: str, patience: float) -> None:
    """Waits until the app has written its profile. Raises DeviceError: it failed, ended, or was idle for `patience`."""
    pulse, gone, until = "", 0, time.monotonic() + patience
    while True:
        _, now = phone.attempt(f"ls {folder}; p=$(pidof {PACKAGE}); echo pid=$p; cat /proc/$p/stat 2>/dev/null")
        names, _, process = now.partition("pid=")
        if "profile.json" in names.split():
            return
        if "error.txt" in names.split():
            text = phone.read(f"{folder}/error.txt", adb_tool.LINE).decode("utf-8", "replace")
            raise DeviceError(f"the app on {phone.where} failed: {_shorten(text)}.", "see what it says.")
        gone = 0 if process[:1].isdigit() else gone + 1
        if gone >= GONE:
            raise DeviceError(
                f"the app on {phone.where} has ended ({_read_crash(phone)}).", "see `adb logcat -b crash -d`."
            )
        if now != pulse:  # it has used the processor or written something since the last poll
            pulse, until = now, time.monotonic() + patience
        if time.monotonic() > until:
            fix = "unlock the phone, so that the app is in front, or raise --timeout."
            raise DeviceError(f"the app on {phone.where} did nothing for {patience:g} s.", fix)
        time.sleep(POLL)


def _read_crash(phone: Adb) -> str:
    """The last crash in the phone's log."""
    _, text = phone.attempt("logcat -b crash -d -t 60")
    reasons = re.findall(r"(?:[\w.]+(?:Exception|Error)\b.*|Fatal signal .*|Abort message: .*)", text)
    return _shorten(reasons[-1]) if reasons else "no message"


def _clean(phone: Adb, folder: str, installed: bool) -> None:
    """Restores the earlier state, if the phone is still connected."""
    try:
        phone.attempt(f"am force-stop {PACKAGE}; rm -rf {folder}")
        if installed:
            phone.host(["uninstall", PACKAGE])
    except DeviceError:
        pass  # the earlier error is being reported


def _shorten(text: str) -> str:
    return " ".join(text.split())[-300:].rstrip(". ")
