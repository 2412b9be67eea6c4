"""Malformed files of every kind, given to the commands: a few with every run of the tests, a thousand with the slow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "run.py"


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads the memory of its children from /proc")
@pytest.mark.parametrize(
    "options", [("--quick", "--count", "12"), pytest.param(("--count", "1000"), marks=pytest.mark.slow)]
)
def test_no_malformed_file_does_harm(options: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, RUN, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
