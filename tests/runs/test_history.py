from pathlib import Path

import pandas as pd
import pytest
from messages import says

from fer_bench.errors import RunError
from fer_bench.runs import history as history_module
from fer_bench.runs.history import Epoch, is_cut_off, read_history


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.csv"


def test_rows_are_typed(path: Path) -> None:
    path.write_text("epoch,stage,loss,accuracy\n1,head,0.30000000000000004,\n2,007,inf,0.5\n")
    first, second = read_history(path)
    assert first == Epoch(1, "head", {"loss": 0.1 + 0.2, "accuracy": None})
    assert first.to_row() == {"epoch": 1, "stage": "head", "loss": 0.1 + 0.2, "accuracy": None}
    assert (second.stage, second.numbers) == ("007", {"accuracy": 0.5})


def test_values_may_lie_at_the_ends_of_their_range(path: Path) -> None:
    path.write_text("epoch,accuracy,val_accuracy,learning_rate\n1,0,1,0\n")
    (epoch,) = read_history(path)
    assert epoch.numbers == {"accuracy": 0, "val_accuracy": 1, "learning_rate": 0}


def test_what_is_written_again_is_the_same_file(prebuilt_run: Path, path: Path) -> None:
    rows = [epoch.to_row() for epoch in read_history(prebuilt_run / "history.csv")]
    pd.DataFrame(rows).to_csv(path, index=False)
    assert path.read_text() == (prebuilt_run / "history.csv").read_text()


@pytest.mark.parametrize("content", [None, "epoch,stage,loss\n"])
def test_without_an_epoch_there_is_none(content: str | None, path: Path) -> None:
    if content is not None:
        path.write_text(content)
    assert read_history(path) == []


def test_a_last_row_that_is_half_written_is_left_out(path: Path) -> None:
    path.write_text("epoch,stage,loss\n1,head,0.5\n2,he")
    assert [epoch.number for epoch in read_history(path)] == [1]
    assert is_cut_off(path)


def test_a_last_row_that_lost_a_cell_is_noticed(path: Path) -> None:
    path.write_text("epoch,stage,loss\n1,head,0.5\n2,head\n")
    assert [epoch.number for epoch in read_history(path)] == [1]
    assert is_cut_off(path)


def test_a_number_that_lost_its_last_digits_is_noticed(path: Path) -> None:
    path.write_text("epoch,stage,loss\n1,head,0.53\n")
    assert not is_cut_off(path)
    path.write_text("epoch,stage,loss\n1,head,0.5")
    assert is_cut_off(path)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["columns", "epoch"]),
        ("stage,loss\nhead,1\n", ["stage, loss", "epoch"]),
        ("epoch,loss,loss\n1,2,3\n", ["epoch, loss, loss"]),
        ("epoch,loss\n1\n2,0.5\n", ["line 2", "1 cells", 2]),
        ("epoch,loss\n1,2,3\n", ["line 2", "3 cells", 2]),
        ("epoch,loss\n1,0.5\n3,0.5\n", ["line 3", "epoch", "'3'", 2]),
        ("epoch,loss\none,0.5\n", ["line 2", "epoch", "'one'", 1]),
        ("epoch,loss\n1,low\n", ["line 2", "loss", "'low'"]),
        ("epoch,accuracy\n1,1.5\n", ["line 2", "accuracy", "1.5", "0 to 1"]),
        ("epoch,val_accuracy\n1,1.5\n", ["line 2", "val_accuracy", "1.5", "0 to 1"]),
        ("epoch,seconds\n1,-2\n", ["line 2", "seconds", "-2"]),
    ],
)
def test_what_is_damaged_is_named(content: str, parts: list[object], path: Path) -> None:
    path.write_text(content)
    with pytest.raises(RunError) as raised:
        read_history(path)
    says(raised.value, path, *parts, f"fer train {path.with_name('config.yaml')} --fresh")


def test_binary_and_oversized_files_are_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError) as raised:
        read_history(path)
    says(raised.value, path, "0xff")
    monkeypatch.setattr(history_module, "LARGEST_BYTES", 2)
    with pytest.raises(RunError) as raised:
        read_history(path)
    says(raised.value, path, "3 bytes")
