"""The device adb against a stand-in that behaves as the real one does."""

import dataclasses
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evm_deploy.errors import BundleError, DeviceError, InputError, MissingToolError, OptionError
from evm_deploy.profiling.devices import adb_tool, app, battery, find_device
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport

OPTIONS = ProfileOptions(device="adb", iterations=6, warm_up=1, timeout=20)
Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody waits for a phone that is a folder; what is left here is found."""
    monkeypatch.setattr(app, "POLL", 0.05)
    monkeypatch.setattr(battery, "SECONDS", 0.02)
    monkeypatch.setattr(adb_tool, "WAIT_SECONDS", 2.0)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(here))


@pytest.fixture
def one(small_bundle: Make, tmp_path: Path) -> Path:
    path: Path = small_bundle(tmp_path / "one").path
    return path


def profile(bundles: list[Path], said: Callable[[str], None] = lambda stage: None, **changes: Any) -> ProfileReport:
    options = dataclasses.replace(OPTIONS, **changes)
    module, address = find_device(options.device)
    return module.measure(address, bundles, options, said)


def test_the_app_on_the_only_phone(phones: Make, one: Path, small_bundle: Make, tmp_path: Path) -> None:
    phone = phones()
    phone.app()
    two = small_bundle(tmp_path / "two", bias=3.0).path
    report = profile([one, two])
    assert [(result.name, len(result.samples_ms)) for result in report.results] == [("one", 6), ("two", 6)]
    assert (report.device.kind, report.device.name, report.device.os) == ("adb", "Stand In 5", "Android 14")
    assert report.conditions.before.temperatures_c == {"CPU0": 41.5, "skin": 33.25, "battery": 28.7}
    assert report.conditions.before.throttled is False
    assert report.conditions.power == {
        "power save": "off",  # the app's own words stay
        "battery": "81 %, charging",
        "plugged": "USB",
        "thermal status": "none",
        "screen": "awake",
    }
    assert report.warnings == ("made up",)
    assert phone.left == []
    assert list((tmp_path / "here").iterdir()) == []
    assert (phone.root / "installed").exists()


def test_every_way(phones: Make, one: Path) -> None:
    phones().app()
    names = [result.name for result in profile([one], every_way=True).results]
    assert names == ["one on onnxruntime", "one on onnxruntime + evm_ops"]


def test_a_phone_of_before_android_7(phones: Make, one: Path) -> None:
    """Its ends of lines are those of a terminal, and its exit codes are always zero."""
    phones(old=1).app()
    report = profile([one])
    assert report.results[0].error is None
    assert report.conditions.after.temperatures_c == {"CPU0": 41.5, "skin": 33.25, "battery": 28.7}
    assert report.device.name == "Stand In 5"
    phones("PHONE2", old=1)
    with pytest.raises(DeviceError, match="the benchmark app is not on"):
        profile([one], device="adb:PHONE2")


def test_an_app_that_is_installed_for_it_goes_afterwards(phones: Make, one: Path, tmp_path: Path) -> None:
    phone = phones()
    phone.app()
    (phone.root / "installed").unlink()
    apk = tmp_path / "benchmark.apk"
    apk.write_bytes(b"PK")
    assert profile([one], app=apk).results[0].error is None
    assert not (phone.root / "installed").exists()
    phone.app()
    profile([one], app=apk)
    assert (phone.root / "installed").exists()  # it was there before


@pytest.mark.parametrize(
    ("answer", "cause", "fix"),
    [
        ("INSTALL_FAILED_UPDATE_INCOMPATIBLE: signatures do not match", "UPDATE_INCOMPATIBLE", "adb uninstall"),
        ("INSTALL_FAILED_OLDER_SDK", "INSTALL_FAILED_OLDER_SDK", "see what it says"),
    ],
)
def test_an_app_that_cannot_be_installed(
    phones: Make, one: Path, tmp_path: Path, answer: str, cause: str, fix: str
) -> None:
    phones(install=answer)
    (tmp_path / "benchmark.apk").write_bytes(b"PK")
    with pytest.raises(DeviceError, match=cause) as error:
        profile([one], app=tmp_path / "benchmark.apk")
    assert fix in error.value.fix


def test_an_app_that_is_no_file(phones: Make, one: Path, tmp_path: Path) -> None:
    phones()
    with pytest.raises(DeviceError, match="failed to stat"):
        profile([one], app=tmp_path / "benchmark.apk")


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        ({"error": "the model cannot\nbe loaded."}, r"the app on .* failed: the model cannot be loaded\."),
        (
            {"crash": "E AndroidRuntime: java.lang.UnsatisfiedLinkError: dlopen failed"},
            "has ended .*UnsatisfiedLinkError",
        ),
        ({"crash": ""}, "has ended .no message"),
        ({"answer": "{not json"}, "not a JSON object"),
        ({"answer": '{"schema": "other"}'}, "not a profile"),
        ({"answer": "[" * 100_000}, "not a JSON object"),
    ],
)
def test_an_app_that_fails(phones: Make, one: Path, behaviour: dict[str, str], cause: str) -> None:
    phone = phones()
    phone.app(**behaviour)
    with pytest.raises(DeviceError, match=cause):
        profile([one])
    assert phone.left == []


def test_an_app_that_tells_of_another_bundle(phones: Make, one: Path, small_bundle: Make, tmp_path: Path) -> None:
    phone = phones()
    phone.app()
    text = profile([small_bundle(tmp_path / "two", bias=3.0).path]).to_json()
    phone.app(answer=text)
    with pytest.raises(DeviceError, match="not of the requested bundles"):
        profile([one])


def test_an_app_that_hangs(phones: Make, one: Path) -> None:
    phone = phones()
    phone.app(seconds=10)
    with pytest.raises(DeviceError, match="did nothing for 1 s"):
        profile([one], timeout=1)
    assert phone.left == []


def test_the_cable_is_pulled(phones: Make, one: Path) -> None:
    phone = phones()
    phone.app(seconds=10)

    def pull(stage: str) -> None:
        if stage.startswith("measuring"):
            threading.Timer(0.3, phone.lose).start()

    with pytest.raises(DeviceError, match="is disconnected") as error:
        profile([one], pull)
    assert "next run" in error.value.fix
    assert phone.left
    phone.find()
    phone.app()
    profile([one])
    assert phone.left == []


@pytest.mark.parametrize("calls", range(0, 12, 4))
def test_the_phone_is_lost_at_any_moment(phones: Make, one: Path, calls: int) -> None:
    phones(calls=calls).app()
    with pytest.raises(DeviceError, match=r"is disconnected|not found"):
        profile([one])


def test_a_file_that_arrives_changed(phones: Make, one: Path) -> None:
    phones(corrupt="model.onnx").app()
    with pytest.raises(DeviceError, match=r"b0/model.onnx changed on the way"):
        profile([one])


def test_a_phone_that_cannot_compare_says_so(phones: Make, one: Path) -> None:
    phone = phones()
    phone.app()
    program = phone.root / "bin/sha256sum"
    program.write_text("#!/bin/sh\nexit 127\n")
    program.chmod(0o755)
    assert any("no sha256sum" in warning for warning in profile([one]).warnings)


def test_a_phone_that_is_full(phones: Make, one: Path) -> None:
    phone = phones(full=300)
    phone.app()
    with pytest.raises(DeviceError, match=r"storage of .* is full"):
        profile([one])
    assert phone.left == []


@pytest.mark.parametrize(
    ("state", "fix"),
    [("unauthorized", "allow USB debugging"), ("offline", "plug it in again"), ("no permissions", "udev")],
)
def test_a_phone_that_cannot_be_used(
    phones: Make, one: Path, state: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adb_tool, "WAIT_SECONDS", 0.0)
    phones(state=state)
    with pytest.raises(DeviceError, match=f"it is {state}") as error:
        profile([one])
    assert fix in error.value.fix


def test_a_phone_that_is_just_being_plugged_in(phones: Make, one: Path) -> None:
    phones(state="offline\nauthorizing\ndevice").app()
    assert profile([one]).results[0].error is None


def test_no_phone_and_several(phones: Make, one: Path) -> None:
    with pytest.raises(DeviceError, match="finds no phone"):
        profile([one])
    phones("PHONE1", model="First_One").app()
    phones("PHONE2").app()
    with pytest.raises(DeviceError, match="finds 2 phones") as error:
        profile([one])
    assert "adb:PHONE1 (First One), adb:PHONE2" in error.value.fix
    with pytest.raises(DeviceError, match="finds no phone 'PHONE3'"):
        profile([one], device="adb:PHONE3")
    assert profile([one], device="adb:PHONE2").results[0].error is None


def test_no_adb_here(one: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="adb is not installed"):
        profile([one])


def test_a_hot_phone_with_a_dark_screen(phones: Make, one: Path) -> None:
    phone = phones()
    phone.app()
    phone.heat(3)
    phone.awake("Dozing")
    report = profile([one])
    assert report.conditions.after.throttled is True
    assert any("hot" in warning for warning in report.warnings)
    assert any("screen was off" in warning for warning in report.warnings)


def test_the_energy_of_one_bundle_on_battery(phones: Make, one: Path) -> None:
    phone = phones()
    phone.app(seconds=0.8)
    phone.battery(discharging=True, microamperes=250_000)  # 1 W

    def work(stage: str) -> None:
        if stage.startswith("sending"):
            phone.current(750_000)  # 3 W

    (result,) = profile([one], work).results
    assert result.energy is not None
    assert (result.energy.source, result.energy.idle_watts) == ("battery", 1.0)
    assert result.energy.watts == 3.0
    assert result.energy.joules == pytest.approx(2.0 * 5.025e-3)


@pytest.mark.parametrize(
    ("discharging", "microamperes", "why"), [(False, 250_000, "plugged in"), (True, None, "does not report")]
)
def test_no_energy_is_no_zero(phones: Make, one: Path, discharging: bool, microamperes: int | None, why: str) -> None:
    phone = phones()
    phone.app()
    phone.battery(discharging, microamperes)
    (result,) = profile([one]).results
    assert result.energy is None
    assert why in result.notes[-1]


def test_no_energy_of_bundles_that_take_turns(phones: Make, one: Path, small_bundle: Make, tmp_path: Path) -> None:
    phone = phones()
    phone.app()
    phone.battery(discharging=True, microamperes=250_000)
    results = profile([one, small_bundle(tmp_path / "two", bias=3.0).path]).results
    assert [result.energy for result in results] == [None, None]
    assert "take turns" in results[0].notes[-1]


def test_options_that_do_not_fit(phones: Make, one: Path, tmp_path: Path) -> None:
    for changes in ({"checkpoint": tmp_path}, {"operators": True}, {"lan": True}):
        with pytest.raises(OptionError, match="does not go with --device adb"):
            profile([one], **changes)
    with pytest.raises(OptionError, match="two ways"):
        profile([one], app=tmp_path, runner=tmp_path)
    for changes in ({"provider": "nnapi"}, {"every_way": True}):
        with pytest.raises(OptionError, match="does not go with --device adb with --runner"):
            profile([one], runner=tmp_path, **changes)


def test_a_bundle_that_phones_do_not_run(phones: Make, small_bundle: Make, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="for tensorrt"):
        profile([small_bundle(tmp_path / "two", target="tensorrt").path])


def test_the_runner(phones: Make, one: Path, small_bundle: Make, tmp_path: Path) -> None:
    phone = phones()
    (tmp_path / "phone's build").mkdir()
    program = phones.runner(tmp_path / "phone's build/evm_run")
    for name in ("libonnxruntime.so", "libevm_ops.so"):
        (tmp_path / "phone's build" / name).write_bytes(b"\x7fELF")
    odd = small_bundle(tmp_path / "it's (2)", bias=3.0).path
    report = profile([one, odd], runner=program)
    assert [(result.name, result.bundle) for result in report.results] == [("one", "one"), ("it's (2)", "it's (2)")]
    assert (report.device.kind, report.device.name) == ("adb", "Stand In 5")
    assert report.tool == ". ./libonnxruntime.so ./libevm_ops.so libevm_ops.so libonnxruntime.so "
    assert profile([one], runner=program, library=False).tool == ". ./libonnxruntime.so  libonnxruntime.so --portable"
    assert phone.left == []
    assert list((tmp_path / "here").iterdir()) == []


def test_a_bundle_that_the_runner_cannot_open(phones: Make, one: Path, small_bundle: Make, tmp_path: Path) -> None:
    phones()
    two = small_bundle(tmp_path / "two", bias=3.0).path
    first, second = profile([one, two], runner=phones.runner(tmp_path / "evm_run", "touch broken")).results
    assert (first.name, first.error, first.target, first.precision) == ("one", "it is broken", "onnx", "fp32")
    assert second.error is None


def test_the_runner_on_an_old_phone(phones: Make, one: Path, tmp_path: Path) -> None:
    phones(old=1)
    assert len(profile([one], runner=phones.runner(tmp_path / "evm_run")).results[0].samples_ms) == 6


def test_a_runner_that_is_pinned(phones: Make, one: Path, tmp_path: Path) -> None:
    phone = phones()
    taskset = phone.root / "bin/taskset"
    taskset.write_text('#!/bin/sh\necho "$1" > "$PHONE/mask"\nshift\nexec "$@"\n')
    taskset.chmod(0o755)
    profile([one], runner=phones.runner(tmp_path / "evm_run"), affinity=(4, 7, 4))
    assert (phone.root / "mask").read_text().strip() == "90"


def test_a_runner_that_fails(phones: Make, one: Path, tmp_path: Path) -> None:
    phone = phones()
    with pytest.raises(DeviceError, match=r"failed \(no libonnxruntime.so"):
        profile([one], runner=phones.runner(tmp_path / "evm_run", "echo 'no libonnxruntime.so' >&2; exit 3"))
    assert phone.left == []


def test_a_runner_that_does_nothing(phones: Make, one: Path, tmp_path: Path) -> None:
    phone = phones()
    with pytest.raises(DeviceError, match="did nothing for 2 s"):
        profile([one], runner=phones.runner(tmp_path / "evm_run", "exec sleep 30"), timeout=2)
    assert phone.left == []


def test_the_runner_cleans_up_when_the_cable_is_pulled(phones: Make, one: Path, tmp_path: Path) -> None:
    phone = phones()

    def pull(stage: str) -> None:
        if stage.startswith("measuring"):
            threading.Timer(0.5, phone.lose).start()

    with pytest.raises(DeviceError, match="is disconnected"):
        profile([one], pull, runner=phones.runner(tmp_path / "evm_run", "sleep 30 & echo $! > pid; wait"))
    until = time.monotonic() + 10
    while phone.left:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_runner_that_is_no_program(phones: Make, one: Path, tmp_path: Path) -> None:
    phones()
    with pytest.raises(InputError, match="is not a file"):
        profile([one], runner=tmp_path / "evm_run")
    for index in range(20):
        (tmp_path / f"lib{index}.so").touch()
    with pytest.raises(InputError, match="with 20 libraries"):
        profile([one], runner=phones.runner(tmp_path / "evm_run"))
