"""`scripts/benchmark_decoding.py`: both ways give the same faces, and a line says how fast."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import benchmark_decoding as benchmark


def test_every_size_comes_in_every_format_and_the_largest_is_halved() -> None:
    found = list(benchmark.cases([48, 224]))
    assert [case for case in found if case.suffix == "png"] == [
        (48, "png", 48),
        (224, "png", 224),
        (224, "png", 112),
    ]
    assert len(found) == 6


@pytest.mark.parametrize("size", [24, 16])
def test_both_ways_give_the_same_faces(tmp_path: Path, size: int) -> None:
    case = benchmark.Case(24, "png", size)
    manifest = benchmark.faces(tmp_path, case, 5)
    theirs, ours = (
        way(manifest, size).astype(int) for way in (benchmark.tf_data_pixels, benchmark.our_pixels)
    )
    assert theirs.shape == (5, size, size, 3)
    assert np.abs(theirs - ours).max() <= 1  # rounded twice and once
    assert theirs.std() > 10


def test_a_line_has_a_ratio_of_each_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([(4.0, 3.0), (2.0, 2.0), (6.0, 5.0), (6.0, 5.0), (3.0, 9.0), (2.0, 3.0)])
    monkeypatch.setattr(benchmark, "seconds", lambda call: next(times))
    case = benchmark.Case(24, "png", 16)
    line = benchmark.compare(case, benchmark.faces(tmp_path, case, 8), 3)
    assert line.startswith(
        "| png, 24 px | to 16 px | 2 | 4 | 1.50 [1.00, 2.00] | 1.50 [1.00, 3.00] |"
    )
