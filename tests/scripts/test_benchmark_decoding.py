"""`scripts/benchmark_decoding.py`: both decoders give the same faces, and its table."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import benchmark_decoding as benchmark
import measuring


def test_cases_are_every_size_in_every_format_and_the_largest_halved() -> None:
    found = list(benchmark.cases([48, 224]))
    assert [case for case in found if case.suffix == "png"] == [
        (48, "png", 48),
        (224, "png", 224),
        (224, "png", 112),
    ]
    assert len(found) == 6


@pytest.mark.parametrize("size", [24, 16])
def test_both_decoders_give_the_same_faces(tmp_path: Path, size: int) -> None:
    case = benchmark.Case(24, "png", size)
    manifest = benchmark.faces(tmp_path, case, 5)
    theirs, ours = (
        way(manifest, size).astype(int) for way in (benchmark.tf_data_pixels, benchmark.our_pixels)
    )
    assert theirs.shape == (5, size, size, 3)
    assert np.abs(theirs - ours).max() <= 1  # rounded twice and once
    assert theirs.std() > 10


def test_ratios_are_taken_within_each_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # theirs, ours, ours, theirs, theirs, ours
    times = iter([(4.0, 3.0), (2.0, 2.0), (6.0, 5.0), (6.0, 5.0), (3.0, 9.0), (2.0, 3.0)])
    monkeypatch.setattr(measuring, "timed", lambda call: measuring.Timing(*next(times)))
    case = benchmark.Case(24, "png", 16)
    cells = benchmark.compare(case, benchmark.faces(tmp_path, case, 8), 3)
    assert cells[:2] == ("png, 24 px", "to 16 px")
    assert cells[2:6] == ("2", "4", "1.50 [1.00, 2.00]", "1.50 [1.00, 3.00]")
