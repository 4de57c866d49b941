"""Pages of files that hold markup in every field: it is escaped, or the file is rejected."""

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filled
import pandas as pd
import pytest
from filled import HOSTILE
from messages import says

from fer_bench.errors import RunError
from fer_bench.report.pages import comparison_page, write_run_report
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.documents import read_corruptions, read_metrics
from fer_bench.runs.predictions import read_predictions

Place = tuple[str | int, ...]


def places(document: Any, keys: Place = ()) -> Iterator[Place]:
    """The keys that lead to each value of a document."""
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in entries:
        if isinstance(value, dict | list):
            yield from places(value, (*keys, key))
        else:
            yield (*keys, key)


def with_hostile(document: Any, place: Place) -> Any:
    """A copy of the document with markup in one place."""
    changed = copy.deepcopy(document)
    parent = changed
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = HOSTILE
    return changed


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run with markup in its name and in the name of a class."""
    run = filled.write_run(tmp_path / "<i>run-s1-unhashed", images=70)
    for path in [run.run_json, *run.path.glob("[mpe]*/**/*.json"), *run.path.glob("*/*.csv")]:
        path.write_text(path.read_text().replace("anger", HOSTILE))
    for name in ("test", "test+flip"):
        document = json.loads(run.metrics(name).read_text())
        document["fingerprint"] = read_predictions(run.predictions(name)).fingerprint
        run.metrics(name).write_text(json.dumps(document))
    return run


@pytest.mark.slow
def test_markup_in_any_field_is_escaped_or_rejected(run: RunDirectory) -> None:
    readers: dict[Path, Callable[[], object]] = {
        run.run_json: run.read_record,
        run.metrics("test"): lambda: read_metrics(run, "test"),
        run.corruptions("test"): lambda: read_corruptions(run, "test"),
        run.explanations("test") / "explanations.json": lambda: None,
    }
    for path, read in readers.items():
        original = json.loads(path.read_text())
        hostile = original
        for place in places(original):
            if place == ("fingerprint",):  # without it, the charts of predictions are left out
                continue
            path.write_text(json.dumps(with_hostile(original, place)))
            try:
                read()
            except RunError as error:
                says(error, path, [key for key in place if isinstance(key, str)][-1])
            else:
                hostile = with_hostile(hostile, place)
        path.write_text(json.dumps(hostile))
    history = pd.read_csv(run.history)
    history["stage"] = HOSTILE
    history.to_csv(run.history, index=False)
    run.config.write_text(f"selection: '{HOSTILE}'\n")
    page = write_run_report(run, with_images=True).read_text()
    assert HOSTILE not in page
    assert "<i>run" not in page
    assert page.count("<script>") == 1  # ours, which sorts tables
    assert page.count("&lt;script&gt;alert(1)") > 100


@pytest.mark.parametrize("column", ["epoch", "loss", "val_accuracy", "learning_rate"])
def test_text_in_a_number_of_the_history_is_rejected(run: RunDirectory, column: str) -> None:
    history = pd.read_csv(run.history).astype({column: object})
    history.loc[3, column] = HOSTILE
    history.to_csv(run.history, index=False)
    with pytest.raises(RunError) as error:
        run.read_history()
    says(error.value, run.history, HOSTILE)


def hostile_copy(value: Any) -> Any:
    """The value with markup in place of every text, except names that the code looks up."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        looked_up = {"pairs_with", "metric", "sort"}
        changed = {k: v if k in looked_up else hostile_copy(v) for k, v in fields.items()}
        return dataclasses.replace(value, **changed)
    if isinstance(value, tuple):
        return tuple(map(hostile_copy, value))
    if isinstance(value, dict):
        return {key: hostile_copy(entry) for key, entry in value.items()}
    return HOSTILE if isinstance(value, str) else value


def test_markup_in_any_text_of_a_comparison_is_escaped() -> None:
    page = comparison_page(hostile_copy(filled.comparison()))
    assert HOSTILE not in page
    assert page.count("<script>") == 1
    assert page.count("&lt;script&gt;alert(1)") > 100
