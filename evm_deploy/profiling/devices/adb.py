"""Measures on an Android phone over `adb`, with the benchmark app or a command-line runner."""

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
from evm_deploy.profiling.devices.android import PhoneState
from evm_deploy.profiling.devices.answers import refuse_options
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport, Result, Snapshot
from evm_deploy.targets import target_of


def measure(
    address: str, bundles: Sequence[Path], options: ProfileOptions, say: Callable[[str], None]
) -> ProfileReport:
    """`Device.measure`. address: the serial number of the phone; "" if there is only one."""
    refuse_options(options, "adb", ("checkpoint", "operators", "lan"))
    if options.app is not None and options.runner is not None:
        raise OptionError("--app and --runner are two ways to measure on a phone.", "choose one of them.")
    if options.runner is not None:
        refuse_options(options, "adb with --runner", ("every_way", "provider"))
    named = requests.open_bundles(bundles)
    for _, bundle in named:
        if not target_of(bundle.manifest.target).is_portable:
            fix = "measure bundles of --target onnx on phones."
            raise BundleError(f"{bundle.path} is for {bundle.manifest.target}, which phones do not run.", fix)
    phone = Adb.connect(address)
    way = app.measure if options.runner is None else runner.measure
    before = android.read_state(phone.attempt)
    with battery.BatteryMeter(phone.attempt, before.discharging, say) as meter:
        text, remarks = way(phone, named, options, secrets.token_hex(4), say)
    after = android.read_state(phone.attempt)
    report = answers.read_profile(text, phone.where)
    if options.runner is not None:
        report = _rename_bundles(report, named)
    report = answers.check_bundles(report, "adb", phone.where, [bundle for _, bundle in named])
    report = _add_phone_facts(report, phone, before, after)
    warnings = [*report.warnings, *remarks, *_list_warnings(before, after)]
    return dataclasses.replace(
        report, results=meter.add_energy(report.results), warnings=tuple(dict.fromkeys(warnings))
    )


def _rename_bundles(report: ProfileReport, named: Sequence[tuple[str, Bundle]]) -> ProfileReport:
    """Replaces folder names with those of bundles, and adds facts about bundles that the runner could not open."""
    bundles = {place: each for (place, _), each in zip(runner.name_folders(named), named, strict=True)}
    return dataclasses.replace(
        report, results=tuple(_add_bundle_facts(one, bundles.get(one.bundle)) for one in report.results)
    )


def _add_bundle_facts(result: Result, named: tuple[str, Bundle] | None) -> Result:
    if named is None:
        return result
    name, bundle = named
    result = dataclasses.replace(result, name=result.name.replace(result.bundle, name), bundle=name)
    if result.error is None:
        return result
    manifest = bundle.manifest
    return dataclasses.replace(
        result, target=manifest.target, precision=manifest.precision, sha256=answers.hash_manifest(bundle)
    )


def _add_phone_facts(report: ProfileReport, phone: Adb, before: PhoneState, after: PhoneState) -> ProfileReport:
    """Adds the facts about the phone that adb gives."""
    name, system = android.read_name(phone.attempt)
    device = dataclasses.replace(report.device, name=name or phone.where, os=system or report.device.os)
    told = report.conditions
    conditions = dataclasses.replace(
        told,
        before=_merge_snapshot(told.before, before),
        after=_merge_snapshot(told.after, after),
        power={**told.power, **before.power},
    )
    return dataclasses.replace(report, device=device, conditions=conditions)


def _merge_snapshot(told: Snapshot, state: PhoneState) -> Snapshot:
    temperatures = {**(told.temperatures_c or {}), **state.temperatures}
    known = [each for each in (told.throttled, state.throttled) if each is not None]
    return dataclasses.replace(told, temperatures_c=temperatures or None, throttled=any(known) if known else None)


def _list_warnings(before: PhoneState, after: PhoneState) -> list[str]:
    """The warnings about conditions that make the figures of a phone less reliable."""
    found = []
    if before.throttled or after.throttled:
        found.append("the phone was hot and reduced its clocks")
    if after.power.get("screen", "awake") != "awake":
        found.append("the screen was off at the end of the measurement, which slows apps down")
    return found
