"""The held-out calls, for every module here that asks; by its path, since each example has a `data.py`."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

PATH = Path(__file__).resolve().parents[2] / "examples" / "calls" / "data.py"
COUNT = 480  # of the 4,000 held-out images, for what takes no more to see


@pytest.fixture(scope="session")
def calls() -> ModuleType:
    spec = importlib.util.spec_from_file_location("calls_data", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def held_out(calls: ModuleType) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (COUNT, 3, 96, 96) and labels (COUNT,)."""
    images, labels = calls.draw("held-out", COUNT)
    return calls.model_inputs(images), labels
