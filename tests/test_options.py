"""Options stand beside the fields of a dataclass, and the command line is made of them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evm_deploy.benchmarking.benchmark_options import BenchmarkOptions
from evm_deploy.calib.quantize_options import QuantizeOptions
from evm_deploy.errors import OptionError
from evm_deploy.evaluation.evaluate_options import EvaluateOptions
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.options import check_ranges, make_options, option, read_options, spell_option
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.profiling.profile_options import ProfileOptions

ALL = (BenchmarkOptions, EvaluateOptions, ExportOptions, PackageOptions, ProfileOptions, QuantizeOptions)


@dataclass(frozen=True)
class Options:
    place: Path = field(metadata=option("Where.", "--for", kind=Path))
    sizes: tuple[int, ...] = field(
        default=(1, 2),
        metadata=option(
            "Sizes.", kind=str, default="1,2", parse=lambda text: tuple(map(int, text.split(","))), minimum=1
        ),
    )
    largest: int = field(
        default=2, metadata=option("", read_from="sizes", parse=lambda text: max(map(int, text.split(","))))
    )
    count: int = field(default=3, metadata=option("How many.", minimum=1, maximum=9))
    share: float | None = field(default=None, metadata=option("How much.", kind=float, minimum=0, fix="more."))
    check_all: bool = field(default=True, metadata=option("Check less."))
    fast: bool = field(default=False, metadata=option("Hurry."))
    names: tuple[str, ...] = field(default=(), metadata=option("Who.", "--name", kind=list))
    callback: Any = None  # for Python alone

    def __post_init__(self) -> None:
        check_ranges(self)


GIVEN = {
    "place": Path("here"), "sizes": "4,5", "count": 1, "share": None, "check_all": False, "fast": True, "names": None
}  # fmt: skip


def test_spellings() -> None:
    known = {name: one.spelling for name, one in read_options(Options).items()}
    assert known == {
        "place": "--for",
        "sizes": "--sizes",
        "largest": "--largest",
        "count": "--count",
        "share": "--share",
        "check_all": "--no-check-all",
        "fast": "--fast",
        "names": "--name",
    }
    assert spell_option(Options, "callback") == "callback"


def test_options_are_made_from_what_was_read() -> None:
    assert make_options(Options, GIVEN) == Options(Path("here"), (4, 5), 5, 1, fast=True)
    made = make_options(Options, GIVEN | {"names": ["a", "b"], "check_all": True})
    assert made.names == ("a", "b")
    assert made.check_all is False  # the flag --no-check-all was given


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"count": 0}, "--count 0 is not within 1 to 9."),
        ({"count": 10}, "--count 10 is not within 1 to 9."),
        ({"count": 1.5}, "--count 1.5 is not within 1 to 9."),
        ({"count": "3"}, "--count 3 is not within 1 to 9."),
        ({"sizes": (3, 0)}, "--sizes 0 is less than 1."),
        ({"share": float("nan")}, "--share nan is less than 0."),
    ],
)
def test_ranges(change: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        Options(Path(), **change)
    assert caught.value.cause == said


def test_a_range_may_have_its_own_fix() -> None:
    with pytest.raises(OptionError) as caught:
        Options(Path(), share=-1)
    assert caught.value.fix == "more."
    with pytest.raises(OptionError) as caught:
        Options(Path(), count=0)
    assert caught.value.fix == "choose --count within it."


@pytest.mark.parametrize("kind", ALL)
def test_what_the_command_line_has_by_default_is_the_default(kind: type[Any]) -> None:
    required = {"platform": "web"} if kind is PackageOptions else {}
    values = {name: one.default for name, one in read_options(kind).items()} | required
    assert make_options(kind, values) == kind(**required)


@pytest.mark.parametrize("kind", ALL)
def test_no_two_options_are_spelled_alike(kind: type[Any]) -> None:
    spellings = [one.spelling for one in read_options(kind).values()]
    assert len(set(spellings)) == len(spellings)


@pytest.mark.parametrize("kind", ALL)
def test_an_option_with_a_range_is_read_as_a_number(kind: type[Any]) -> None:
    for name, one in read_options(kind).items():
        assert one.minimum is None or one.kind in (int, float) or one.parse("1") != "1", name
