"""The golden outputs of the authors' network, and the weights and images that they belong to."""

import importlib.util
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evm_deploy.model import VARIANTS, EfficientVMamba, ModelConfig

FOLDER = Path(__file__).parent.parent / "golden"
MICRO = ModelConfig((16, 32, 64, 128), (1, 1, 1, 1), num_classes=10)


class Golden:
    """Golden networks and what they must give."""

    def __init__(self) -> None:
        self.configs = {"micro": MICRO, **VARIANTS}
        spec = importlib.util.spec_from_file_location("golden_weights", FOLDER / "weights.py")
        assert spec
        assert spec.loader
        self.weights: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.weights)
        self.outputs = np.load(FOLDER / "outputs.npz")

    @cache  # noqa: B019  # one Golden a session
    def _arrays(self, name: str) -> dict[str, np.ndarray[Any, Any]]:
        return self.weights.state_dict(FOLDER / f"state_dict_{name}.json")  # type: ignore[no-any-return]

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        return {k: tuple(s) for k, s in json.loads((FOLDER / f"state_dict_{name}.json").read_text()).items()}

    def state_dict(self, name: str) -> dict[str, Tensor]:
        """A fresh copy of the weights of `name`, such as "tiny" or "backbone_tiny"."""
        return {key: torch.from_numpy(array.copy()) for key, array in self._arrays(name).items()}

    def model(self, name: str, **changes: Any) -> EfficientVMamba:
        config = self.configs[name.removeprefix("backbone_")]
        fields = {"num_classes": None} if name.startswith("backbone_") else {}
        model = EfficientVMamba(ModelConfig(**{**vars(config), **fields, **changes})).eval()
        model.load_state_dict(self.state_dict(name))
        return model

    def image(self, height: int, width: int) -> Tensor:
        return torch.from_numpy(self.weights.image(height, width, seed=height * 1000 + width))

    def error(self, name: str, found: Tensor) -> float:
        """Largest difference of `found` from the golden output `name`."""
        expected = torch.from_numpy(self.outputs[name])
        assert found.shape == expected.shape
        return float((found - expected).abs().max())


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden()


@pytest.fixture
def micro() -> Callable[..., EfficientVMamba]:
    """Networks of MICRO with `changes`, from scratch and always with the same weights."""

    def make(**changes: Any) -> EfficientVMamba:
        torch.manual_seed(0)
        return EfficientVMamba(ModelConfig(**{**vars(MICRO), **changes}))

    return make
