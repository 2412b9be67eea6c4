"""What is computed of a profile, the same for all devices: statistics with intervals, paired ratios, warnings."""

import dataclasses

import numpy as np

from evm_deploy.profiling.bootstrap import Floats, intervals, ratio_of_medians
from evm_deploy.profiling.remarks import remarks
from evm_deploy.profiling.report import Interval, Method, ProfileReport, Ratio, Result, Summary

QUANTILES = (0.5, 0.9, 0.95, 0.99)


def summarised(report: ProfileReport) -> ProfileReport:
    """The report with the summary of each result, the ratios of each to the first, and what has to be warned of.

    What of these it had before is replaced; warnings are added.
    """
    results = tuple(dataclasses.replace(each, summary=summary(each, report.method)) for each in report.results)
    ratios = _ratios(results, report.method)
    found = dataclasses.replace(report, results=results, ratios=ratios)
    return dataclasses.replace(found, warnings=tuple(dict.fromkeys([*found.warnings, *remarks(found)])))


def summary(result: Result, method: Method) -> Summary | None:
    """None for a result without samples."""
    samples = _array(result)
    if not len(samples):
        return None
    mean, p50, p90, p95, p99 = intervals(samples, QUANTILES, method.rounds or 1)
    std = float(samples.std(ddof=1)) if len(samples) > 1 else 0.0
    return Summary(len(samples), mean, p50, p90, p95, p99, std, float(samples.min()), float(samples.max()))


def ratio(samples: Floats, reference: Floats, *, paired: bool, rounds: int = 1) -> Interval | None:
    """How much longer `samples` take. None where the clock of the device is too coarse for the reference.

    paired: sample i of both belongs to one turn, so that what slows a turn down is in both; else medians are compared.
    """
    if paired and len(samples) == len(reference) and reference.min() > 0:
        return intervals(samples / reference, (0.5,), rounds)[1]
    if np.median(reference) <= 0:
        return None
    found = ratio_of_medians(samples, reference)
    return found if np.isfinite(found.high) else None


def _ratios(results: tuple[Result, ...], method: Method) -> tuple[Ratio, ...]:
    timed = [result for result in results if result.samples_ms]
    found = []
    for each in timed[1:]:
        pair = _array(each), _array(timed[0])
        interval = ratio(*pair, paired=method.interleaved, rounds=method.rounds or 1)
        if interval is not None:
            found.append(Ratio(each.name, timed[0].name, interval))
    return tuple(found)


def _array(result: Result) -> Floats:
    return np.array(result.samples_ms, np.float64)
