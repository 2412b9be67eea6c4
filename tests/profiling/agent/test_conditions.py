"""What Linux tells in /proc and /sys, read from trees that the tests make; and from this machine."""

from pathlib import Path

import pytest

from evm_deploy.profiling.agent import conditions, machine, memory

CPUINFO = "processor\t: 0\nmodel name\t: Some CPU @ 3.00GHz\nflags\t\t: fpu sse4_1 avx2 fma avx512_vnni hypervisor\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\n\nHardware\t: Board\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_machine_with_everything(tmp_path: Path) -> None:
    cpu, zone = "sys/devices/system/cpu", "sys/class/thermal"
    root = write(
        tmp_path,
        {
            f"{cpu}/cpu0/cpufreq/scaling_governor": "schedutil\n",
            f"{cpu}/cpu1/cpufreq/scaling_governor": "powersave\n",
            f"{cpu}/cpu0/cpufreq/scaling_cur_freq": "2400000\n",
            f"{cpu}/cpu10/cpufreq/scaling_cur_freq": "800000\n",
            f"{cpu}/cpu2/cpufreq/scaling_cur_freq": "1200000\n",
            f"{cpu}/cpu0/thermal_throttle/core_throttle_count": "3\n",
            f"{cpu}/cpu0/thermal_throttle/package_throttle_count": "4\n",
            f"{cpu}/cpufreq/none": "",
            f"{zone}/thermal_zone0/temp": "45500\n",
            f"{zone}/thermal_zone0/type": "x86_pkg_temp\n",
            f"{zone}/thermal_zone1/temp": "40000\n",
            f"{zone}/thermal_zone1/type": "x86_pkg_temp\n",
            f"{zone}/thermal_zone2/temp": "not a number\n",
        },
    )
    assert conditions.read_governor(root) == "powersave, schedutil"
    assert conditions.read_clocks(root) == [2400.0, 1200.0, 800.0]
    assert conditions.read_temperatures(root) == {"x86_pkg_temp": 45.5, "x86_pkg_temp 1": 40.0}
    assert conditions.count_throttling(root) == 7


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    found = conditions.take_snapshot(tmp_path)
    assert found == {
        "load": found["load"],
        "governor": None,
        "clocks_mhz": None,
        "temperatures_c": None,
        "throttled": None,
    }
    assert conditions.count_throttling(tmp_path) is None
    assert conditions.read_power_modes(tmp_path) == {}
    assert (machine.list_features(tmp_path), machine.is_virtual(tmp_path), machine.read_cpu_limit(tmp_path)) == (
        [],
        None,
        None,
    )


def test_throttled_is_what_was_counted_meanwhile() -> None:
    assert [conditions.is_throttled(*pair) for pair in ((1, 1), (1, 2), (None, 2), (1, None))] == [
        False,
        True,
        None,
        None,
    ]


def test_the_cpu_and_its_features(tmp_path: Path) -> None:
    root = write(tmp_path / "x86", {"proc/cpuinfo": CPUINFO, "proc/meminfo": "MemTotal:   2048 kB\n"})
    assert machine.name_cpu(root) == "Some CPU @ 3.00GHz"
    assert machine.list_features(root) == ["sse4_1", "avx2", "fma", "avx512_vnni"]
    assert machine.is_virtual(root) is True
    assert machine.read_memory(root) == 2 << 20
    arm = write(tmp_path / "arm", {"proc/cpuinfo": ARM})
    assert (machine.name_cpu(arm), machine.list_features(arm)) == ("Board", ["asimd", "asimddp"])


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.max": "max 100000\n"}, None),
        (
            {
                "proc/self/cgroup": "0::/out/in\n",
                "sys/fs/cgroup/out/in/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/out/cpu.max": "200000 100000\n",
            },
            2.0,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        ({"proc/self/cgroup": "1:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"}, None),
        ({"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.max": "1 0\n"}, None),
    ],
)
def test_the_limit_of_a_container(tmp_path: Path, files: dict[str, str], limit: float | None) -> None:
    assert machine.read_cpu_limit(write(tmp_path, files)) == limit


def test_memory_is_that_of_this_program(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/self/status": "Name:\tpython\nVmHWM:\t    2000 kB\nVmRSS:\t    1000 kB\n"})
    assert (memory.read_peak(root), memory.read_current(root)) == (2000 * 1024, 1000 * 1024)
    assert (memory.read_peak(tmp_path / "none") or 0) > 1 << 20


def test_this_machine() -> None:
    found = machine.collect_facts("local")
    assert found["kind"] == "local"
    assert found["cores"] >= 1
    assert (found["memory_bytes"] or 1 << 30) > 1 << 28
