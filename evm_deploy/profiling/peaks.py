"""The peak rates of devices from their makers' documents, used to estimate times on devices that are not available.

Rates are of dense arithmetic; a multiplication and an addition count as two operations. The float32 rate of a GPU is
cores x 2 x clock. Its float16 and int8 rates are those of its tensor cores; int8 is half of the advertised sparse
rate. The float32 rate of a CPU is cores x 128-bit multiply-adds per cycle x 8 x clock; its int8 rate with dot products
is four times that.
"""

from dataclasses import dataclass

from evm_deploy.errors import check_choice

FP32, FP16, INT8 = "fp32", "fp16", "int8"


@dataclass(frozen=True)
class Peak:
    """A device: its 1e9 operations per second in each precision, and 1e9 bytes per second of its memory."""

    name: str
    gops: dict[str, float]
    gbytes: float
    source: str


def _compute_ampere_rates(cores: int, tensor_cores: int, ghz: float) -> dict[str, float]:
    """The rates of an Orin. A tensor core does 512 int8 multiply-adds per cycle: 64 give 170 sparse TOPS at 1.3 GHz."""
    int8 = tensor_cores * 1024 * ghz
    return {FP32: cores * 2 * ghz, FP16: int8 / 2, INT8: int8}


def _compute_arm_rates(cores: int, vectors: int, ghz: float) -> dict[str, float]:
    floats = cores * vectors * 8 * ghz
    return {FP32: floats, FP16: 2 * floats, INT8: 4 * floats}


_BRIEF = "NVIDIA Jetson AGX Orin Series Technical Brief v1.2"
_ROWS = {
    "jetson-agx-orin-64gb": Peak(
        "Jetson AGX Orin 64 GB, GPU",
        _compute_ampere_rates(2048, 64, 1.3),
        204.8,
        f"{_BRIEF}: 2048 CUDA cores and 64 tensor cores at 1.3 GHz (5.3 TFLOPS float32, 170 sparse INT8 TOPS), "
        "204.8 GB/s",
    ),
    "jetson-orin-nx-16gb": Peak(
        "Jetson Orin NX 16 GB, GPU",
        _compute_ampere_rates(1024, 32, 0.918),
        102.4,
        "NVIDIA Jetson Orin NX Series Data Sheet: 1024 CUDA cores and 32 tensor cores at 918 MHz, 102.4 GB/s",
    ),
    "jetson-orin-nano-8gb": Peak(
        "Jetson Orin Nano 8 GB, GPU",
        _compute_ampere_rates(1024, 32, 0.625),
        68.0,
        "NVIDIA Jetson Orin Nano Series Data Sheet: 1024 CUDA cores and 32 tensor cores at 625 MHz "
        "(40 sparse INT8 TOPS), 68 GB/s",
    ),
    "jetson-orin-nano-8gb-super": Peak(
        "Jetson Orin Nano 8 GB in Super mode, GPU",
        _compute_ampere_rates(1024, 32, 1.02),
        102.0,
        "NVIDIA Jetson Orin Nano Super Developer Kit data sheet: 1024 CUDA cores and 32 tensor cores at 1.02 GHz "
        "(67 sparse INT8 TOPS), 102 GB/s",
    ),
    "raspberry-pi-5": Peak(
        "Raspberry Pi 5, 4 processor cores",
        _compute_arm_rates(4, 2, 2.4),
        17.1,
        "Raspberry Pi 5 product brief: 4 Cortex-A76 at 2.4 GHz, 32-bit LPDDR4X-4267; Arm Cortex-A76 Software "
        "Optimization Guide: 2 vector FMLA a cycle",
    ),
    "pixel-7": Peak(
        "Pixel 7 (Tensor G2), its 2 large processor cores",
        _compute_arm_rates(2, 4, 2.85),
        51.2,
        "Google Tensor G2: 2 Cortex-X1 at 2.85 GHz; Arm Cortex-X1 Core Software Optimization Guide: 4 vector FMLA a "
        "cycle; memory assumed to be 64-bit LPDDR5-6400, which its maker does not publish",
    ),
}
DEVICES = dict(sorted(_ROWS.items()))


def find_peak(device: str) -> Peak:
    """Finds the row of `device`. Raises OptionError: there is none; the error names the nearest one."""
    check_choice("device to estimate", device, DEVICES)
    return DEVICES[device]
