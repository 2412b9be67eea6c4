"""What the programs of a Jetson print, board by board, and what is understood of it."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.profiling.agent import jetson

ORIN_NANO = (
    "11-20-2025 14:03:59 RAM 2200/7620MB (lfb 8x4MB) SWAP 0/3810MB (cached 0MB) CPU [3%@1510,0%@1510,off,1%@729,off]"
    " EMC_FREQ 0%@2133 GR3D_FREQ 0%@[611] NVDEC off NVJPG off VIC off OFA off APE 200 cpu@45.5C soc2@43.5C soc0@44.25C"
    " gpu@44.75C tj@45.5C soc1@43C VDD_IN 4540mW/4500mW VDD_CPU_GPU_CV 490mW/480mW VDD_SOC 1440mW/1430mW"
)
AGX_ORIN = (
    "RAM 5000/62800MB (lfb 900x4MB) SWAP 0/31400MB (cached 0MB) CPU [0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0]"
    " CV0@-256C CPU@44.5C Tboard@32C GPU@-256C tj@44.75C VDD_GPU_SOC 2300mW/2350mW VDD_CPU_CV -400mW/390mW"
    " VIN_SYS_5V0 4000mW/4050mW NC 0mW/0mW VDDQ_VDD2_1V8AO 700mW/710mW NC 0mW/0mW"
)
AGX_XAVIER = (
    "RAM 2000/15692MB (lfb 3000x4MB) CPU [1%@1190,2%@1190] EMC_FREQ 0% GR3D_FREQ 0% AO@33.5C GPU@33C thermal@34.1C"
    " PMIC@100C GPU 0/10 CPU 220/230 SOC 860/870 CV 0/0 VDDRQ 140/150 SYS5V 1900/1910"
)
NANO = (
    "RAM 1800/3964MB (lfb 2x2MB) SWAP 100/1982MB (cached 6MB) IRAM 0/252kB(lfb 252kB) CPU [5%@1224,4%@1224,3%@1224]"
    " EMC_FREQ 0%@1600 GR3D_FREQ 0%@76 APE 25 PLL@36C CPU@39C PMIC@50C GPU@38C AO@44C thermal@38.5C"
    " POM_5V_IN 1750/1630 POM_5V_GPU 0/0 POM_5V_CPU 360/400"
)
WITHOUT_ROOT = "RAM 18000/62841MB (lfb 460x4MB) CPU [14%@2188,5%@2112] EMC_FREQ 3%@2133 cpu@52.5C tj@52.5C"

CLOCKS = """\
SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano Developer Kit
Online CPUs: 0-5
cpu0:  Online=1 Governor=schedutil MinFreq={low} MaxFreq=1510400 CurrentFreq=1344000 IdleStates: WFI=1 c7=1
cpu1:  Online=1 Governor=schedutil MinFreq={low} MaxFreq=1510400 CurrentFreq=729600 IdleStates: WFI=1 c7=1
cpu4:  Online=0 Governor=schedutil MinFreq=115200 MaxFreq=1510400 CurrentFreq=729600 IdleStates: WFI=1 c7=1
GPU MinFreq={gpu} MaxFreq=624750000 CurrentFreq=306000000
Active GPU TPCs: 4
EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride={held}
FAN Dynamic Speed Control=nvfancontrol hwmon0_pwm1=60
NV Power Mode: 15W
"""


@pytest.mark.parametrize(
    ("line", "watts"),
    [
        (ORIN_NANO, 4.54),  # the whole board, now: not the average behind the slash, not its parts added to it
        (AGX_ORIN, 2.3 - 0.4 + 4.0),  # VDDQ_VDD2_1V8AO is a part of VIN_SYS_5V0
        (AGX_XAVIER, 0.22 + 0.86 + 0.14 + 1.9),
        (NANO, 1.75),
        (WITHOUT_ROOT, None),
        ("RAM 1/2MB VDD_GPU_SOC 2340mW/2340mW", None),  # a part is not the whole
        ("", None),
    ],
)
def test_power(line: str, watts: float | None) -> None:
    assert jetson.parse_line(line).watts == (None if watts is None else pytest.approx(watts))


def test_temperatures_without_zones_that_are_off_or_measure_nothing() -> None:
    assert jetson.parse_line(AGX_ORIN).temperatures == {"CPU": 44.5, "Tboard": 32.0, "tj": 44.75}
    assert "PMIC" not in jetson.parse_line(NANO).temperatures
    assert jetson.parse_line(ORIN_NANO).temperatures["tj"] == 45.5


def test_clocks_of_the_cores_that_are_on() -> None:
    assert jetson.parse_line(ORIN_NANO).clocks == [1510, 1510, 729]


@given(st.text(max_size=300))
def test_any_line_is_read(line: str) -> None:
    found = jetson.parse_line(line)
    assert found.watts is None or (math.isfinite(found.watts) and found.watts >= 0)
    jetson.parse_mode(line)
    jetson.parse_clocks(line)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", "MAXN (0)"),
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_15W_6CORE\n2\n", "MODE_15W_6CORE (2)"),
        ("NVPM VERB: Current mode: NV Power Mode: 25W\n1\nNVPM VERB: PARAM CPU_ONLINE", "25W"),
        ("NV Power Mode: MAXN_SUPER\r\n2\r\n", "MAXN_SUPER (2)"),
        ("NVPM ERROR: Error opening /var/lib/nvpmodel/status: 13\n", None),
    ],
)
def test_power_mode(text: str, mode: str | None) -> None:
    assert jetson.parse_mode(text) == mode


def test_clocks_that_may_change() -> None:
    assert jetson.parse_clocks(CLOCKS.format(low=729600, gpu=306000000, held=0)) == {
        "jetson_clocks": "not held",
        "clock cpu": "730 to 1510 MHz",
        "clock gpu": "306 to 625 MHz",
        "clock emc": "204 to 2133 MHz",
    }


def test_clocks_that_jetson_clocks_holds() -> None:
    found = jetson.parse_clocks(CLOCKS.format(low=1510400, gpu=624750000, held=1))
    assert (found["jetson_clocks"], found["clock emc"]) == ("held", "204 to 2133 MHz, held")


@pytest.mark.parametrize(("low", "gpu"), [(1510400, 306000000), (729600, 624750000)])
def test_clocks_are_held_when_all_are(low: int, gpu: int) -> None:
    assert jetson.parse_clocks(CLOCKS.format(low=low, gpu=gpu, held=0))["jetson_clocks"] == "not held"


def test_power_of_a_board_that_tells_a_user_only_its_mode() -> None:
    said = {"nvpmodel": "NV Power Mode: 15W\n0\n", "jetson_clocks": None}
    assert jetson.read_power_modes(lambda command: said[command[0]]) == {
        "nvpmodel": "15W (0)",
        "jetson_clocks": "not known (only root may ask)",
    }


def test_a_jetson_is_recognised_by_its_device_tree(tmp_path: Path) -> None:
    assert not jetson.is_jetson(tmp_path)
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes(b"raspberrypi,5-model-b\0brcm,bcm2712\0")
    assert not jetson.is_jetson(tmp_path)
    (tree / "compatible").write_bytes(b"nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0")
    assert jetson.is_jetson(tmp_path)


def test_overcurrent_events_are_summed_and_absent_where_nothing_counts(tmp_path: Path) -> None:
    assert jetson.count_overcurrent(tmp_path) is None
    for index, text in enumerate(("3\n", "4\n", "none\n")):
        folder = tmp_path / f"sys/class/hwmon/hwmon{index}"
        folder.mkdir(parents=True)
        (folder / f"oc{index}_event_cnt").write_text(text)
    assert jetson.count_overcurrent(tmp_path) == 7
