"""Warnings about conditions that make a profile less reliable: a function for each, which reads the whole report."""

from collections.abc import Callable, Iterator

from evm_deploy.profiling.report import ProfileReport, Snapshot

BUSY = 0.5  # share of the cores that other programs used before the measurement
SLOWER = 0.9  # ratio of the clocks after to the clocks before
WIDE = 0.05  # half of the median's interval, divided by the median
LEAST_FOR_P99 = 100
HOT = 95.0  # degrees Celsius; processors slow down near this temperature


def list_warnings(report: ProfileReport) -> list[str]:
    """All warnings, the most serious first. The report must have summaries."""
    return [text for row in ROWS for text in row(report)]


def _warn_of_throttling(report: ProfileReport) -> Iterator[str]:
    if report.conditions.after.throttled or report.conditions.before.throttled:
        yield "the device was throttled because of heat or power: times are too long"


def _warn_of_heat(report: ProfileReport) -> Iterator[str]:
    zones = report.conditions.after.temperatures_c or {}
    for name, degrees in zones.items():
        if degrees >= HOT:
            yield f"{name} was at {degrees:.0f} °C at the end: let the device cool down and measure again"


def _warn_of_falling_clocks(report: ProfileReport) -> Iterator[str]:
    before, after = (_compute_mean_clock(each) for each in (report.conditions.before, report.conditions.after))
    if before and after and after < SLOWER * before:
        yield f"clocks fell from {before:.0f} to {after:.0f} MHz during the measurement"


def _warn_of_load(report: ProfileReport) -> Iterator[str]:
    load, cores = report.conditions.before.load, report.device.cores
    if load is not None and cores and load > BUSY * cores:
        yield f"the device was busy before the measurement: load {load:.1f} on {cores} cores"


def _warn_of_governor(report: ProfileReport) -> Iterator[str]:
    if "powersave" in (report.conditions.before.governor or ""):
        yield "the clock governor is powersave: a short run may be timed at a low clock"


def _warn_of_threads(report: ProfileReport) -> Iterator[str]:
    threads, limit = report.conditions.threads, report.conditions.cpu_limit
    cores = report.device.cores
    if cores and threads and threads > cores:
        yield f"{threads} threads share {cores} cores"
    if limit is not None and (cores is None or limit < cores):
        yield f"the container limits the process to the time of {limit:g} cores"


def _warn_of_battery(report: ProfileReport) -> Iterator[str]:
    for name, value in report.conditions.power.items():
        if name == "low power mode" and value == "on":
            yield "the device is in its low power mode"


def _warn_of_unsteady_times(report: ProfileReport) -> Iterator[str]:
    for result in report.results:
        if result.steady is False:
            yield f"{result.name}: times were not steady when the timing started"


def _warn_of_wide_intervals(report: ProfileReport) -> Iterator[str]:
    for result in report.results:
        found = result.summary
        if found is None:
            continue
        half = (found.p50.high - found.p50.low) / 2
        if half > WIDE * found.p50.value:
            share = f"{100 * half / found.p50.value:.0f} %" if found.p50.value else "100 %"
            yield f"{result.name}: the median is uncertain by {share}: time more runs, on an idle device"


def _warn_of_few_runs(report: ProfileReport) -> Iterator[str]:
    counts = [result.summary.count for result in report.results if result.summary is not None]
    if counts and min(counts) < LEAST_FOR_P99:
        yield f"with only {min(counts)} runs, p99 is close to the longest run"


def _warn_of_missing_turns(report: ProfileReport) -> Iterator[str]:
    timed = sum(bool(result.samples_ms) for result in report.results)
    if timed > 1 and not report.method.interleaved:
        yield "the contenders were not timed in turns: changes of the device affect the ratios"


def _warn_of_virtual_machine(report: ProfileReport) -> Iterator[str]:
    if report.device.virtual:
        yield "this is a virtual machine, which others can slow down unseen: ratios are more reliable than times"


ROWS: tuple[Callable[[ProfileReport], Iterator[str]], ...] = (
    _warn_of_throttling,
    _warn_of_heat,
    _warn_of_falling_clocks,
    _warn_of_load,
    _warn_of_governor,
    _warn_of_threads,
    _warn_of_battery,
    _warn_of_unsteady_times,
    _warn_of_wide_intervals,
    _warn_of_few_runs,
    _warn_of_missing_turns,
    _warn_of_virtual_machine,
)


def _compute_mean_clock(snapshot: Snapshot) -> float | None:
    return sum(snapshot.clocks_mhz) / len(snapshot.clocks_mhz) if snapshot.clocks_mhz else None
