"""The processor, and the cores and memory that this process may use."""

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
    """Linux's flags for the instructions of the processor; empty on other systems."""
    return set((_cpu_info("flags") or _cpu_info("Features")).split())


def cpu_model() -> str:
    """The name of the processor, as precisely as the system gives it."""
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _cpu_info(key: str) -> str:
    """The first value of `key` in /proc/cpuinfo; empty if there is none."""
    found = re.search(rf"^{key}\s*:(.*)$", _read(CPU_INFO), re.MULTILINE)
    return found[1].strip() if found else ""


class Cores(NamedTuple):
    """The number of cores that this process may use, and the reason for it."""

    number: int
    why: str


def usable_cores() -> Cores:
    """The cores that this process may use, at least 1: its affinity, limited by its quota.

    A quota of 1.5 cores counts as 2, since a single thread would leave half a core unused.
    """
    machine = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    quota = min((_cores_of(folder) for folder in _cgroups("cpu")), default=math.inf)
    if quota < allowed:
        return Cores(max(1, math.ceil(quota)), f"the quota of the control group is {quota:g} cores")
    if allowed < machine:
        return Cores(allowed, f"the process may run on {allowed} of {machine}")
    return Cores(allowed, "all cores of the machine")


def _cores_of(folder: Path) -> float:
    """The CPU quota of a control group in cores; infinite without one."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = (_read(folder / f"cpu.cfs_{part}_us") for part in ("quota", "period"))
    if quota in ("", "max", "-1"):
        return math.inf
    return int(quota) / int(period)


class Memory(NamedTuple):
    """Memory in bytes; 0 if unknown."""

    total: int
    available: int


def memory() -> Memory:
    """The memory of the machine, limited by the control groups of this process."""
    kilobytes = dict(re.findall(r"^(\w+):\s+(\d+) kB", _read(MEMORY_INFO), re.MULTILINE))
    total, available = (int(kilobytes.get(key, 0)) * 1024 for key in ("MemTotal", "MemAvailable"))
    for folder in _cgroups("memory"):
        limit, room = _limit_and_room(folder)
        total, available = int(min(total, limit)), int(min(available, room))
    return Memory(total, max(available, 0))


# File names of cgroups 2 and 1: the limit, the memory in use, and the part of it that is page
# cache and can be reclaimed.
_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _limit_and_room(folder: Path) -> tuple[float, float]:
    """The memory limit of a control group and what is left of it; infinite without a limit."""
    for limit_file, used_file, cache_key in _MEMORY_FILES:
        limit, used = _read(folder / limit_file), _read(folder / used_file)
        if limit.isdigit() and used.isdigit():
            cache = re.search(rf"^{cache_key} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
            return int(limit), int(limit) - int(used) + (int(cache[1]) if cache else 0)
    return math.inf, math.inf


def _cgroups(controller: str) -> Iterator[Path]:
    """The folders of this process's control groups and of their parents, for cgroups 2 and 1."""
    for line in _read(OWN_CGROUPS).splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controller if controllers else CGROUPS
        # In a container the path may be the one on the host, of which only parents exist here.
        parts = [part for part in own.split("/") if part not in ("", "..")]
        yield from (root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def _read(path: Path) -> str:
    """The content of a system file; empty if it is missing or not readable."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
