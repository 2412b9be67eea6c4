"""Computes the statistics of a profile, for all devices alike: summaries with intervals, paired ratios, warnings."""

import dataclasses

import numpy as np

from evm_deploy.profiling.bootstrap import Floats, estimate_intervals, estimate_median_ratio
from evm_deploy.profiling.remarks import list_warnings
from evm_deploy.profiling.report import Interval, Method, ProfileReport, Ratio, Result, Summary

QUANTILES = (0.5, 0.9, 0.95, 0.99)


def add_summaries(report: ProfileReport) -> ProfileReport:
    """Adds the summary of each result, the ratio of each to the first, and warnings.

    Existing summaries and ratios are replaced; existing warnings are kept.
    """
    results = tuple(dataclasses.replace(each, summary=summarise(each, report.method)) for each in report.results)
    ratios = _compute_ratios(results, report.method)
    found = dataclasses.replace(report, results=results, ratios=ratios)
    return dataclasses.replace(found, warnings=tuple(dict.fromkeys([*found.warnings, *list_warnings(found)])))


def summarise(result: Result, method: Method) -> Summary | None:
    """Computes the summary of a result; None: it has no samples."""
    samples = _take_samples(result)
    if not len(samples):
        return None
    mean, p50, p90, p95, p99 = estimate_intervals(samples, QUANTILES, method.rounds or 1)
    std = float(samples.std(ddof=1)) if len(samples) > 1 else 0.0
    return Summary(len(samples), mean, p50, p90, p95, p99, std, float(samples.min()), float(samples.max()))


def estimate_ratio(samples: Floats, reference: Floats, *, paired: bool, rounds: int = 1) -> Interval | None:
    """Estimates the ratio of `samples` to `reference`; None: the clock of the device is too coarse for the reference.

    paired: sample i of both belongs to the same turn, so that disturbances affect both; otherwise medians are compared.
    """
    if paired and len(samples) == len(reference) and reference.min() > 0:
        return estimate_intervals(samples / reference, (0.5,), rounds)[1]
    if np.median(reference) <= 0:
        return None
    found = estimate_median_ratio(samples, reference)
    return found if np.isfinite(found.high) else None


def _compute_ratios(results: tuple[Result, ...], method: Method) -> tuple[Ratio, ...]:
    timed = [result for result in results if result.samples_ms]
    found = []
    for each in timed[1:]:
        pair = _take_samples(each), _take_samples(timed[0])
        interval = estimate_ratio(*pair, paired=method.interleaved, rounds=method.rounds or 1)
        if interval is not None:
            found.append(Ratio(each.name, timed[0].name, interval))
    return tuple(found)


def _take_samples(result: Result) -> Floats:
    return np.array(result.samples_ms, np.float64)
