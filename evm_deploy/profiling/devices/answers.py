"""Reads a profile that another machine sent, which is untrusted, and compares it with the request."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Literal

from evm_deploy.bundle import MANIFEST, Bundle
from evm_deploy.errors import DeviceError, InputError, OptionError
from evm_deploy.files import sha256_file
from evm_deploy.options import spell_option
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport

Kind = Literal["ssh", "adb"]


def accept_profile(text: bytes, kind: Kind, where: str, bundles: Sequence[Bundle]) -> ProfileReport:
    """Reads the profile of these bundles from `where`, and sets the kind of device.

    Raises DeviceError: it is not a profile, or not of exactly these bundles.
    """
    return check_bundles(read_profile(text, where), kind, where, bundles)


def read_profile(text: bytes, where: str) -> ProfileReport:
    """Reads the profile that `where` sent. Raises DeviceError."""
    try:
        return ProfileReport.from_json(text, f"the profile of {where}")
    except InputError as error:
        raise DeviceError(error.cause, "update the program that measures there to match this evm-deploy.") from error


def check_bundles(report: ProfileReport, kind: Kind, where: str, bundles: Sequence[Bundle]) -> ProfileReport:
    """Sets the kind of device. Raises DeviceError: the profile is not of exactly these bundles."""
    asked, told = set(map(hash_manifest, bundles)), {result.sha256 for result in report.results}
    if asked != told:
        raise DeviceError(f"the profile of {where} is not of the requested bundles.", "try again.")
    return replace(report, device=replace(report.device, kind=kind))


def hash_manifest(bundle: Bundle) -> str:
    """The sha256 of the bundle's manifest, which identifies the bundle in a profile."""
    return sha256_file(bundle.path / MANIFEST)


def refuse_options(options: ProfileOptions, device: str, names: Sequence[str]) -> None:
    """Raises OptionError: one of these options, which the device does not support, is not at its default."""
    plain = {field.name: field.default for field in fields(ProfileOptions)}
    for name in names:
        if getattr(options, name) != plain[name]:
            flag = spell_option(ProfileOptions, name)
            raise OptionError(f"{flag} does not go with --device {device}.", f"leave {flag} out.")
