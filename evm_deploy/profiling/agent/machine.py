"""What this machine is: the facts that do not change while it is measured. `root` is another tree in tests."""

from __future__ import annotations

import os
import platform
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .jetson import output

ROOT = Path("/")
# Of what a CPU can do, that which a matrix product or a scan is faster for.
FEATURES = (
    "sse4_1 avx avx2 fma f16c avx_vnni avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 "
    "amx_bf16 asimd asimdhp asimddp fphp i8mm bf16 sve sve2"
).split()


def facts(kind: str, root: Path = ROOT) -> dict[str, Any]:
    """`DeviceFacts` of the report."""
    return {
        "kind": kind,
        "name": (_text(root, "proc/device-tree/model") or socket.gethostname())[:200],
        "os": system(root),
        "machine": platform.machine(),
        "cpu": cpu(root),
        "cores": cores(),
        "features": features(root),
        "memory_bytes": memory(root),
        "accelerator": accelerator(),
        "user_agent": None,
        "virtual": virtual(root),
    }


def accelerator() -> str | None:
    """The GPU that NVIDIA's driver names first."""
    said = output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]) or ""
    return next((name.strip()[:200] for name in said.splitlines() if name.strip()), None)


def system(root: Path = ROOT) -> str:
    """The system's name and version."""
    lines = (_text(root, "etc/os-release") or "").splitlines()
    pretty = next((row.partition("=")[2].strip('"') for row in lines if row.startswith("PRETTY_NAME=")), None)
    return f"{pretty or platform.system()} {platform.release()}"


def cpu(root: Path = ROOT) -> str:
    """The CPU's name, as well as the system knows it."""
    known = _info(root, "model name") or _info(root, "Hardware") or _info(root, "Model")
    return known or platform.processor() or platform.machine()


def cores() -> int | None:
    """That this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count()


def features(root: Path = ROOT) -> list[str]:
    """Of FEATURES, those that the CPU has, as Linux names them; none where the system does not tell."""
    flags = set((_info(root, "flags") or _info(root, "Features") or "").split())
    return [name for name in FEATURES if name in flags]


def memory(root: Path = ROOT) -> int | None:
    """Bytes that the machine has."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", _text(root, "proc/meminfo") or "", re.MULTILINE)
    if found:
        return int(found.group(1)) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def virtual(root: Path = ROOT) -> bool | None:
    """Whether this is a virtual machine, whose neighbours take time that nobody here sees; None: not known."""
    flags = _info(root, "flags")
    return None if flags is None else "hypervisor" in flags.split()


def cpu_limit(root: Path = ROOT) -> float | None:
    """How many cores' time a cgroup allows (a container's limit); None where there is no limit."""
    pairs: list[Sequence[str]] = []
    for folder in _cgroups(root, "0::", "sys/fs/cgroup"):
        pairs.append((_text(folder, "cpu.max") or "").split())
    for folder in _cgroups(root, "cpu", "sys/fs/cgroup/cpu"):
        pairs.append([_text(folder, "cpu.cfs_quota_us") or "", _text(folder, "cpu.cfs_period_us") or ""])
    known = [(int(pair[0]), int(pair[1])) for pair in pairs if len(pair) == 2 and all(map(str.isdigit, pair))]
    return min((quota / period for quota, period in known if quota and period), default=None)


def _cgroups(root: Path, kind: str, mount: str) -> list[Path]:
    """The process's group of this kind and those above it."""
    for row in (_text(root, "proc/self/cgroup") or "").splitlines():
        parts = row.split(":", 2)
        if len(parts) == 3 and (row.startswith(kind) or kind in parts[1].split(",")):
            inner = Path(mount) / parts[2].lstrip("/")
            chain = [inner, *inner.parents]
            return [root / folder for folder in chain if Path(mount) in (folder, *folder.parents)]
    return []


def _info(root: Path, key: str) -> str | None:
    """The first row of /proc/cpuinfo with this key."""
    for row in (_text(root, "proc/cpuinfo") or "").splitlines():
        name, colon, value = row.partition(":")
        if colon and name.strip() == key:
            return value.strip()
    return None


def _text(root: Path, name: str) -> str | None:
    """A small file's text without the white space around it; None where it cannot be read."""
    return text(root / name)


def text(path: Path) -> str | None:
    """A small file's text without the white space around it; None where it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20).strip("\0 \n\t")
    except OSError:
        return None


def numbered(folder: Path, name: str) -> list[tuple[int, Path]]:
    """The entries `<name><number>` of a folder, by number."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    found = [(re.fullmatch(re.escape(name) + r"(\d+)", entry.name), entry) for entry in entries]
    return sorted((int(match.group(1)), entry) for match, entry in found if match)
