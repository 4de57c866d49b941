"""Work that several threads share."""

import threading
from collections.abc import Iterator

import pytest

from fer_bench.device import threads
from fer_bench.device.machine import Cores
from fer_bench.device.threads import in_order


def test_results_are_in_order() -> None:
    later = threading.Event()

    def work(part: int) -> int:
        if part == 0:
            later.wait(10)
        if part == 1:
            later.set()
        return part * part

    assert list(in_order(work, range(50), 2)) == [part * part for part in range(50)]
    assert later.is_set()


def test_no_parts_give_no_results() -> None:
    assert list(in_order(str, [], 2)) == []


def test_work_is_not_far_ahead_of_its_consumer() -> None:
    started: list[int] = []

    def parts() -> Iterator[int]:
        for part in range(1000):
            started.append(part)
            yield part

    results = in_order(str, parts(), 2)
    assert [next(results) for _ in range(3)] == ["0", "1", "2"]
    assert len(started) <= 3 + 4
    results.close()  # type: ignore[attr-defined]
    assert len(started) <= 3 + 4


def test_the_first_failure_is_raised() -> None:
    def fail(part: int) -> int:
        if part >= 7:
            raise ValueError(f"part {part}")
        return part

    found: list[int] = []
    with pytest.raises(ValueError, match=r"^part 7$"):
        found.extend(in_order(fail, range(20), 4))


def test_there_is_one_thread_per_usable_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: Cores(3, "as the test says"))
    together = threading.Barrier(3)
    # Each waits for two others; with fewer threads the barrier would break.
    assert sorted(in_order(lambda _: together.wait(10), range(3))) == [0, 1, 2]
