"""`fer check-table` and `fer adopt`: what they print, and how they end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from messages import says
from typer.testing import Result

Fer = Callable[..., Result]

TABLE = """\
              precision    recall  f1-score   support

       Angry     0.1957    0.1837    0.1895        49
     Disgust     0.4902    0.6410    0.5556        39
        Fear     0.1190    0.1471    0.1316        34
       Happy     0.3571    0.3488    0.3529        43
     Neutral     0.3077    0.3137    0.3107        51
         Sad     0.1892    0.2000    0.1944        35
    Surprise     0.7778    0.5091    0.6154        55

    accuracy                         0.3481       306
   macro avg     0.3481
weighted avg     0.3699
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.txt"
    path.write_text(TABLE)
    return path


def test_a_wrong_table_is_a_finding(fer: Fer, table: Path) -> None:
    result = fer("check-table", table)
    assert result.exit_code == 0, result.output
    words = " ".join(result.stdout.split())
    assert "Counts behind the table, n = 306" in words
    assert "Surprise 55 28 36 0.7778 0.5091 0.6154 unique" in words
    assert "By the counts 105 of 306 are correct: 0.3431, 95% interval 0.2922 to 0.3980." in words
    assert "Cannot be right accuracy is printed as 0.3481; the counts say 105/306" in words
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_right_table_is_called_consistent(fer: Fer, table: Path) -> None:
    table.write_text(TABLE.replace("0.3481       306", "0.3431       306"))
    result = fer("check-table", table)
    assert "Consistent: there are counts that fit every printed cell." in result.stdout
    assert "Cannot be right" not in result.stdout


def test_what_is_not_unique_is_shown_as_a_range(fer: Fer, table: Path) -> None:
    table.write_text("a 0.2 0.2 0.2 490\nb 0.89 0.88 - 4000\nc - - 0.1 12\n")
    result = fer("check-table", table)
    assert result.exit_code == 0, result.output
    row = next(line for line in result.stdout.splitlines() if line.lstrip().startswith("b "))
    assert "3,500-3,540" in row
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_audit_is_one_document(fer: Fer, table: Path) -> None:
    result = fer("check-table", table, "--json")
    document = json.loads(result.stdout)
    assert document["accuracy"]["correct"] == 105
    assert [entry["cell"] for entry in document["wrong"]] == ["accuracy"]
    assert document["consistent"] is False


def test_a_table_that_is_none(fer: Fer, table: Path) -> None:
    table.write_text("Angry 0.1 0.2 0.3 4\nSad 0.1 ? 0.3 4\n")
    result = fer("check-table", table)
    assert (result.exit_code, result.stdout) == (2, "")
    says(result.stderr, "line 2", "'Sad 0.1 ? 0.3 4'", "precision, recall")


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.csv"
    rows = [
        f"{index},{('happy', 'sad')[index % 2]},0.{index + 3},0.{7 - index}" for index in range(5)
    ]
    path.write_text("\n".join(["sample_id,label,p_happy,p_sad", *rows]))
    return path


def test_predictions_become_a_run(fer: Fer, predictions: Path, tmp_path: Path) -> None:
    result = fer("adopt", "theirs", predictions, "--outputs", tmp_path / "runs")
    assert result.exit_code == 0, result.output
    (folder,) = (tmp_path / "runs").iterdir()
    assert result.stdout == f"{folder.name}\n"
    assert folder.name.startswith("theirs-s0-")
    says(result.stderr, "warning", "n = 5", folder)


def test_an_adopted_run_is_one_document(fer: Fer, predictions: Path, tmp_path: Path) -> None:
    result = fer("adopt", "theirs", predictions, "--outputs", tmp_path, "--seed", 4, "--json")
    document = json.loads(result.stdout)
    assert document["run_id"].startswith("theirs-s4-")
    assert document["metrics"]["n"] == 5


def test_bad_predictions_leave_nothing(fer: Fer, predictions: Path, tmp_path: Path) -> None:
    predictions.write_text(predictions.read_text().replace("0.5,0.5", "5,-2"))
    result = fer("adopt", "theirs", predictions, "--outputs", tmp_path / "runs")
    assert (result.exit_code, result.stdout) == (2, "")
    says(result.stderr, "logits", "softmax")
    assert not (tmp_path / "runs").exists()


def test_the_dataset_of_an_experiment_has_the_labels(
    fer: Fer,
    predictions: Path,
    tiny: dict[str, Any],
    write_config: Callable[..., Path],
    tmp_path: Path,
) -> None:
    config = write_config(tiny)
    result = fer("adopt", "theirs", predictions, "--data", config, "--outputs", tmp_path / "runs")
    assert (result.exit_code, result.stdout) == (2, "")
    says(result.stderr, "p_neutral")


def test_an_adopted_run_cannot_be_evaluated(fer: Fer, predictions: Path, tmp_path: Path) -> None:
    run_id = fer("adopt", "theirs", predictions, "--outputs", tmp_path).stdout.strip()
    result = fer("evaluate", run_id, "--outputs", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "predictions come from elsewhere" in result.stderr
