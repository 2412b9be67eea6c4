"""The icicle: as wide as it takes long, and safe whatever names are."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.profiling import flame
from evm_deploy.profiling.kinds import KINDS
from evm_deploy.profiling.report import Operators, TimedOperator

SVG = "{http://www.w3.org/2000/svg}"


def row(block: str, kind: str, ms: float, name: str = "n", op: str = "Conv") -> TimedOperator:
    return TimedOperator(name, op, kind, block, ms, 0.1, 1_000_000, 2_000, 0.5)


def boxes(*rows: TimedOperator, name: str = "bundle") -> list[tuple[int, float, float, str]]:
    """Depth, left, width and title of every box."""
    root = ElementTree.fromstring(flame.draw_flame(Operators(1, 1.0, rows), name))
    found = []
    for group in root.iter(f"{SVG}g"):
        rectangle, title = group.find(f"{SVG}rect"), group.findtext(f"{SVG}title")
        assert rectangle is not None
        depth = (int(rectangle.attrib["y"]) - flame.TOP) // flame.ROW
        found.append((depth, float(rectangle.attrib["x"]), float(rectangle.attrib["width"]), title or ""))
    return found


ROWS = (row("a", "scan", 3.0), row("a", "matmul", 1.0), row("b", "scan", 4.0))


def test_widths_are_shares_of_the_time() -> None:
    found = {(depth, round(x)): round(width + flame.GAP) for depth, x, width, _ in boxes(*ROWS)}
    whole = flame.WIDTH
    assert found[0, 0] == whole
    assert (found[1, 0], found[1, whole // 2]) == (whole // 2, whole // 2)
    assert (found[2, 0], found[2, 3 * whole // 8]) == (3 * whole // 8, whole // 8)


def test_titles_say_what_a_box_is() -> None:
    titles = [title for *_, title in boxes(*ROWS)]
    assert titles[0] == "bundle: 8.000 ms in 3 operators"
    assert titles[1] == "a: 4.000 ms, 50.0%, 2 operators"
    assert "n (Conv): 3.000 ms, 10.0%; 1 MFLOP, 0.333 GFLOP/s; 2 kB, 0.000667 GB/s; roofline 0.500 ms" in titles


def test_operators_too_thin_to_be_seen_are_drawn_as_one() -> None:
    many = [row("a", "scan", 0.001, name=f"thin {i}") for i in range(500)]
    titles = [title for *_, title in boxes(row("a", "scan", 100.0), *many)]
    assert len(titles) == 5
    assert titles[-1].startswith("500 more: 0.500 ms")


def test_a_box_stays_within_that_of_its_block() -> None:
    rows = [row(f"b{i % 3}", KINDS[i % len(KINDS)], 0.1 + i % 7) for i in range(60)]
    parents = [(x, x + width + flame.GAP) for depth, x, width, _ in boxes(*rows) if depth == 1]
    for depth, x, width, title in boxes(*rows):
        if depth > 1:
            assert any(left - 0.1 <= x and x + width <= right + 0.1 for left, right in parents), title


def test_operators_outside_of_blocks_and_of_new_kinds_are_shown() -> None:
    titles = " ".join(title for *_, title in boxes(row("", "telepathy", 1.0)))
    assert "outside the blocks" in titles
    assert "telepathy" in titles


@pytest.mark.parametrize("rows", [(), (row("a", "scan", 0.0),)])
def test_nothing_that_takes_time_is_still_a_picture(rows: tuple[TimedOperator, ...]) -> None:
    assert boxes(*rows)[0][3].startswith("bundle: 0.000 ms")


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_names_are_text_and_never_markup(name: str, block: str, op: str) -> None:
    hostile = '</title><script>alert(1)</script>"&'
    rows = (row(block + hostile, "scan", 5.0, name=name + hostile, op=op), row("b", name + hostile, 1.0))
    picture = flame.draw_flame(Operators(1, 1.0, rows), name + hostile)
    assert "<script" not in picture
    assert {element.tag.removeprefix(SVG) for element in ElementTree.fromstring(picture).iter()} <= set(
        "svg style rect text g title".split()
    )


@pytest.mark.parametrize(
    ("label", "width", "shown"),
    [
        ("layers.2.1", 100, "layers.2.1"),
        ("layers.2.1", 40, "2.1"),
        ("convolution", 60, "convolu…"),
        ("convolution", 20, ""),
    ],
)
def test_a_label_is_shortened_to_what_fits(label: str, width: float, shown: str) -> None:
    assert flame._fit_label(label, width) == shown


def test_colours_follow_the_scheme_of_the_page() -> None:
    picture = flame.draw_flame(Operators(1, 1.0, ROWS), "bundle")
    assert "prefers-color-scheme:dark" in picture
    assert set(flame.COLOURS) == set(KINDS)
