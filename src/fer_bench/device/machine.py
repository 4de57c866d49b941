"""What this machine has: its processor, the cores and the memory that this process may use."""

import math
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CPU_INFO = Path("/proc/cpuinfo")
MEMORY_INFO = Path("/proc/meminfo")
OWN_CGROUPS = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")


def cpu_flags() -> set[str]:
    """What Linux calls the instructions of this processor; empty elsewhere."""
    return set((_cpu_info("flags") or _cpu_info("Features")).split())


def cpu_model() -> str:
    """The name of the processor, as far as it is known."""
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _cpu_info(key: str) -> str:
    """The first value of `key` in /proc/cpuinfo, empty where there is none."""
    found = re.search(rf"^{key}\s*:(.*)$", _read(CPU_INFO), re.MULTILINE)
    return found[1].strip() if found else ""


class Cores(NamedTuple):
    """How many cores this process may use, and why not more."""

    number: int
    why: str


def usable_cores() -> Cores:
    """The cores that this process may run on, at least 1: its affinity, bounded by its quota.

    A quota of 1.5 cores counts as 2, since one thread alone would leave half a core unused.
    """
    machine = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    quota = min((_cores_of(folder) for folder in _cgroups("cpu")), default=math.inf)
    if quota < allowed:
        return Cores(max(1, math.ceil(quota)), f"the control group's quota is {quota:g} cores")
    if allowed < machine:
        return Cores(allowed, f"the process may run on {allowed} of {machine}")
    return Cores(allowed, "all that the machine has")


def _cores_of(folder: Path) -> float:
    """The CPU quota of one control group in cores, infinite where it has none."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = (_read(folder / f"cpu.cfs_{part}_us") for part in ("quota", "period"))
    if quota in ("", "max", "-1"):
        return math.inf
    return int(quota) / int(period)


class Memory(NamedTuple):
    """Memory in bytes, 0 where it is not known."""

    total: int
    available: int


def memory() -> Memory:
    """The memory of this machine, bounded by the limits of this process's control groups."""
    kilobytes = dict(re.findall(r"^(\w+):\s+(\d+) kB", _read(MEMORY_INFO), re.MULTILINE))
    total, available = (int(kilobytes.get(key, 0)) * 1024 for key in ("MemTotal", "MemAvailable"))
    for folder in _cgroups("memory"):
        limit, room = _limit_and_room(folder)
        total, available = int(min(total, limit)), int(min(available, room))
    return Memory(total, max(available, 0))


# Names in versions 2 and 1: the limit, what is used, and what of that are files read long ago.
_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _limit_and_room(folder: Path) -> tuple[float, float]:
    """The memory limit of one control group and what is left of it, infinite without a limit."""
    for limit_file, used_file, old_files in _MEMORY_FILES:
        limit, used = _read(folder / limit_file), _read(folder / used_file)
        if limit.isdigit() and used.isdigit():
            old = re.search(rf"^{old_files} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
            return int(limit), int(limit) - int(used) + (int(old[1]) if old else 0)
    return math.inf, math.inf


def _cgroups(controller: str) -> Iterator[Path]:
    """The folders of this process's control groups and their parents, in versions 2 and 1."""
    for line in _read(OWN_CGROUPS).splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controller if controllers else CGROUPS
        # In a container the path may be that of the host, and lead nowhere here: its parents do.
        parts = [part for part in own.split("/") if part not in ("", "..")]
        yield from (root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def _read(path: Path) -> str:
    """What a file of the system says; empty where it is missing or closed to us."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
