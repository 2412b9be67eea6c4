"""One runner a runtime: opened on a model, it turns an input array into the output arrays, and is closed."""

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Runner(Protocol):
    """What verification, prediction and benchmarks ask of a runtime."""

    name: str

    def run(self, image: npt.NDArray[np.generic]) -> list[npt.NDArray[np.float32]]:
        """The outputs for one batch."""
        ...

    def close(self) -> None:
        """Frees the model. The runner is of no use afterwards."""
        ...
