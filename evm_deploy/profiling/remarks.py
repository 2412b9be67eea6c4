"""What makes the figures of a profile worth less, or nothing: one row a reason, each reads the whole report."""

from collections.abc import Callable, Iterator

from evm_deploy.profiling.report import ProfileReport, Snapshot

BUSY = 0.5  # share of the cores that others kept busy before
SLOWER = 0.9  # clocks after by clocks before
WIDE = 0.05  # half of the median's interval, by the median
LEAST_FOR_P99 = 100
HOT = 95.0  # degrees Celsius, near which processors hold themselves back


def remarks(report: ProfileReport) -> list[str]:
    """Warnings, the worst first. The report's summaries are there."""
    return [text for row in ROWS for text in row(report)]


def _throttled(report: ProfileReport) -> Iterator[str]:
    if report.conditions.after.throttled or report.conditions.before.throttled:
        yield "the device was throttled, for heat or power: times are too long"


def _cooling(report: ProfileReport) -> Iterator[str]:
    zones = report.conditions.after.temperatures_c or {}
    for name, degrees in zones.items():
        if degrees >= HOT:
            yield f"{name} was at {degrees:.0f} degrees Celsius at the end: let the device cool down and measure again"


def _clocks(report: ProfileReport) -> Iterator[str]:
    before, after = (_mean_clock(each) for each in (report.conditions.before, report.conditions.after))
    if before and after and after < SLOWER * before:
        yield f"clocks fell from {before:.0f} to {after:.0f} MHz while it was measured"


def _load(report: ProfileReport) -> Iterator[str]:
    load, cores = report.conditions.before.load, report.device.cores
    if load is not None and cores and load > BUSY * cores:
        yield f"the device was busy before: load {load:.1f} on {cores} cores"


def _governor(report: ProfileReport) -> Iterator[str]:
    if "powersave" in (report.conditions.before.governor or ""):
        yield "the governor of the clocks is powersave: a short run may be timed at a low clock"


def _threads(report: ProfileReport) -> Iterator[str]:
    threads, limit = report.conditions.threads, report.conditions.cpu_limit
    cores = report.device.cores
    if cores and threads and threads > cores:
        yield f"{threads} threads share {cores} cores"
    if limit is not None and (cores is None or limit < cores):
        yield f"a container's limit of {limit:g} cores' time holds the process back"


def _battery(report: ProfileReport) -> Iterator[str]:
    for name, value in report.conditions.power.items():
        if name == "low power mode" and value == "on":
            yield "the device is in its low power mode"


def _settled(report: ProfileReport) -> Iterator[str]:
    for result in report.results:
        if result.steady is False:
            yield f"{result.name}: times were not steady when timing began"


def _precise(report: ProfileReport) -> Iterator[str]:
    for result in report.results:
        found = result.summary
        if found is None:
            continue
        half = (found.p50.high - found.p50.low) / 2
        if half > WIDE * found.p50.value:
            share = f"{100 * half / found.p50.value:.0f} %" if found.p50.value else "all of it"
            yield f"{result.name}: the median is known to {share} only: let more runs be timed, on a quiet device"


def _few(report: ProfileReport) -> Iterator[str]:
    counts = [result.summary.count for result in report.results if result.summary is not None]
    if counts and min(counts) < LEAST_FOR_P99:
        yield f"of {min(counts)} runs p99 is hardly more than the longest"


def _pairs(report: ProfileReport) -> Iterator[str]:
    timed = sum(bool(result.samples_ms) for result in report.results)
    if timed > 1 and not report.method.interleaved:
        yield "the contenders were not timed in turns: what the device did meanwhile is in the ratios"


def _virtual(report: ProfileReport) -> Iterator[str]:
    if report.device.virtual:
        yield "a virtual machine: its neighbours take time that it does not see; the ratios are steadier than the times"


ROWS: tuple[Callable[[ProfileReport], Iterator[str]], ...] = (
    _throttled,
    _cooling,
    _clocks,
    _load,
    _governor,
    _threads,
    _battery,
    _settled,
    _precise,
    _few,
    _pairs,
    _virtual,
)


def _mean_clock(snapshot: Snapshot) -> float | None:
    return sum(snapshot.clocks_mhz) / len(snapshot.clocks_mhz) if snapshot.clocks_mhz else None
