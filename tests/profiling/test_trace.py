"""The Chrome trace: valid, nested, and of the times that were told."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.profiling.report import LEAST, Operators, TimedOperator
from evm_deploy.profiling.trace import SECTION, WHOLE, write_chrome_trace

TIMES = st.just(0.0) | st.floats(LEAST, 1e4, allow_nan=False)


def row(block: str, ms: float, span: tuple[float, float] | None = None, name: str = "n") -> TimedOperator:
    return TimedOperator(name, "Conv", "convolution", block, ms, 0.5, 10, 20, 0.1, span)


def events(*rows: TimedOperator) -> list[dict[str, Any]]:
    value = json.loads(write_chrome_trace(Operators(1, 1.0, rows), "bundle"))
    return [event for event in value["traceEvents"] if event["ph"] == "X"]


ROWS = (row("a", 2.0, (0.0, 1.5)), row("a", 1.0, (2.0, 3.0)), row("b", 1.0, (3.0, 5.0)), row("", 1.0, (5.0, 5.5)))


def test_a_run_holds_blocks_which_hold_operators_at_the_times_of_the_run() -> None:
    found = [(event["name"], event["cat"], event["ts"], event["dur"]) for event in events(*ROWS)]
    assert found == [
        (WHOLE, "run", 0, 5500),
        ("a", "block", 0, 3000),
        ("n", "convolution", 0, 1500),
        ("n", "convolution", 2000, 1000),
        ("b", "block", 3000, 2000),
        ("n", "convolution", 3000, 2000),
        (SECTION, "block", 5000, 500),
        ("n", "convolution", 5000, 500),
    ]


def test_a_block_that_is_left_and_comes_back_is_there_twice() -> None:
    names = [event["name"] for event in events(row("a", 1), row("b", 1), row("a", 1)) if event["cat"] == "block"]
    assert names == ["a", "b", "a"]


def test_without_times_of_a_run_operators_stand_end_to_end_and_the_trace_says_so() -> None:
    rows = (row("a", 2.0, (0.0, 1.5)), row("a", 1.0))
    assert [(event["ts"], event["dur"]) for event in events(*rows)][2:] == [(0, 2000), (2000, 1000)]
    assert "means" in json.loads(write_chrome_trace(Operators(1, 1.0, rows), "x"))["otherData"]["times"]
    assert "one run" in json.loads(write_chrome_trace(Operators(1, 1.0, ROWS), "x"))["otherData"]["times"]


def test_what_is_not_known_is_left_out() -> None:
    (event,) = (
        event for event in events(TimedOperator("n", "Add", "elementwise", "", 1.0, 1.0)) if event["name"] == "n"
    )
    assert event["args"] == {"operator": "Add", "kind": "elementwise", "mean ms": 1.0, "share": 1.0}


def test_names_may_be_anything() -> None:
    name = 'a "quoted" </script> \n \u2028 name'
    assert name in [event["name"] for event in events(row(name, 1.0, name=name))]


def test_no_operators_no_events() -> None:
    assert events() == []


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), TIMES, st.none() | st.tuples(TIMES, TIMES)), max_size=12))
def test_events_are_nested_or_apart_whatever_a_device_tells(
    given: list[tuple[str, float, tuple[float, float] | None]],
) -> None:
    found = events(*(row(block, ms, span) for block, ms, span in given))
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in found)
    tolerance = 0.01  # microseconds: times are rounded to a thousandth
    for category in ("block", "convolution"):
        same = [event for event in found if event["cat"] == category]
        assert all(one["ts"] + one["dur"] <= two["ts"] + tolerance for one, two in pairwise(same))
    block = {"ts": 0.0, "dur": 0.0}
    for event in found[1:]:
        if event["cat"] == "block":
            block = event
        else:
            assert block["ts"] <= event["ts"] + tolerance
            assert event["ts"] + event["dur"] <= block["ts"] + block["dur"] + tolerance
