"""Writes a run as a Chrome trace for Perfetto and chrome://tracing: the run, its blocks, their operators."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

from evm_deploy.profiling.report import Operators, TimedOperator

Span = tuple[float, float]  # start and end, milliseconds
SECTION, WHOLE = "(outside the blocks)", "run"


def write_chrome_trace(operators: Operators, name: str) -> str:
    """The JSON text of the trace, with the times of the run in `TimedOperator.span_ms`. name: the name of the result.

    Without such times, the trace shows the operators one after another with their mean times, and says so.
    """
    spans = _place_spans(operators.rows)
    told = all(row.span_ms is not None for row in operators.rows)
    other = {"name": name, "times": "of one run" if told else "means of several runs, laid end to end"}
    events = [
        {"ph": "M", "name": "process_name", "pid": 1, "tid": 1, "args": {"name": name}},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": "onnxruntime"}},
        *_list_events(operators, spans),
    ]
    value = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": other}
    return json.dumps(value, allow_nan=False, indent=1) + "\n"


def _place_spans(rows: tuple[TimedOperator, ...]) -> list[Span]:
    """The start and end of each operator, without overlap, because overlapping events of a thread count as nested."""
    spans, end = [], 0.0
    told = all(row.span_ms is not None for row in rows)
    for row in rows:
        start, stop = row.span_ms if told and row.span_ms else (end, end + row.ms)
        start = max(start, end)
        end = max(stop, start)
        spans.append((start, end))
    return spans


def _list_events(operators: Operators, spans: list[Span]) -> Iterator[dict[str, Any]]:
    if not spans:
        return
    yield _make_event(WHOLE, "run", (spans[0][0], spans[-1][1]), {"operators": len(spans)})
    placed = zip(operators.rows, spans, strict=True)
    for block, group in itertools.groupby(placed, key=lambda pair: pair[0].block):
        members = list(group)
        yield _make_event(block or SECTION, "block", (members[0][1][0], members[-1][1][1]), {"operators": len(members)})
        for row, span in members:
            yield _make_event(row.name, row.kind, span, _collect_facts(row))


def _make_event(name: str, category: str, span: Span, facts: dict[str, Any]) -> dict[str, Any]:
    start, end = (round(1e3 * moment, 3) for moment in span)  # microseconds
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": 1,
        "tid": 1,
        "ts": start,
        "dur": round(end - start, 3),
        "args": facts,
    }


def _collect_facts(row: TimedOperator) -> dict[str, Any]:
    facts = {"operator": row.op, "kind": row.kind, "mean ms": row.ms, "share": row.share}
    optional = {"FLOPs": row.flops, "bytes": row.bytes, "roofline ms": row.roofline_ms}
    return facts | {name: value for name, value in optional.items() if value is not None}
