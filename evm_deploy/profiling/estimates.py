"""Adds estimates for other devices to a profile. Operators that were not timed yet are timed here."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from evm_deploy.bundle import MANIFEST, Bundle
from evm_deploy.errors import InputError
from evm_deploy.files import sha256_file
from evm_deploy.profiling import operators, roofline
from evm_deploy.profiling.estimate import estimate
from evm_deploy.profiling.peaks import Peak, find_peak
from evm_deploy.profiling.report import Operators, ProfileReport, Result, Roofline
from evm_deploy.runtimes.onnxruntime import LIBRARY
from evm_deploy.scan import native


def add_estimates(report: ProfileReport, bundles: Sequence[Path], devices: Sequence[str]) -> ProfileReport:
    """Adds an estimate of each result for each of the devices, named as in `peaks.DEVICES`.

    A result that cannot be estimated gets a note that says why. Raises OptionError: no such device.
    """
    rows = [find_peak(name) for name in devices]
    folders = {sha256_file(path / MANIFEST): path for path in bundles}
    here = functools.cache(lambda: roofline.measure_roofline(threads=1))  # measured only if needed, and only once
    results = [_add_to_result(result, folders.get(result.sha256), rows, here) for result in report.results]
    return dataclasses.replace(report, results=tuple(results))


def _add_to_result(
    result: Result, folder: Path | None, devices: Sequence[Peak], here: Callable[[], Roofline]
) -> Result:
    if result.error is not None:
        return result
    try:
        timed = _time_operators(result, folder, here)
        found = tuple(estimate(timed, device, result.precision) for device in devices)
    except InputError as error:
        return dataclasses.replace(result, notes=(*result.notes, f"not estimated: {error.cause}"))
    return dataclasses.replace(result, estimates=(*result.estimates, *found))


def _time_operators(result: Result, folder: Path | None, here: Callable[[], Roofline]) -> Operators:
    """The operators of the result with a roofline; if it has none, they are measured here, run in the same way."""
    if result.operators is not None and result.operators.roofline is not None:
        return result.operators
    if folder is None:
        raise InputError(f"{result.name} is not one of the named bundles.", "name its bundle.")
    ours = result.runtime == LIBRARY and native.available()
    return operators.measure_operators(Bundle.open(folder), library=ours, threads=1, roofline=here())
