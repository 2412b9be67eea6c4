"""PyTorch, with which every other runtime is compared."""

import types

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from evm_deploy.runtimes import TORCH


class TorchRunner:
    """An eval-mode module whose forward takes the image and returns a tensor or a tuple of them."""

    name = TORCH
    untimed = None

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def run(self, image: npt.NDArray[np.generic]) -> list[npt.NDArray[np.float32]]:
        """The outputs for one batch."""
        with torch.inference_mode():
            y = self.model(torch.from_numpy(image))
        return [t.numpy() for t in (y if isinstance(y, tuple) else (y,))]

    def close(self) -> None:
        """Nothing to free."""

    def __enter__(self) -> "TorchRunner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()
