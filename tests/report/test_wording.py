"""How numbers are written, wherever they stand."""

import pytest

from fer_bench.metrics.document import interval_method
from fer_bench.metrics.expression import METRICS
from fer_bench.report.wording import write_methods, write_size


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


def test_each_method_is_written_with_what_it_is_of() -> None:
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
def test_one_method_alone_is_of_everything(methods: dict[str, str], text: str) -> None:
    assert write_methods(methods) == text
