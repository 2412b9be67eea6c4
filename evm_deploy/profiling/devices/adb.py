"""An Android phone, by the `adb` of this machine: the benchmark app measures there, or a command-line runner."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, OptionError
from evm_deploy.profiling import requests
from evm_deploy.profiling.devices import android, answers, app, battery, runner
from evm_deploy.profiling.devices.adb_tool import Adb
from evm_deploy.profiling.devices.android import State
from evm_deploy.profiling.devices.answers import refuse
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport, Result, Snapshot
from evm_deploy.targets import target_of


def measure(
    address: str, bundles: Sequence[Path], options: ProfileOptions, say: Callable[[str], None]
) -> ProfileReport:
    """`Device.measure`. address: the phone's serial number, "" for the only one."""
    refuse(options, "adb", ("checkpoint", "operators", "lan"))
    if options.app is not None and options.runner is not None:
        raise OptionError("--app and --runner are two ways to measure on a phone.", "choose one of them.")
    if options.runner is not None:
        refuse(options, "adb with --runner", ("every_way", "provider"))
    named = requests.opened(bundles)
    for _, bundle in named:
        if not target_of(bundle.manifest.target).is_portable:
            fix = "measure bundles of the target onnx there."
            raise BundleError(f"{bundle.path} is for {bundle.manifest.target}, which phones do not run.", fix)
    phone = Adb.connect(address)
    way = app.measure if options.runner is None else runner.measure
    before = android.state(phone.attempt)
    with battery.Meter(phone.attempt, before.discharging, say) as meter:
        text, remarks = way(phone, named, options, secrets.token_hex(4), say)
    after = android.state(phone.attempt)
    report = answers.read(text, phone.where)
    if options.runner is not None:
        report = _titled(report, named)
    report = answers.held_against(report, "adb", phone.where, [bundle for _, bundle in named])
    report = _described(report, phone, before, after)
    warnings = [*report.warnings, *remarks, *_remarks(before, after)]
    return dataclasses.replace(report, results=meter.told(report.results), warnings=tuple(dict.fromkeys(warnings)))


def _titled(report: ProfileReport, named: Sequence[tuple[str, Bundle]]) -> ProfileReport:
    """With the bundles' names in place of their folders', and with what the runner does not know of those that it could
    not open.
    """
    bundles = {place: each for (place, _), each in zip(runner.places(named), named, strict=True)}
    return dataclasses.replace(report, results=tuple(_known(one, bundles.get(one.bundle)) for one in report.results))


def _known(result: Result, named: tuple[str, Bundle] | None) -> Result:
    if named is None:
        return result
    name, bundle = named
    result = dataclasses.replace(result, name=result.name.replace(result.bundle, name), bundle=name)
    if result.error is None:
        return result
    manifest = bundle.manifest
    return dataclasses.replace(
        result, target=manifest.target, precision=manifest.precision, sha256=answers.sha256(bundle)
    )


def _described(report: ProfileReport, phone: Adb, before: State, after: State) -> ProfileReport:
    """With what the phone tells of itself through adb, beside what was measured in it."""
    name, system = android.name(phone.attempt)
    device = dataclasses.replace(report.device, name=name or phone.where, os=system or report.device.os)
    told = report.conditions
    conditions = dataclasses.replace(
        told,
        before=_merged(told.before, before),
        after=_merged(told.after, after),
        power={**told.power, **before.power},
    )
    return dataclasses.replace(report, device=device, conditions=conditions)


def _merged(told: Snapshot, state: State) -> Snapshot:
    temperatures = {**(told.temperatures_c or {}), **state.temperatures}
    known = [each for each in (told.throttled, state.throttled) if each is not None]
    return dataclasses.replace(told, temperatures_c=temperatures or None, throttled=any(known) if known else None)


def _remarks(before: State, after: State) -> list[str]:
    """What makes figures of a phone worth less."""
    found = []
    if before.throttled or after.throttled:
        found.append("the phone was hot: it held its clocks down")
    if after.power.get("screen", "awake") != "awake":
        found.append("the phone was not awake when measuring ended: an app behind a dark screen is slowed down")
    return found
