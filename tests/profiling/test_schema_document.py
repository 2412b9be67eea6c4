"""`docs/profile-schema.md` names every field of the schema, and no other."""

import dataclasses
import re
from pathlib import Path

import pytest

from evm_deploy.profiling import report

DOCUMENT = (Path(__file__).parents[2] / "docs" / "profile-schema.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", DOCUMENT, re.DOTALL | re.MULTILINE))
TYPES = [
    each for each in vars(report).values() if dataclasses.is_dataclass(each) and each.__module__ == report.__name__
]


@pytest.mark.parametrize("each", TYPES, ids=lambda each: each.__name__)
def test_every_field_is_described(each: type) -> None:
    named = re.findall(r"^\| `(\w+)` \|", SECTIONS[each.__name__], re.MULTILINE)
    assert sorted(named) == sorted(field.name for field in dataclasses.fields(each))


def test_every_table_is_of_a_type() -> None:
    assert {name for name, text in SECTIONS.items() if "| `" in text} == {each.__name__ for each in TYPES}


def test_the_version_is_the_one_that_is_described() -> None:
    assert f"`schema` is `{report.SCHEMA}`, `version` {report.VERSION}" in DOCUMENT
