"""The cores and the memory that a process may use, from the files of Linux."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fer_bench.device import machine, selection
from fer_bench.sweep.local_engine import share_of_cores

Patch = pytest.MonkeyPatch


@pytest.fixture
def pretend(monkeypatch: Patch, tmp_path: Path) -> Callable[..., None]:
    """Pretend to be a machine with 8 cores and these files of control groups."""

    def make(own: str, files: Mapping[str, str], cores: int = 8) -> None:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{text}\n")
        monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
        monkeypatch.setattr(machine, "CGROUPS", tmp_path)
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(cores))

    return make


VERSION_2, VERSION_1 = "0::/job/task\n", "4:cpu,cpuacct:/job\n3:memory:/job\n"


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        (VERSION_2, {"job/task/cpu.max": "300000 100000"}, 3),
        (VERSION_2, {"job/task/cpu.max": "max 100000", "job/cpu.max": "250000 50000"}, 5),
        (VERSION_2, {"job/task/cpu.max": "400000 100000", "job/cpu.max": "150000 100000"}, 2),
        (VERSION_2, {"job/task/cpu.max": "10000 100000"}, 1),
        (VERSION_2, {"job/task/cpu.max": "max 100000"}, 8),
        (VERSION_2, {"job/task/cpu.max": "6400000 100000"}, 8),
        ("0::/../../of/the/host\n", {"cpu.max": "200000 100000"}, 2),
        (
            VERSION_1,
            {"cpu/job/cpu.cfs_quota_us": "50000", "cpu/job/cpu.cfs_period_us": "100000"},
            1,
        ),
        (VERSION_1, {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        (VERSION_1, {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, 8),
        ("", {}, 8),
    ],
)
def test_a_quota_bounds_the_cores(
    pretend: Callable[..., None], own: str, files: dict[str, str], cores: int
) -> None:
    pretend(own, files)
    found = machine.usable_cores()
    assert found.number == cores
    assert ("quota" in found.why) is (cores < 8)


def test_runs_side_by_side_share_what_the_quota_leaves(pretend: Callable[..., None]) -> None:
    pretend(VERSION_2, {"job/task/cpu.max": "400000 100000"})
    assert [share_of_cores(jobs) for jobs in (1, 2, 3, 8)] == [None, 2, 1, 1]


def test_the_affinity_bounds_the_cores(pretend: Callable[..., None]) -> None:
    pretend(VERSION_2, {"job/task/cpu.max": "300000 100000"}, cores=2)
    assert machine.usable_cores() == (2, "the process may run on 2 of 8")
    assert selection.open_device("cpu").name.endswith(", 2 cores")


# Memory ----------------------------------------------------------------------------------------

GIB = 2**30
OLD_FILES = f"anon 5\ninactive_file {GIB}\n"
FULL_2 = {"job/memory.current": str(3 * GIB), "job/memory.stat": OLD_FILES}
FULL_1 = {
    "memory/job/memory.usage_in_bytes": str(3 * GIB),
    "memory/job/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB}\n",
}


@pytest.mark.parametrize(
    ("own", "files", "total", "available"),
    [
        ("", {}, 16, 10),
        (VERSION_2, {"job/memory.max": "max"} | FULL_2, 16, 10),
        (VERSION_2, {"job/memory.max": str(6 * GIB)} | FULL_2, 6, 4),
        (VERSION_2, {"job/memory.max": str(64 * GIB)} | FULL_2, 16, 10),
        (VERSION_1, {"memory/job/memory.limit_in_bytes": str(6 * GIB)} | FULL_1, 6, 4),
        (VERSION_1, {"memory/job/memory.limit_in_bytes": str(2**63 - 4096)} | FULL_1, 16, 10),
    ],
)
def test_the_memory_of_a_cpu(
    monkeypatch: Patch,
    tmp_path: Path,
    pretend: Callable[..., None],
    own: str,
    files: dict[str, str],
    total: int,
    available: int,
) -> None:
    pretend(own, files)
    info = f"MemTotal: {16 * 2**20} kB\nMemFree: 7 kB\nMemAvailable: {10 * 2**20} kB\n"
    (tmp_path / "meminfo").write_text(info)
    monkeypatch.setattr(machine, "MEMORY_INFO", tmp_path / "meminfo")
    assert machine.memory() == (total * GIB, available * GIB)
    opened = selection.open_device("cpu")
    assert (opened.memory_bytes, opened.memory_is_assumed) == (available * GIB, False)


def test_where_nobody_tells_the_memory_of_a_cpu(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "MEMORY_INFO", tmp_path / "none")
    opened = selection.open_device("cpu")
    assert (opened.memory_bytes, opened.memory_is_assumed) == (8 * GIB, True)
