"""How numbers are written, wherever they are shown."""

import pytest

from fer_bench.metrics.document import interval_method
from fer_bench.metrics.expression import METRICS
from fer_bench.report.wording import (
    write_clock,
    write_count,
    write_duration,
    write_interval,
    write_methods,
    write_p,
    write_size,
    write_value,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (1_250_000_000, "1.2 GB"),
        (2_345_000_000_000, "2.3 TB"),
        (4_000_000_000_000_000, "4000.0 TB"),
    ],
)
def test_sizes_are_written_with_powers_of_ten(size: int, text: str) -> None:
    assert write_size(size) == text


def test_each_method_is_written_with_its_metrics() -> None:
    assert write_methods({name: interval_method(name) for name in METRICS}) == (
        "Wilson for accuracy, weighted recall, top-2 accuracy and micro recall (p > 0.5); "
        "class-stratified percentile bootstrap for the others"
    )


@pytest.mark.parametrize(
    ("methods", "text"),
    [
        ({}, ""),
        ({"valence": "bootstrap", "arousal": "bootstrap"}, "bootstrap"),
        ({"accuracy": "wilson"}, "Wilson"),
        ({"accuracy": "wilson", "kappa": "delta"}, "Wilson for accuracy; delta for the others"),
        ({"kappa": "a", "nll": "b", "brier": "b"}, "a for Cohen's kappa; b for the others"),
    ],
)
def test_a_single_method_applies_to_all_metrics(methods: dict[str, str], text: str) -> None:
    assert write_methods(methods) == text


def test_how_numbers_are_written() -> None:
    assert write_value("kappa", 0.5) == "0.5000"
    assert write_value("accuracy", None) == "-"
    assert write_interval("nll", {"value": 1, "low": None, "high": None}) == "-"
    assert [write_count(n) for n in (None, 306, 66_170, 118_533_415)] == [
        *("-", "306", "66.2 k", "118.5 M")
    ]
    assert [write_duration(s) for s in (None, 8.2, 750, 7505)] == [
        *("-", "8 s", "12 min 30 s", "2 h 05 min")
    ]
    assert [write_clock(s) for s in (None, 8.2, 750, 7505)] == ["-", "0:08", "12:30", "2:05:05"]
    assert (write_p(0.0009), write_p(0.034)) == ("< 0.001", "0.034")
