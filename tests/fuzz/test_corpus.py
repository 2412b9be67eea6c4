"""The corpus of every fuzz target, replayed; `make fuzz` searches further."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TARGETS = sorted(path.stem for path in HERE.glob("fuzz_*.py"))


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_fails_on_the_corpus(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(HERE), str(HERE.parent / "hostile"), *sys.path])
    run = runpy.run_path(str(HERE / f"{target}.py"))["load"]()
    files = sorted((HERE / "corpus" / target.removeprefix("fuzz_")).iterdir())
    assert files
    for path in files:
        run(path.read_bytes())
