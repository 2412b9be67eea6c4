"""What distinguishes one VMamba from another, and those that were published."""

import math
from dataclasses import dataclass, replace

STEMS = ("4x4", "3x3 twice")
DOWNSAMPLES = {"merge": 2, "2x2": 2, "3x3": 3}  # and the side of their kernel


@dataclass(frozen=True)
class VMambaConfig:
    """Shape of a network; one entry of `dims` and `depths` for each stage. The defaults are those of "v0"."""

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    d_state: int = 16
    d_inner: tuple[int, ...] | None = None  # D, one for each stage; None: 2 C
    dt_rank: tuple[int, ...] | None = None  # one for each stage; None: ceil(C / 16)
    gate: bool = True
    conv_bias: bool = True
    mlp: int | None = None  # hidden channels of the MLP for each of C; None: there is no MLP
    stem: str = STEMS[0]
    downsample: str = "merge"
    num_classes: int | None = 1000  # None: a backbone, which returns feature maps
    out_indices: tuple[int, ...] | None = None  # the stages a backbone returns; None: all

    def channels(self, stage: int) -> int:
        """D, the channels that are scanned in `stage`."""
        return 2 * self.dims[stage] if self.d_inner is None else self.d_inner[stage]

    def rank(self, stage: int) -> int:
        """R, the rank of the step projection in `stage`."""
        return math.ceil(self.dims[stage] / 16) if self.dt_rank is None else self.dt_rank[stage]

    @property
    def outputs(self) -> tuple[int, ...]:
        """The stages whose maps a backbone returns."""
        return tuple(range(len(self.dims))) if self.out_indices is None else self.out_indices


_T, _B = (96, 192, 384, 768), (128, 256, 512, 1024)


def _make_v2(dims: tuple[int, ...], depth: int, ratio: int) -> VMambaConfig:
    return VMambaConfig(
        dims,
        (2, 2, depth, 2),
        d_state=1,
        d_inner=None if ratio == 2 else dims,
        gate=False,
        conv_bias=False,
        mlp=4,
        stem=STEMS[1],
        downsample="3x3",
    )


VARIANTS = {
    "tiny v0": VMambaConfig(_T, (2, 2, 9, 2)),
    "small v0": VMambaConfig(_T, (2, 2, 27, 2)),
    "base v0": VMambaConfig(_B, (2, 2, 27, 2)),
    "tiny s2l5": _make_v2(_T, 5, 2),
    "small s2l15": _make_v2(_T, 15, 2),
    "base s2l15": _make_v2(_B, 15, 2),
    "tiny s1l8": _make_v2(_T, 8, 1),
    "small s1l20": _make_v2(_T, 20, 1),
    "base s1l20": _make_v2(_B, 20, 1),
}


def name_variant(config: VMambaConfig) -> str | None:
    """The published network that has this configuration, whatever its classes."""
    alike = replace(config, num_classes=1000, out_indices=None)
    return next((name for name, known in VARIANTS.items() if known == alike), None)
