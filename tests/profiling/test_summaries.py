"""What is computed of a profile: figures, paired ratios, and what is left out."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from evm_deploy.profiling.report import Conditions, DeviceFacts, Method, ProfileReport, Result
from evm_deploy.profiling.summaries import add_summaries, estimate_ratio

BARE = Result("a", "a", "onnxruntime", "CPUExecutionProvider", "onnx", "fp32", "0" * 64, 1, error="it was not run")


@pytest.fixture
def report() -> Callable[..., ProfileReport]:
    """A profile of results a, b, ... with these samples; without samples it failed."""

    def make(*samples: list[float], interleaved: bool = True, rounds: int | None = None) -> ProfileReport:
        results = tuple(
            dataclasses.replace(BARE, name=name, samples_ms=tuple(times), error=None if times else "it failed")
            for name, times in zip("abcdef", samples, strict=False)
        )
        method = Method(100, None, 5, interleaved, rounds)
        return ProfileReport(DeviceFacts("local", "here"), Conditions(), method, results, "2030-01-01T00:00:00Z", "0")

    return make


def test_figures_of_known_times(report: Callable[..., ProfileReport]) -> None:
    found = add_summaries(report([float(value) for value in range(1, 102)])).results[0].summary
    assert found
    assert (found.count, found.min, found.max) == (101, 1.0, 101.0)
    assert (found.p50.value, found.p90.value, found.p95.value, found.p99.value) == (51.0, 91.0, 96.0, 100.0)
    assert found.mean.value == pytest.approx(51)
    assert found.std == pytest.approx(np.std(range(1, 102), ddof=1))


def test_one_sample_is_known_exactly(report: Callable[..., ProfileReport]) -> None:
    found = add_summaries(report([3.0])).results[0].summary
    assert found
    assert (found.std, found.p99.low, found.p99.high) == (0.0, 3.0, 3.0)


@pytest.mark.parametrize("rounds", [-1, 0, 5, 10**12])
def test_rounds_that_a_device_made_up_change_no_figure(report: Callable[..., ProfileReport], rounds: int) -> None:
    found = add_summaries(report([3.0, 1.0, 2.0], rounds=rounds)).results[0].summary
    assert found
    assert (found.p50.value, found.count) == (2.0, 3)


def test_a_result_without_times_has_no_figures(report: Callable[..., ProfileReport]) -> None:
    found = add_summaries(report([], [1.0, 2.0], [2.0, 4.0]))
    assert found.results[0].summary is None
    assert [(each.name, each.reference, each.ratio.value) for each in found.ratios] == [("c", "b", 2.0)]


def test_turns_are_paired() -> None:
    """What slows a turn down tenfold slows both down: the ratio does not see it, the medians' does."""
    slow = np.where(np.arange(100) < 50, 1.0, 10.0) * np.random.default_rng(0).normal(1, 0.001, 100)
    paired = estimate_ratio(1.1 * slow, slow[::1], paired=True)
    apart = estimate_ratio(1.1 * slow, slow, paired=False)
    assert paired
    assert apart
    assert paired.low == pytest.approx(1.1)
    assert paired.high == pytest.approx(1.1)
    assert apart.high - apart.low > 1


def test_series_of_different_lengths_are_not_paired(report: Callable[..., ProfileReport]) -> None:
    found = add_summaries(report([1.0, 1.0, 1.0], [2.0, 2.0]))
    assert found.ratios[0].ratio.value == 2


def test_a_clock_that_reads_zero_gives_no_ratio(report: Callable[..., ProfileReport]) -> None:
    assert add_summaries(report([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])).ratios == ()
    assert add_summaries(report([0.0, 1.0, 1.0, 1.0, 1.0] * 5, [2.0] * 25)).ratios[0].ratio.value == 2


def test_a_profile_that_was_summarised_gives_the_same_again(report: Callable[..., ProfileReport]) -> None:
    once = add_summaries(report([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]))
    assert add_summaries(once) == once
    assert ProfileReport.from_json(once.to_json().encode()) == once
