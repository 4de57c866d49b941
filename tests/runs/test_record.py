"""`run.json`: what is written is read back, older ones are read, and a damaged one is explained."""

import json
from pathlib import Path
from typing import Any

import pytest
from messages import says

from fer_bench.errors import RunError
from fer_bench.runs.record import (
    BestRecord,
    DatasetRecord,
    ModelRecord,
    ParentRecord,
    RunRecord,
    StageRecord,
    is_newer,
    read_record,
)
from fer_bench.storage import files
from fer_bench.storage.files import write_json

RECORD = RunRecord(
    run_id="small-s1-0123abcd",
    name="small",
    seed=1,
    status="finished",
    started="2026-01-02T03:04:05+00:00",
    dataset=DatasetRecord(
        name="drawn", classes=["fear", "anger"], counts={"test": {"fear": 2, "anger": 0}}
    ),
    model=ModelRecord(backbone="cnn_compact", weights="none", first_trainable_layer=["conv", None]),
    stages=[StageRecord(name="head", epochs=3)],
    selection="test_split",
    best=BestRecord(epoch=2, metric="val_loss", value=0.25),
    parent=ParentRecord(run_id="small-s1-00000000", epoch=1, optimizer="new"),
    images_per_second=0.25,
    seconds=0.5,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.json"


def as_json(record: RunRecord) -> Any:
    return json.loads(json.dumps(record.to_json()))


def damage(path: Path, content: str | bytes) -> str:
    """The message about a `run.json` with this content."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(RunError) as raised:
        read_record(path)
    return str(raised.value)


def test_what_is_written_is_read_back(path: Path) -> None:
    write_json(path, RECORD.to_json())
    assert as_json(read_record(path)) == as_json(RECORD)
    assert next(iter(json.loads(path.read_text()))) == "schema"


@pytest.mark.parametrize("document", [{}, {"status": "finished", "best": {"epoch": 2}}])
def test_an_older_record_without_a_schema_is_read(document: dict[str, Any], path: Path) -> None:
    write_json(path, document)
    found = read_record(path)
    assert (found.schema, found.dataset.classes, found.seconds) == (1, (), None)
    assert not found.state_kept


def test_a_key_of_a_later_version_is_ignored(path: Path) -> None:
    write_json(path, RECORD.to_json() | {"weather": "fine"})
    assert as_json(read_record(path)) == as_json(RECORD)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 2),
        ("schema", "1"),
        ("status", "done"),
        ("seed", "3"),
        ("seed", True),
        ("started", "yesterday"),
        ("seconds", -1.5),
        ("seconds", float("nan")),
        ("images_per_second", float("inf")),
        ("threads", 0),
        ("selection", "train"),
        ("tracking", "mlflow"),
        ("dataset", []),
        ("dataset.classes", "fear"),
        ("dataset.classes.1", 7),
        ("dataset.counts.test.fear", -1),
        ("model.parameters", 1.5),
        ("best.epoch", 0),
        ("best.value", float("nan")),
        ("stages.0.epochs", None),
        ("parent.optimizer", "old"),
    ],
)
def test_a_damaged_value_is_named(key: str, value: object, path: Path) -> None:
    document = inner = as_json(RECORD)
    *parents, last = key.split(".")
    for part in parents:
        inner = inner[int(part) if part.isdigit() else part]
    inner[int(last) if last.isdigit() else last] = value
    message = damage(path, json.dumps(document))
    says(message, f"{path}: {key}: ", value, f"fer train {path.with_name('config.yaml')} --fresh")
    assert len(message.splitlines()) == 2


@pytest.mark.parametrize(
    "content", ["", "{", "\x00", "[]", b"\xff\xfe", "[" * 100_000, '{"dataset": ' * 300]
)
def test_what_is_no_record_at_all_is_named(content: str | bytes, path: Path) -> None:
    says(damage(path, content), path, "JSON", "--fresh")


def test_a_key_that_occurs_twice_is_named(path: Path) -> None:
    says(damage(path, '{"seed": 1, "seed": 2}'), path, "'seed'", "--fresh")


def test_a_file_that_is_too_large_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 10)
    says(damage(path, '{"name": "long"}'), path, "16 bytes", 10)


def test_a_missing_record_is_named(path: Path) -> None:
    with pytest.raises(RunError) as raised:
        read_record(path)
    says(raised.value, path, "No such file")


@pytest.mark.parametrize(
    ("content", "newer"),
    [('{"schema": 2}', True), ('{"schema": 1}', False), ("{}", False), ("{", False), ("[]", False)],
)
def test_a_newer_version_is_told_from_damage(content: str, newer: bool, path: Path) -> None:
    assert not is_newer(path)  # there is none
    path.write_text(content)
    assert is_newer(path) == newer
