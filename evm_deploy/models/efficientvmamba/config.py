"""What distinguishes one EfficientVMamba from another, and the three that were published."""

import dataclasses
import math
from typing import Any

from evm_deploy.cuda.plan import MOST_STEPS
from evm_deploy.errors import OptionError, check_choice

BLOCKS = ("evss", "inres")
SCANS = ("es2d", "ss2d")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape of a network; one entry of `dims`, `depths` and `blocks` for each stage.

    Raises:
        OptionError: a value that no EfficientVMamba has.
    """

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    d_state: int = 16
    dt_rank: tuple[int, ...] | None = None  # one for each stage; None: ceil(C / 16)
    step: int = 2
    num_classes: int | None = 1000  # None: a backbone, which returns feature maps
    blocks: tuple[str, ...] = ("evss", "evss", "inres", "inres")
    scan: str = "es2d"  # "ss2d" is the full cross-scan of VMamba, an ablation of the paper
    conv_branch: bool = True
    out_indices: tuple[int, ...] | None = None  # the stages a backbone returns; None: all

    def __post_init__(self) -> None:
        for name in ("dims", "depths", "dt_rank", "blocks", "out_indices"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        for name in ("dims", "depths", "blocks", "dt_rank"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.dims):
                raise OptionError(
                    f"{name} has {len(value)} entries for {len(self.dims)} stages.",
                    "Give dims, depths and blocks one entry for each stage.",
                )
        for name in ("dims", "depths", "dt_rank", "d_state", "step", "num_classes"):
            _check_counts(name, getattr(self, name))
        if self.step > MOST_STEPS:
            raise OptionError(f"step is {self.step}.", f"Use a network with a step of 1 to {MOST_STEPS}.")
        for kind in self.blocks:
            check_choice("block", kind, BLOCKS)
        check_choice("scan", self.scan, SCANS)
        stages = range(len(self.dims))
        if self.out_indices is not None and (not self.out_indices or any(i not in stages for i in self.out_indices)):
            raise OptionError(
                f"out_indices {self.out_indices} does not name stages of a network that has {len(self.dims)}.",
                f"Use numbers from 0 to {len(self.dims) - 1}.",
            )

    @property
    def directions(self) -> int:
        """K, the number of scan directions."""
        return 4 if self.scan == "ss2d" else self.step**2

    def rank(self, stage: int) -> int:
        """R, the rank of the step projection in `stage`."""
        return self.dt_rank[stage] if self.dt_rank is not None else math.ceil(self.dims[stage] / 16)

    @property
    def outputs(self) -> tuple[int, ...]:
        """The stages whose maps a backbone returns."""
        return self.out_indices if self.out_indices is not None else tuple(range(len(self.dims)))

    @staticmethod
    def variant(name: str, **changes: Any) -> "ModelConfig":
        """The published network `name` ("tiny", "small" or "base"), with `changes` to its fields."""
        check_choice("variant", name, tuple(VARIANTS))
        return dataclasses.replace(VARIANTS[name], **changes)


def _check_counts(name: str, value: int | tuple[int, ...] | None) -> None:
    counts = value if isinstance(value, tuple) else () if value is None else (value,)
    for count in counts:
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise OptionError(f"{name} is {value!r}.", f"Make {name} of whole numbers that are at least 1.")


VARIANTS = {
    "tiny": ModelConfig((48, 96, 192, 384), (2, 2, 4, 2)),
    "small": ModelConfig((64, 128, 256, 512), (2, 2, 4, 2)),
    "base": ModelConfig((96, 192, 384, 768), (2, 2, 9, 2)),
}


def name_variant(config: ModelConfig) -> str | None:
    """The published network that has the dims and depths of `config`."""
    shape = (config.dims, config.depths)
    return next((name for name, known in VARIANTS.items() if (known.dims, known.depths) == shape), None)
