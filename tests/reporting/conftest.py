"""Profiles made up for the tests: figures that can be told from each other, and names that nobody should trust."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from evm_deploy.profiling.report import (
    Conditions,
    DeviceFacts,
    Energy,
    Estimate,
    Golden,
    Memory,
    Method,
    Operators,
    ProfileReport,
    Result,
    Roofline,
    Snapshot,
    TimedOperator,
)
from evm_deploy.profiling.summaries import add_summaries

HOSTILE = "</script><img src=x onerror=alert(1)>\"'`|[a](http://b)*_\x1b[31m\u202e{{7*7}}"


def result(name: str, ms: float, count: int = 40, **changes: Any) -> Result:
    samples = ms * (1 + 0.05 * np.random.default_rng(len(name)).exponential(size=count))
    made = Result(
        name=name,
        bundle=name.partition(" on ")[0],
        runtime=name.partition(" on ")[2] or "onnxruntime",
        provider="CPUExecutionProvider",
        target="onnx",
        precision="fp32",
        sha256="0" * 64,
        size_bytes=26_000_000,
        golden=Golden(1e-6, 1e-4, True),
        load_ms=10 * ms,
        first_ms=2 * ms,
        warm_up_runs=5,
        steady=True,
        samples_ms=tuple(map(float, samples)),
        memory=Memory(200_000_000),
    )
    return dataclasses.replace(made, **changes)


def operators() -> Operators:
    rows = (
        TimedOperator(
            "layers.0/scan", "evm::EfficientScan2D", "scan", "layers.0", 4.0, 0.5, 40_000_000, 1_000_000, 1.0
        ),
        TimedOperator("layers.0/conv", "Conv", "convolution", "layers.0", 3.0, 0.375, 150_000_000, 1_000_000, 2.0),
        TimedOperator("head/<b>", "Softmax", "a newer kind", "", 1.0, 0.125),
    )
    return Operators(10, 8.5, rows, Roofline(100.0, 20.0, 400.0, 80.0, 2_000_000))


def profile(*results: Result, **changes: Any) -> ProfileReport:
    made = ProfileReport(
        device=DeviceFacts("local", "board", "Linux", "aarch64", "Cortex-A76", 4, ("asimddp",), 8_000_000_000),
        conditions=Conditions(
            Snapshot(load=0.1, governor="performance", clocks_mhz=(2400.0,), temperatures_c={"cpu": 45.0}),
            Snapshot(load=1.2, governor="performance", clocks_mhz=(2400.0,), temperatures_c={"cpu": 61.0}),
            threads=1,
            versions={"onnxruntime": "1.31.1"},
        ),
        method=Method(40, None, 5, True),
        results=results,
        created="2026-01-02T03:04:05+00:00",
        tool="0.1.0",
    )
    return add_summaries(dataclasses.replace(made, **changes))


ESTIMATE = Estimate("Orin Nano", 3.2, 1.6, 6.4, "data sheet, page 1", "tensor cores idle")


@pytest.fixture(scope="session")
def report() -> ProfileReport:
    """Four contenders with everything that a profile can hold, one of them failed."""
    return profile(
        result("tiny on onnxruntime", 120.0, operators=operators(), estimates=(ESTIMATE,)),
        result("tiny on onnxruntime + evm_ops", 20.0, energy=Energy("rapl", 0.4, 30.0, 10.0), accuracy=0.75),
        result("tiny-int8 on onnxruntime", 12.0, precision="int8", steady=False, notes=("a note",)),
        result("broken on onnxruntime", 1.0, samples_ms=(), error="its golden pair differs", golden=None),
        warnings=("the governor is powersave",),
    )


@pytest.fixture(scope="session")
def hostile() -> ProfileReport:
    """Names, notes and conditions that would be markup, if anything let them."""
    row = TimedOperator(HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1.0, 1.0, 1000, 10, 0.1)
    bad = result(
        HOSTILE,
        5.0,
        bundle=HOSTILE,
        runtime=HOSTILE,
        notes=(HOSTILE,),
        operators=Operators(1, 1.0, (row,), Roofline(1, 1)),
    )
    guess = dataclasses.replace(ESTIMATE, device=HOSTILE, source=HOSTILE, note=HOSTILE)
    made = profile(dataclasses.replace(bad, estimates=(guess,)), result("other", 6.0, error=HOSTILE, samples_ms=()))
    facts = dataclasses.replace(made.device, name=HOSTILE, cpu=HOSTILE, user_agent=HOSTILE)
    return dataclasses.replace(made, device=facts, warnings=(HOSTILE,), tool=HOSTILE, created=HOSTILE)


@pytest.fixture
def make_result() -> Callable[..., Result]:
    return result


@pytest.fixture
def make_profile() -> Callable[..., ProfileReport]:
    return profile
