"""Facts about this machine that do not change during a measurement. In tests, `root` is another folder."""

from __future__ import annotations

import os
import platform
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .jetson import run_program

ROOT = Path("/")
# CPU features that make matrix products or scans faster.
FEATURES = (
    "sse4_1 avx avx2 fma f16c avx_vnni avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 "
    "amx_bf16 asimd asimdhp asimddp fphp i8mm bf16 sve sve2"
).split()


def collect_facts(kind: str, root: Path = ROOT) -> dict[str, Any]:
    """`DeviceFacts` of the report."""
    return {
        "kind": kind,
        "name": (_read_text(root, "proc/device-tree/model") or socket.gethostname())[:200],
        "os": name_system(root),
        "machine": platform.machine(),
        "cpu": name_cpu(root),
        "cores": count_cores(),
        "features": list_features(root),
        "memory_bytes": read_memory(root),
        "accelerator": find_accelerator(),
        "user_agent": None,
        "virtual": is_virtual(root),
    }


def find_accelerator() -> str | None:
    """The name of the first GPU, from NVIDIA's driver."""
    said = run_program(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]) or ""
    return next((name.strip()[:200] for name in said.splitlines() if name.strip()), None)


def name_system(root: Path = ROOT) -> str:
    """The name and version of the operating system."""
    lines = (_read_text(root, "etc/os-release") or "").splitlines()
    pretty = next((row.partition("=")[2].strip('"') for row in lines if row.startswith("PRETTY_NAME=")), None)
    return f"{pretty or platform.system()} {platform.release()}"


def name_cpu(root: Path = ROOT) -> str:
    """The name of the CPU, as far as the system knows it."""
    known = _find_cpu_info(root, "model name") or _find_cpu_info(root, "Hardware") or _find_cpu_info(root, "Model")
    return known or platform.processor() or platform.machine()


def count_cores() -> int | None:
    """The number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count()


def list_features(root: Path = ROOT) -> list[str]:
    """The FEATURES that the CPU has, by their Linux names; empty if the system does not list them."""
    flags = set((_find_cpu_info(root, "flags") or _find_cpu_info(root, "Features") or "").split())
    return [name for name in FEATURES if name in flags]


def read_memory(root: Path = ROOT) -> int | None:
    """The memory of the machine, in bytes."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", _read_text(root, "proc/meminfo") or "", re.MULTILINE)
    if found:
        return int(found.group(1)) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def is_virtual(root: Path = ROOT) -> bool | None:
    """Whether this is a virtual machine, which other virtual machines can slow down unseen; None: not known."""
    flags = _find_cpu_info(root, "flags")
    return None if flags is None else "hypervisor" in flags.split()


def read_cpu_limit(root: Path = ROOT) -> float | None:
    """The CPU limit of the cgroup (of a container), in cores; None: no limit."""
    pairs: list[Sequence[str]] = []
    for folder in _list_cgroups(root, "0::", "sys/fs/cgroup"):
        pairs.append((_read_text(folder, "cpu.max") or "").split())
    for folder in _list_cgroups(root, "cpu", "sys/fs/cgroup/cpu"):
        pairs.append([_read_text(folder, "cpu.cfs_quota_us") or "", _read_text(folder, "cpu.cfs_period_us") or ""])
    known = [(int(pair[0]), int(pair[1])) for pair in pairs if len(pair) == 2 and all(map(str.isdigit, pair))]
    return min((quota / period for quota, period in known if quota and period), default=None)


def _list_cgroups(root: Path, kind: str, mount: str) -> list[Path]:
    """The cgroup of this process, of this kind, and its parents."""
    for row in (_read_text(root, "proc/self/cgroup") or "").splitlines():
        parts = row.split(":", 2)
        if len(parts) == 3 and (row.startswith(kind) or kind in parts[1].split(",")):
            inner = Path(mount) / parts[2].lstrip("/")
            chain = [inner, *inner.parents]
            return [root / folder for folder in chain if Path(mount) in (folder, *folder.parents)]
    return []


def _find_cpu_info(root: Path, key: str) -> str | None:
    """The value of the first row of /proc/cpuinfo with this key."""
    for row in (_read_text(root, "proc/cpuinfo") or "").splitlines():
        name, colon, value = row.partition(":")
        if colon and name.strip() == key:
            return value.strip()
    return None


def _read_text(root: Path, name: str) -> str | None:
    """The text of a small file below `root`; None: it cannot be read."""
    return read_text(root / name)


def read_text(path: Path) -> str | None:
    """The text of a small file, stripped of white space; None: it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20).strip("\0 \n\t")
    except OSError:
        return None


def list_numbered(folder: Path, name: str) -> list[tuple[int, Path]]:
    """The entries `<name><number>` of a folder, in order of number."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    found = [(re.fullmatch(re.escape(name) + r"(\d+)", entry.name), entry) for entry in entries]
    return sorted((int(match.group(1)), entry) for match, entry in found if match)
