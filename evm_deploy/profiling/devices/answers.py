"""A profile that another machine has told, which may be anything: read, and held against what was asked of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import fields

from evm_deploy.bundle import MANIFEST, Bundle
from evm_deploy.errors import DeviceError, InputError, OptionError
from evm_deploy.profiling.options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport


def accepted(text: bytes, kind: str, where: str, bundles: Sequence[Bundle]) -> ProfileReport:
    """The profile that `where`, a device of this kind, told of these bundles.

    Raises DeviceError: it is no profile, of another kind of device, or does not tell of every bundle and of no other.
    """
    try:
        report = ProfileReport.from_json(text, f"the profile of {where}")
    except InputError as error:
        raise DeviceError(error.cause, "update what measures there, so that it fits this evm-deploy.") from error
    asked = {hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest() for bundle in bundles}
    told = {result.sha256 for result in report.results}
    if report.device.kind != kind or asked != told:
        raise DeviceError(f"the profile of {where} is not of the bundles that it was asked to measure.", "try again.")
    return report


def refuse(options: ProfileOptions, device: str, names: Sequence[str]) -> None:
    """Raises OptionError where one of these options is not as it is left alone: the device has no use for it."""
    plain = {field.name: field.default for field in fields(ProfileOptions)}
    for name in names:
        if getattr(options, name) != plain[name]:
            flag = "--" + name.replace("_", "-")
            raise OptionError(f"{flag} does not go with --device {device}.", f"leave {flag} out.")
