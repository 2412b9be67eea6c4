"""Estimates for devices that nobody measured on, beside what was measured. Operators not timed yet are timed here."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from evm_deploy.bundle import MANIFEST, Bundle
from evm_deploy.errors import InputError
from evm_deploy.files import sha256_file
from evm_deploy.profiling import operators, roofline
from evm_deploy.profiling.estimate import estimate
from evm_deploy.profiling.peaks import Peak, peak
from evm_deploy.profiling.report import Operators, ProfileReport, Result, Roofline
from evm_deploy.runtimes.onnxruntime import LIBRARY
from evm_deploy.scan import native


def with_estimates(report: ProfileReport, bundles: Sequence[Path], devices: Sequence[str]) -> ProfileReport:
    """The report with an estimate of each result for each of the devices, by their names in `peaks.DEVICES`.

    A result that allows none gets a note that says why. Raises OptionError: no such device.
    """
    rows = [peak(name) for name in devices]
    folders = {sha256_file(path / MANIFEST): path for path in bundles}
    here = functools.cache(lambda: roofline.measure(threads=1))  # where it is needed, and once
    results = [_with(result, folders.get(result.sha256), rows, here) for result in report.results]
    return dataclasses.replace(report, results=tuple(results))


def _with(result: Result, folder: Path | None, devices: Sequence[Peak], here: Callable[[], Roofline]) -> Result:
    if result.error is not None:
        return result
    try:
        timed = _timed(result, folder, here)
        found = tuple(estimate(timed, device, result.precision) for device in devices)
    except InputError as error:
        return dataclasses.replace(result, notes=(*result.notes, f"not estimated: {error.cause}"))
    return dataclasses.replace(result, estimates=(*result.estimates, *found))


def _timed(result: Result, folder: Path | None, here: Callable[[], Roofline]) -> Operators:
    """The operators of the result, measured with a roofline; here and now, run as it was, where it has none."""
    if result.operators is not None and result.operators.roofline is not None:
        return result.operators
    if folder is None:
        raise InputError(f"{result.name} is none of the bundles that are here.", "name its bundle.")
    ours = result.runtime == LIBRARY and native.available()
    return operators.measure(Bundle.open(folder), library=ours, threads=1, roofline=here())
