"""A profile that another machine has told, which may be anything: read, and held against what was asked of it."""

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


def accepted(text: bytes, kind: Kind, where: str, bundles: Sequence[Bundle]) -> ProfileReport:
    """The profile that `where` told of these bundles, as one of this kind of device.

    Raises DeviceError: it is no profile, or does not tell of every bundle and of no other.
    """
    return held_against(read(text, where), kind, where, bundles)


def read(text: bytes, where: str) -> ProfileReport:
    """The profile that `where` told. Raises DeviceError."""
    try:
        return ProfileReport.from_json(text, f"the profile of {where}")
    except InputError as error:
        raise DeviceError(error.cause, "update what measures there, so that it fits this evm-deploy.") from error


def held_against(report: ProfileReport, kind: Kind, where: str, bundles: Sequence[Bundle]) -> ProfileReport:
    """The profile as one of this kind of device. Raises DeviceError where it is not of these bundles."""
    asked, told = set(map(sha256, bundles)), {result.sha256 for result in report.results}
    if asked != told:
        raise DeviceError(f"the profile of {where} is not of the bundles that it was asked to measure.", "try again.")
    return replace(report, device=replace(report.device, kind=kind))


def sha256(bundle: Bundle) -> str:
    """By which a profile knows the bundle: of its manifest."""
    return sha256_file(bundle.path / MANIFEST)


def refuse(options: ProfileOptions, device: str, names: Sequence[str]) -> None:
    """Raises OptionError where one of these options is not as it is left alone: the device has no use for it."""
    plain = {field.name: field.default for field in fields(ProfileOptions)}
    for name in names:
        if getattr(options, name) != plain[name]:
            flag = spell_option(ProfileOptions, name)
            raise OptionError(f"{flag} does not go with --device {device}.", f"leave {flag} out.")
