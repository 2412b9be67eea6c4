"""The one gate: an artifact, opened as its users will open it, against PyTorch."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evm_deploy.errors import BundleError
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

    def summary(self) -> tuple[ParityRow, ...]:
        """A row for each output of each runtime: over all inputs the largest errors, the least agreement."""
        groups: dict[tuple[str, str], list[ParityRow]] = {}
        for row in self.rows:
            groups.setdefault((row.runtime, row.output), []).append(row)
        return tuple(_worst(rows) for rows in groups.values())

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

    Raises BundleError for an output of another shape.
    """
    scores = meaning != "features"
    rows = []
    for runner in runners:
        for name, image in images.items():
            for output, found, wanted in zip(outputs, runner.run(image), expected[name], strict=True):
                if found.shape != wanted.shape:
                    raise BundleError(
                        f"{output} on {runner.name} has shape {found.shape} for {name}, not {wanted.shape}.",
                        "export the model again.",
                    )
                if meaning == "probabilities":
                    found, wanted = _centred_logits(found), _centred_logits(wanted)
                agreement = compare(found, wanted, scores=scores)
                passed = agreement.relative <= tolerance and (agreement.top1 in (None, 1.0) or _tie(wanted, tolerance))
                rows.append(ParityRow(runner.name, name, output, **dataclasses.asdict(agreement), passed=passed))
    return tuple(rows)


def _worst(rows: Sequence[ParityRow]) -> ParityRow:
    top1 = [row.top1 for row in rows if row.top1 is not None]
    return ParityRow(
        rows[0].runtime,
        rows[0].input if len(rows) == 1 else f"{len(rows)} inputs",
        rows[0].output,
        max_abs=max(row.max_abs for row in rows),
        relative=max(row.relative for row in rows),
        cosine=min(row.cosine for row in rows),
        psnr=min(row.psnr for row in rows),
        top1=sum(top1) / len(top1) if top1 else None,
        passed=all(row.passed for row in rows),
    )


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
