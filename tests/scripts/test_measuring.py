"""`scripts/measuring.py`: taking turns, paired ratios, tables, and options."""

import argparse
import sys
from collections import namedtuple
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import measuring
from messages import says

Named = namedtuple("Named", "name")
KNOWN = [Named("stall"), Named("second_start")]


def test_calls_take_turns_and_the_warm_up_does_not_count() -> None:
    calls: list[str] = []
    ways = {name: (lambda name=name: calls.append(name)) for name in "AB"}
    times = measuring.take_turns(ways, 3)
    assert "".join(calls) == "ABBAABBA"
    assert [len(timings) for timings in times.values()] == [3, 3]
    assert min(timing.wall for timing in times["A"]) >= 0


def test_a_ratio_is_the_median_of_the_pairs() -> None:
    ratio = measuring.paired_ratio([8.0, 6.0, 4.0], [1.0, 2.0, 4.0])
    assert ratio == pytest.approx((3.0, 1.0, 8.0))
    assert str(ratio) == "3.00 [1.00, 8.00]"


def test_the_interval_narrows_with_the_number_of_pairs() -> None:
    few, many = ([1.0, 2.0, 3.0] * number for number in (1, 60))
    narrow, wide = (measuring.bootstrapped(values) for values in (many, few))
    assert narrow.median == wide.median == 2.0
    assert wide.low < narrow.low <= 2.0 <= narrow.high < wide.high


def test_facts_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setattr(sys, "argv", ["/somewhere/benchmark_data.py", "--pairs", "3"])
    facts = measuring.machine()
    command = "python scripts/benchmark_data.py --pairs 3"
    says(measuring.machine_lines(facts), facts["cpu"], "TF_ENABLE_ONEDNN_OPTS=0", command)


def test_a_table() -> None:
    assert measuring.table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_options() -> None:
    choose = measuring.choice_of(KNOWN)
    assert choose("second_start, stall") == KNOWN[::-1]
    assert choose("") == KNOWN
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        choose("stal")
    says(caught.value, "stal;", "stall, second_start")
    assert measuring.at_least(2)("2") == 2
    for text in ("1", "-2", "x", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="2 or more"):
            measuring.at_least(2)(text)
