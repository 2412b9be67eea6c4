"""What the charts are computed of, and that each is a picture that any reader of SVG reads."""

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.profiling.report import Operators, ProfileReport, Roofline, TimedOperator
from evm_deploy.reporting.accuracy import Accuracy, AccuracyShare
from evm_deploy.reporting.charts import accuracy, blocks, kinds, ratios, roofline, spread, times, turns
from evm_deploy.reporting.entries import collect_entries
from evm_deploy.reporting.html import CHARTS
from evm_deploy.reporting.scales import Scale, fit_scale
from evm_deploy.reporting.svg import WIDTH, draw_legend, draw_line, draw_path, draw_text, shorten

Make = Callable[..., Any]
ALL = [chart.draw for chart in CHARTS] + [kinds.draw]


def rows(*times_by_block: tuple[str, str, float]) -> Operators:
    made = [
        TimedOperator(str(i), "Conv", kind, block, ms, 0.1, 1000, 10)
        for i, (kind, block, ms) in enumerate(times_by_block)
    ]
    return Operators(1, 10.0, tuple(made), Roofline(10.0, 1.0))


@pytest.mark.parametrize("draw", ALL)
def test_a_chart_is_a_picture(report: ProfileReport, hostile: ProfileReport, draw: Callable[..., Any]) -> None:
    known = (Accuracy("tiny", "onnxruntime", "fp32", AccuracyShare(0.5, 0.4, 0.6)),)
    for found in (collect_entries([report], known), collect_entries([hostile, report], known)):
        root = ET.fromstring(draw(found))
        assert root.get("aria-label")
        assert not [node for node in root.iter() if node.tag in ("script", "img", "style") or "style" in node.attrib]
        xs = [float(node.get("x", 0)) for node in root.iter()]
        assert all(-1 <= x <= WIDTH for x in xs)


@pytest.mark.parametrize("draw", ALL)
def test_nothing_to_draw_is_no_chart(make_profile: Make, make_result: Make, draw: Callable[..., Any]) -> None:
    assert draw(collect_entries([make_profile(make_result("a", 1.0, samples_ms=(), error="failed"))])) is None


def test_times_of_zero_are_drawn(make_profile: Make, make_result: Make) -> None:
    """A browser's clock may be as coarse as a run takes."""
    found = collect_entries([make_profile(make_result("a", 1.0, samples_ms=(0.0, 0.0, 0.0)), make_result("b", 1.0))])
    for draw in (times.draw, spread.draw, turns.draw):
        assert "nan" not in (draw(found) or "")


@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=50), st.booleans())
def test_a_density_peaks_at_one_within_the_axis(samples: list[float], log: bool) -> None:
    scale = fit_scale(samples, 8, 400, log=log)
    points = times.estimate_density(samples, scale)
    assert max(height for _, height in points) == pytest.approx(1.0)
    assert all(8 - 1e-6 <= x <= 400 + 1e-6 for x, _ in points)


def test_a_density_peaks_where_most_samples_are() -> None:
    samples = np.concatenate([np.random.default_rng(0).normal(30, 1, 5000), np.full(50, 80.0)])
    place, _ = max(
        times.estimate_density([float(one) for one in samples], Scale(0, 100, 0, 100)), key=lambda point: point[1]
    )
    assert place == pytest.approx(30, abs=2)


def test_many_samples_make_no_larger_picture(make_profile: Make, make_result: Make) -> None:
    small, large = (collect_entries([make_profile(make_result("a", 1.0, count=count))]) for count in (200, 10_000))
    for draw in (times.draw, spread.draw, turns.draw):
        assert len(draw(large) or "") < 1.3 * len(draw(small) or "")


def test_the_front_is_what_nobody_beats() -> None:
    def point(ms: float, top1: float) -> Any:
        return (None, ms, AccuracyShare(top1, top1, top1))

    slow, fast, beaten, same = point(9, 0.9), point(1, 0.5), point(5, 0.4), point(9, 0.8)
    assert accuracy.find_front([slow, beaten, fast, same]) == [fast, slow]


def test_kinds_add_up_to_the_whole() -> None:
    operators = rows(("scan", "a", 2.0), ("matmul", "a", 3.0), ("unheard of", "b", 1.0))
    assert kinds.split_by_kind(operators) == {"scan": 2.0, "matmul": 3.0, "other": 1.0, kinds.REST: 4.0}
    assert kinds.REST not in kinds.split_by_kind(dataclasses.replace(operators, whole_ms=5.0))


def test_bars_are_as_wide_as_their_time() -> None:
    drawn = [
        ET.fromstring(one) for one in kinds.draw_stack({"scan": 1.0, "norm": 0.001, "matmul": 3.0}, 10, 50, 0, 5, 4.0)
    ]
    assert [(float(one.get("x", 0)), float(one.get("width", 0))) for one in drawn] == [(10, 50), (60.05, 150)]


def test_blocks_are_in_the_order_of_the_network() -> None:
    operators = rows(("scan", "b", 1.0), ("norm", "a", 2.0), ("norm", "b", 3.0), ("norm", "", 4.0))
    assert {name: len(found) for name, found in blocks.group_by_block(operators).items()} == {
        "b": 2,
        "a": 1,
        blocks.OUTSIDE: 1,
    }


def test_very_many_blocks_become_the_longest_and_others() -> None:
    operators = rows(*(("scan", f"block{index}", float(index)) for index in range(200)))
    found = blocks.group_by_block(operators)
    assert len(found) == blocks.MOST
    assert "block199" in found
    assert len(found[blocks.OTHERS]) == 200 - blocks.MOST + 1


def test_points_of_the_roofline() -> None:
    operators = rows(("scan", "a", 2.0), ("matmul", "a", 4.0))
    free = TimedOperator("free", "Reshape", "layout", "a", 0.0, 0.0, 0, 0)
    found = roofline.list_points(dataclasses.replace(operators, rows=(*operators.rows, free)))
    assert [(point.row.ms, point.intensity, point.speed) for point in found] == [
        (4.0, 100.0, 2.5e-4),
        (2.0, 100.0, 5e-4),
    ]
    assert roofline.draw(dataclasses.replace(operators, roofline=None)) is None


def test_a_ratio_says_whether_it_is_a_difference(make_profile: Make, make_result: Make) -> None:
    same = make_result("a", 1.0)
    twin = dataclasses.replace(same, name="b")
    assert "contains 1" in (ratios.draw(collect_entries([make_profile(same, twin)])) or "")
    assert "does not contain 1" in (ratios.draw(collect_entries([make_profile(same, make_result("slow", 3.0))])) or "")


@given(st.text(max_size=60), st.floats(20, 400))
def test_shortened_words_fit(words: str, width: float) -> None:
    found = shorten(words, width)
    assert len(found) <= max(8, len(words))
    assert found == words or ("…" in found and len(found) < len(words))


def test_words_are_escaped() -> None:
    assert ET.fromstring(draw_text(1, 2, "<b>&\"'", title="</title>")).text == "<b>&\"'"
    assert ET.fromstring(draw_path([(0, 0)], title="<", class_='"')).get("class") == '"'
    assert "<b>" not in "".join(draw_line(0, "<b>", "<b>") + draw_legend([("<b>", "c0")], 0)[0])


def test_a_legend_takes_the_lines_that_it_needs() -> None:
    assert (
        draw_legend([("one", "c0")], 0)[1]
        < draw_legend([(f"a rather long name {index}", "c0") for index in range(9)], 0)[1]
    )
