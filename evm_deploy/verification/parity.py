"""The one gate: an artifact, opened as its users will open it, against PyTorch."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evm_deploy.runtimes import Runner
from evm_deploy.verification.metrics import compare

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ParityRow:
    """One output of one runtime for one input; the figures are those of `metrics.Agreement`."""

    runtime: str
    input: str
    output: str
    max_abs: float
    relative: float
    cosine: float
    psnr: float
    top1: float | None
    passed: bool


@dataclass(frozen=True)
class ParityReport:
    """Every comparison made, what they were held to, and where a failure begins."""

    reference: str  # what the artifact was compared with
    tolerance: float  # of `ParityRow.relative`
    rows: tuple[ParityRow, ...]
    first_divergent_block: str | None = None
    notes: tuple[str, ...] = ()  # what could not be checked, and why

    @property
    def passed(self) -> bool:
        """True when there was something to compare and all of it agrees."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The report and its verdict, as the manifest keeps them."""
        return dataclasses.asdict(self) | {"passed": self.passed}


def compare_runners(
    runners: Sequence[Runner],
    images: Mapping[str, Array],
    expected: Mapping[str, Sequence[Array]],
    outputs: Sequence[str],
    tolerance: float,
    *,
    meaning: str,
) -> tuple[ParityRow, ...]:
    """Runs every image on every runner. Of class scores the first class must agree too, unless the reference itself
    has two classes within the tolerance of each other. Probabilities are compared as the logits they came from, up to
    a constant: a thousand of them are all so small that any tolerance would pass.
    """
    scores = meaning != "features"
    rows = []
    for runner in runners:
        for name, image in images.items():
            for output, found, wanted in zip(outputs, runner.run(image), expected[name], strict=True):
                if meaning == "probabilities":
                    found, wanted = _centred_logits(found), _centred_logits(wanted)
                agreement = compare(found, wanted, scores=scores)
                same_class = agreement.top1 in (None, 1.0) or _tie(wanted, tolerance)
                passed = agreement.relative <= tolerance and same_class
                rows.append(ParityRow(runner.name, name, output, **dataclasses.asdict(agreement), passed=passed))
    return tuple(rows)


def _centred_logits(probabilities: Array) -> Array:
    logs = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))  # what float32 cannot hold is 0
    centred: Array = logs - logs.mean(-1, keepdims=True)
    return centred


def _tie(scores: Array, tolerance: float) -> bool:
    """True when some row's two best scores are closer than twice the tolerance."""
    best = np.sort(scores, -1)[..., -2:]
    if best.shape[-1] < 2:
        return False
    return bool((best[..., 1] - best[..., 0] <= 2 * tolerance * max(1.0, float(np.abs(scores).max()))).any())
