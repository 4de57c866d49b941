"""`progress.json`: checked when it is read, and noticed when it has changed."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from messages import says

from fer_bench.runs.record import BestRecord, ParentRecord
from fer_bench.training import progress as module
from fer_bench.training.progress import (
    Origin,
    Progress,
    StageProgress,
    read_progress,
    write_progress,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "progress.json"


def some_progress() -> Progress:
    return Progress(
        stage_epochs=[1, 2],
        epoch=1,
        step=3,
        stage=1,
        totals=[1 / 3, 2.0, 5.0],
        epoch_seconds=0.1 + 0.2,
        history=[{"epoch": 1, "stage": "a", "loss": 0.1 + 0.2, "accuracy": None}],
        best=BestRecord(epoch=1, metric="val_loss", value=1 / 7),
        in_stage=StageProgress(best_val_loss=1 / 9, epochs_without_better=2),
        optimizer="o.npz",
        weights=["s.npz", "w.npz"],
        best_weights=["s.npz", "b.npz"],
        parent=ParentRecord(run_id="x-s1-0", epoch=1, optimizer="kept"),
        origin=Origin("2026-01-02T03:04:05+00:00", None, "f"),
        digests=dict.fromkeys(["b.npz", "o.npz", "s.npz", "w.npz"], "0" * 64),
    )


def test_it_comes_back_to_the_last_bit_and_type(path: Path) -> None:
    write_progress(path, some_progress())
    assert read_progress(path) == some_progress()
    assert json.dumps(asdict(read_progress(path))) == json.dumps(asdict(some_progress()))


def test_every_flipped_bit_is_noticed_or_changes_nothing(path: Path) -> None:
    write_progress(path, some_progress())
    content = path.read_bytes()
    silent = 0
    for bit in range(0, 8 * len(content), 5):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            assert read_progress(path) == some_progress()
        except ValueError:
            continue
        silent += 1
    assert silent < 0.1 * 8 * len(content) / 5  # one white space is as good as another


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\xff"])
def test_what_is_no_document_is_an_error(text: str, path: Path) -> None:
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="JSON"):
        read_progress(path)


def test_missing_or_too_large_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="missing"):
        read_progress(path)
    write_progress(path, some_progress())
    monkeypatch.setattr(module, "LARGEST_BYTES", 10)
    with pytest.raises(ValueError, match="at most 10"):
        read_progress(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stage_epochs", []),
        ("stage_epochs", [-1, 2]),
        ("stage_epochs", None),
        ("epoch", "1"),
        ("epoch", 4),
        ("epoch", True),
        ("step", -1),
        ("stage", 2),
        ("stage", -2),
        ("totals", [0.0]),
        ("totals", [0.0, 1e999, 0.0]),
        ("totals", [float("nan"), 0.0, 0.0]),
        ("epoch_seconds", -1.0),
        ("history", []),
        ("history", [{"epoch": []}]),
        ("best", {"epoch": 0}),
        ("best", {"epoch": 1, "value": float("inf")}),
        ("in_stage", {"plateau_scale": -1}),
        ("in_stage", {"unknown": 1}),
        ("optimizer", "../o.npz"),
        ("optimizer", "/etc/o.npz"),
        ("weights", ["a.npz", "b.npz", "c.npz"]),
        ("weights", ["a"]),
        ("best_weights", "a.npz"),
        ("parent", {"run_id": "x"}),
        ("origin", {"started": "yesterday", "weights_digest": None, "fingerprint": ""}),
        ("unknown", 1),
    ],
)
def test_a_value_that_its_key_does_not_allow_is_named(key: str, value: Any, path: Path) -> None:
    """Also where no digest shows it, as in the checkpoints of older versions."""
    document = asdict(some_progress())
    del document["digests"]
    path.write_text(json.dumps(document | {key: value}))
    with pytest.raises(ValueError, match=r".") as raised:
        read_progress(path)
    says(raised.value, key)


@pytest.mark.parametrize("digests", [{"o.npz": "0" * 64}, {"o.npz": "0"}])
def test_a_digest_for_each_file_or_for_none(digests: Any, path: Path) -> None:
    progress = some_progress()
    progress.digests = digests
    write_progress(path, progress)
    with pytest.raises(ValueError, match="digests"):
        read_progress(path)


def test_an_older_version_left_no_digests_and_fewer_keys(path: Path) -> None:
    path.write_text(json.dumps({"stage_epochs": [1, 2], "in_stage": {}}))
    assert read_progress(path) == Progress([1, 2])
    assert not read_progress(path).done
