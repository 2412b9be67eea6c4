"""The one table, for terminals and Markdown, and what is said below it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from evm_deploy.console import clean
from evm_deploy.errors import InputError
from evm_deploy.profiling.report import ProfileReport, Result
from evm_deploy.reporting import markdown, table
from evm_deploy.reporting.accuracy import Accuracy, AccuracyShare
from evm_deploy.reporting.columns import COLUMNS, choose_columns, find_common_values, list_unmeasured, make_cells
from evm_deploy.reporting.entries import COLOURS, collect_entries, make_slug, name_devices

Make = Callable[..., Any]
HOSTILE = "</script><img src=x onerror=alert(1)>\"'`|[a](http://b)*_\x1b[31m\u202e{{7*7}}"  # as of the fixture


def column(report: ProfileReport, head: str, *known: Accuracy) -> list[Any]:
    heads, rows = table.tabulate_contenders(report, known)
    return [row[heads.index(head)] for row in rows]


def test_a_row_for_each_contender(report: ProfileReport) -> None:
    assert column(report, "model") == ["tiny", "tiny", "tiny-int8", "broken"]
    assert column(report, "precision") == ["fp32", "fp32", "int8", "fp32"]
    assert column(report, "MB") == ["26.0"] * 4
    assert column(report, "energy mJ") == [None, "400", None, None]
    assert column(report, "top-1 %") == [None, "75.00", None, None]
    assert column(report, "p50 ms")[3] is None


def test_the_median_stands_with_its_interval(report: ProfileReport) -> None:
    summary = report.results[0].summary
    assert summary is not None
    value, bracket, _ = column(report, "p50 ms")[0].partition(" [")
    assert bracket
    assert float(value) == pytest.approx(summary.p50.value, rel=5e-3)


def test_ratios_are_by_the_first(report: ProfileReport) -> None:
    ratios = column(report, "of the first")
    assert ratios[0] is None
    assert float(ratios[1].split()[0]) == pytest.approx(20 / 120, rel=0.05)


def test_what_nobody_measured_has_no_column(make_profile: Make, make_result: Make) -> None:
    bare = collect_entries([make_profile(make_result("a", 1.0, memory=None, golden=None))])
    heads = {one.head for one in choose_columns(bare)}
    assert not heads & {"energy mJ", "top-1 %", "memory MB", "golden error", "of the first"}
    assert set(list_unmeasured(bare)) == {"energy mJ", "top-1 %", "memory MB", "golden error", "of the first"}
    assert all(len(row) == len(choose_columns(bare)) for row in make_cells(bare))


def test_what_is_the_same_for_all_is_said_once(report: ProfileReport) -> None:
    rows = collect_entries([report])
    assert find_common_values(rows) == [("format", "onnx"), ("device", "board")]
    assert {"format", "device"}.isdisjoint(one.head for one in choose_columns(rows))
    assert {"format", "device"}.isdisjoint(list_unmeasured(rows))
    alone = collect_entries([dataclasses.replace(report, results=report.results[:1])])
    assert find_common_values(alone) == []
    assert [one.head for one in COLUMNS if one.always and one not in choose_columns(alone)] == []


def test_of_several_devices_each_row_says_which(report: ProfileReport) -> None:
    reports = [report, report]
    assert name_devices(reports) == ["board (1)", "board (2)"]
    rows = collect_entries(reports)
    assert len({row.label for row in rows}) == len(rows) == 8
    assert rows[7].colour == f"c{7 % COLOURS}"
    heads, lines = table.tabulate_reports(reports)
    assert [line[heads.index("device")] for line in lines] == ["board (1)"] * 4 + ["board (2)"] * 4


def test_two_ways_of_one_name_are_told_apart(make_profile: Make, make_result: Make) -> None:
    twins = [make_result(name, 1.0, bundle="tiny", runtime="onnxruntime") for name in ("tiny", "tiny (2)")]
    assert column(make_profile(*twins), "model") == ["tiny", "tiny (2)"]


def test_no_report() -> None:
    with pytest.raises(InputError, match="no profile"):
        table.tabulate_reports([])


def test_what_has_to_be_said(report: ProfileReport) -> None:
    said = table.list_footer_lines(report)
    assert said[0].startswith("40 runs each, in turns, 1 thread, one image at a time, on board, Cortex-A76, 4 cores")
    assert "warning: the governor is powersave" in said
    assert "broken on onnxruntime: failed: its golden pair differs" in said
    assert "tiny-int8 on onnxruntime: a note" in said
    estimates = [line for line in said if "Orin" in line]
    assert len(estimates) == 1
    assert estimates[0].startswith("tiny on onnxruntime: estimate, not measured: Orin Nano 3.2 ms, 1.6 to 6.4")


def test_what_is_said_of_several_is_said_once(report: ProfileReport) -> None:
    names = [result.name for result in report.results]
    said = [f"{name}: few runs" for name in names] + [f"{name}: wide" for name in names[:2]] + ["busy", "c: d"]
    grouped = table.group_warnings(dataclasses.replace(report, warnings=tuple(said)))
    assert grouped == ["all contenders: few runs", f"{names[0]}, {names[1]}: wide", "busy", "c: d"]


@pytest.mark.parametrize(
    ("seconds", "threads", "words"), [(2.5, 0, "2.50 s each, as many"), (None, 2, "40 runs each, 2 threads")]
)
def test_the_method_in_words(make_profile: Make, make_result: Make, seconds: float, threads: int, words: str) -> None:
    made: ProfileReport = make_profile(make_result("a", 1.0))
    method = dataclasses.replace(made.method, seconds=seconds)
    conditions = dataclasses.replace(made.conditions, threads=threads)
    assert table.describe_method(dataclasses.replace(made, method=method, conditions=conditions)).startswith(words)


def test_markdown_is_a_table(report: ProfileReport) -> None:
    text = markdown.render_table([report])
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert [token.type for token in tokens].count("tr_open") == 5
    assert tokens[0].type == "table_open"
    page = markdown.render([report], notes=["a further note"])
    assert page.startswith("# Profile\n\n| model |")
    assert "- a further note\n" in page
    assert "The same for all: format onnx, device board." in page


def test_hostile_names_are_text_in_markdown(hostile: ProfileReport) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown.render([hostile]))
    kinds = {child.type for token in tokens for child in token.children or []}
    assert kinds <= {"text", "text_special", "softbreak"}
    assert {token.type for token in tokens if token.type.endswith("_open")} <= {
        *(f"{name}_open" for name in ("heading", "paragraph", "table", "thead", "tbody", "tr", "th", "td")),
        *(f"{name}_open" for name in ("bullet_list", "list_item")),
    }
    assert "\x1b" not in markdown.render([hostile])
    first = tokens[[token.type for token in tokens].index("td_open") + 1]
    assert "".join(child.content for child in first.children or []) == clean(HOSTILE)


@pytest.mark.parametrize("address", ["http://a.b", "HTTPS://a.b", "www.a.b", "ftp://a.b"])
def test_no_address_becomes_a_link(address: str) -> None:
    """GitHub makes links of what looks like an address."""
    assert "://" not in markdown.escape(address)
    assert "www." not in markdown.escape(address)


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_words_stay_words_in_markdown(words: str) -> None:
    html = MarkdownIt("commonmark").enable("table").render(f"- {markdown.escape(words)}x\n")
    assert html.count("<") == 4 or not markdown.escape(words).strip()


@pytest.mark.parametrize(
    ("words", "part"), [("a b/c:d", "a-b-c-d"), ("../..", "result"), ("ü" * 9, "result"), ("x" * 99, "x" * 60)]
)
def test_parts_of_file_names(words: str, part: str) -> None:
    assert make_slug(words) == part


def test_a_result_without_summary_is_shown(make_profile: Make, make_result: Callable[..., Result]) -> None:
    made: ProfileReport = make_profile(make_result("a", 1.0))
    bare = dataclasses.replace(made, results=(dataclasses.replace(made.results[0], summary=None),))
    assert "p50 ms" not in table.tabulate_contenders(bare)[0]


def test_accuracy_that_was_evaluated(report: ProfileReport) -> None:
    known = Accuracy("bundles/tiny", "onnxruntime", "fp32", AccuracyShare(0.5, 0.4, 0.6))
    assert column(report, "top-1 %", known) == ["50.00 [40.0, 60.0]"] * 2 + [None, None]
