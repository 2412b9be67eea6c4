"""How close two sets of outputs are, in the figures that people quote."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evm_deploy.tasks.io_spec import IOSpec

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """Found against expected: the largest absolute error, the same as a share of the largest |expected| (at least 1),
    cosine of the angle, peak signal to noise in dB, and the share of rows with the same first class (scores only).
    """

    max_abs: float
    relative: float
    cosine: float
    psnr: float
    top1: float | None


@dataclass(frozen=True)
class Comparison:
    """What was compared, by its name, and whether it is close enough."""

    output: str
    agreement: Agreement
    passed: bool


class ShapeDiffers(ValueError):
    """An output has another shape than the one that it is compared with."""

    def __init__(self, output: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        super().__init__(f"{output} has shape {found}, not {expected}")
        self.output, self.found, self.expected = output, found, expected


def compare(found: Array, expected: Array, *, scores: bool) -> Agreement:
    """Raises ValueError when the shapes differ. A value that is not finite counts as an infinite error."""
    if found.shape != expected.shape:
        raise ValueError(f"shape {found.shape} where {expected.shape} is expected")
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return Agreement(np.inf, np.inf, 0.0, -np.inf, 0.0 if scores else None)
    a, b = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    error, peak = np.abs(a - b).max(), np.abs(b).max()
    noise = np.mean((a - b) ** 2)
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return Agreement(
        max_abs=float(error),
        relative=float(error / max(peak, 1.0)),
        cosine=float(a @ b / norms) if norms else float(error == 0),
        psnr=float(10 * np.log10(peak**2 / noise)) if noise and peak else np.inf,
        top1=float(np.mean(found.argmax(-1) == expected.argmax(-1))) if scores else None,
    )


def check_shapes(
    found: Sequence[npt.NDArray[Any]], expected: Sequence[npt.NDArray[Any]], outputs: Sequence[IOSpec]
) -> None:
    """Raises ShapeDiffers for the first output that has another shape than is expected."""
    for one, other, spec in zip(found, expected, outputs, strict=True):
        if one.shape != other.shape:
            raise ShapeDiffers(spec.name, one.shape, other.shape)
