"""`fer compare` in a terminal, on runs that are written by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import Result

from fer_bench.metrics.document import compute
from fer_bench.runs.predictions import read_predictions

CLASSES = ("neutral", "happiness", "anger")
Fer = Callable[..., Result]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished runs of one test set; the better the later. Read only."""
    folder = tmp_path_factory.mktemp("outputs")
    for skill, name in enumerate(("cnn_weak", "cnn_good", "vgg_best")):
        run = folder / f"{name}-s1-unhashed"
        for part in ("predictions", "metrics"):
            (run / part).mkdir(parents=True)
        labels = np.arange(60) % 3
        scores = np.random.default_rng(skill).random((60, 3))
        scores[np.arange(60), labels] += skill
        shares = scores / scores.sum(axis=1, keepdims=True)
        names = np.array(CLASSES)
        table = {"sample_id": range(60), "label": names[labels]}
        table |= {"predicted": names[shares.argmax(axis=1)]}
        table |= {f"p_{name}": shares[:, code] for code, name in enumerate(CLASSES)}
        pd.DataFrame(table).to_csv(run / "predictions/test.csv", index=False)
        document = compute(read_predictions(run / "predictions/test.csv"), resamples=20)
        (run / "metrics/test.json").write_text(json.dumps(document))
        (run / "config.yaml").write_text(yaml.safe_dump({"seed": 1, "name": name}))
        record = {"name": name, "seed": 1, "status": "finished", "model": {"backbone": name[:3]}}
        (run / "run.json").write_text(json.dumps(record))
    return folder


def test_the_table_is_printed(fer: Fer, outputs: Path) -> None:
    result = fer("compare", outputs)
    assert result.exit_code == 0
    assert result.stdout.index("vgg_best") < result.stdout.index("cnn_weak")
    assert "share a letter" in result.stdout


def test_runs_can_be_chosen_and_sorted(fer: Fer, outputs: Path) -> None:
    result = fer("compare", outputs, "--where", "backbone=cnn", "--sort", "name", "--json")
    document = json.loads(result.stdout)
    (group,) = document["groups"]
    assert [run["name"] for run in group["runs"]] == ["cnn_good", "cnn_weak"]
    assert (document["where"], document["not_chosen"]) == ("backbone=cnn", 1)


def test_pairs_can_be_chosen(fer: Fer, outputs: Path) -> None:
    counts = {}
    for pairs in ("auto", "all", "best"):
        (group,) = json.loads(fer("compare", outputs, "--pairs", pairs, "--json").stdout)["groups"]
        counts[group["pairs_with"], pairs] = len(group["pairs"])
    assert counts == {("all", "auto"): 6, ("all", "all"): 6, ("best", "best"): 4}


@pytest.mark.parametrize(
    ("option", "start"),
    [("--markdown", "### 1."), ("--latex", "% needs"), ("--csv", "group,test_fingerprint")],
)
def test_a_document_is_printed_or_written(
    option: str, start: str, fer: Fer, outputs: Path, tmp_path: Path
) -> None:
    printed = fer("compare", outputs, option, "-")
    assert (printed.exit_code, printed.stderr) == (0, "")
    assert printed.stdout.startswith(start)
    path = tmp_path / "new" / "table"
    written = fer("compare", outputs, option, path)
    assert path.read_text() == printed.stdout
    assert str(path) in written.stderr
    assert "share a letter" in written.stdout


def test_a_file_can_be_written_beside_what_is_printed(
    fer: Fer, outputs: Path, tmp_path: Path
) -> None:
    result = fer("compare", outputs, "--markdown", tmp_path / "table.md", "--json")
    assert len(json.loads(result.stdout)["groups"]) == 1
    assert result.stderr == ""
    assert "vgg" in (tmp_path / "table.md").read_text()


def test_only_one_document_can_be_printed(fer: Fer, outputs: Path) -> None:
    result = fer("compare", outputs, "--markdown", "-", "--json")
    assert result.exit_code == 2
    assert "--markdown and --json: only one of them" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "found"),
    [
        ("--where", "backbon=cnn", "Did you mean 'backbone'?"),
        ("--where", "seed=", "'seed ='"),
        ("--where", "seed=9", "chooses none of the 3 runs"),
        ("--sort", "acuracy", "Did you mean 'accuracy'?"),
        ("--pairs", "bst", "Did you mean 'best'?"),
    ],
)
def test_what_is_wrong_is_said(
    option: str, value: str, found: str, fer: Fer, outputs: Path
) -> None:
    result = fer("compare", outputs, option, value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert found in result.stderr


def test_another_evaluation_is_found_by_its_name(fer: Fer, outputs: Path) -> None:
    for option in ("--split", "--evaluation"):
        result = fer("compare", outputs, option, "test+flip", "--json")
        reasons = {run["reason"] for run in json.loads(result.stdout)["left_out"]}
        assert all("--views flip" in reason for reason in reasons)
