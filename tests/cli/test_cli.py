"""The commands: their help, what goes to which stream, and their exit codes."""

import errno
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from messages import says
from typer.testing import Result

import fer_bench
import fer_bench.config.experiment
import fer_bench.config.loading
from fer_bench.api import training
from fer_bench.cli import app
from fer_bench.cli.console import STANDARD_OUTPUT
from fer_bench.errors import Interrupted
from fer_bench.runs.directory import RunDirectory

Fer = Callable[..., Result]
COMMANDS: Any = typer.main.get_command(app)
NAMES = [
    *("train", "evaluate", "explain", "report", "compare", "adopt", "check-table"),
    *("validate", "schema", "doctor", "sweep", "sync"),
    *("data", "data prepare", "data stats", "data audit", "data show", "models", "models show"),
    *("cache", "cache stats", "cache clear"),
]


def options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from (name for name in parameter.opts if name.startswith("--"))


@pytest.fixture
def outputs(trained_run: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the trained run, that a test may change."""
    shutil.copytree(trained_run, tmp_path / "outputs" / trained_run.name)
    return tmp_path / "outputs"


def one_document(result: Result) -> Any:
    """The JSON that is all of standard output."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


# Help ------------------------------------------------------------------------------------------


def test_help_names_every_command(fer: Fer) -> None:
    result = fer("--help")
    assert result.exit_code == 0
    for name in COMMANDS.commands:
        assert re.search(rf"\b{name}\b", result.stdout)


def test_without_arguments_help_is_shown(fer: Fer) -> None:
    assert "Usage: fer" in fer().stdout


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command_explains_its_options(fer: Fer, name: str) -> None:
    command = COMMANDS
    for word in name.split():
        command = command.commands[word]
    result = fer(*name.split(), "--help")
    assert result.exit_code == 0
    assert command.help.split(".")[0].split()[0] in result.stdout
    for option in options(command):
        assert option in result.stdout


def test_every_command_is_tested_here() -> None:
    assert {name.split()[0] for name in NAMES} == set(COMMANDS.commands)


def test_what_reads_or_writes_runs_takes_their_folder() -> None:
    for name in ("train", "evaluate", "explain", "report", "adopt", "sweep", "sync"):
        assert "--outputs" in options(COMMANDS.commands[name])


def test_version(fer: Fer) -> None:
    result = fer("--version")
    assert (result.exit_code, result.stdout) == (0, f"fer-bench {fer_bench.__version__}\n")


# Streams ---------------------------------------------------------------------------------------


def test_schema_is_one_document(fer: Fer) -> None:
    result = fer("schema")
    document = one_document(result)
    assert document.pop("$schema") == "https://json-schema.org/draft/2020-12/schema"
    assert document.pop("$id") == "urn:fer-bench:schema:experiment"
    assert document == fer_bench.config.experiment.Experiment.model_json_schema()
    assert result.stderr == ""


def test_evaluate_prints_one_document(fer: Fer, outputs: Path, trained_run: Path) -> None:
    result = fer("evaluate", trained_run.name, "--outputs", outputs, "--json")
    saved = json.loads((outputs / trained_run.name / "metrics" / "test.json").read_text())
    assert one_document(result) == saved


def test_compare_prints_one_document(fer: Fer, trained_run: Path) -> None:
    result = fer("compare", trained_run.parent, "--json")
    (group,) = one_document(result)["groups"]
    assert [run["run_id"] for run in group["runs"]] == [trained_run.name]
    assert group["pairs"] == []
    assert result.stderr == ""


def test_compare_writes_what_it_is_asked_for(fer: Fer, trained_run: Path, tmp_path: Path) -> None:
    csv, html = tmp_path / "new" / "runs [1].csv", tmp_path / "runs.html"
    result = fer("compare", trained_run.parent, "--csv", csv, "--html", html)
    assert result.exit_code == 0
    assert len(csv.read_text().splitlines()) == 2
    assert trained_run.name in html.read_text()
    assert str(csv) in result.stderr
    assert str(html) in result.stderr


@pytest.mark.slow
def test_evaluate_shows_a_table_and_where_the_page_is(
    fer: Fer, outputs: Path, trained_run: Path
) -> None:
    result = fer("evaluate", trained_run.name, "--outputs", outputs, "--split", "validation")
    assert result.exit_code == 0
    assert "accuracy" in result.stdout
    assert "report.html" in result.stderr
    assert (outputs / trained_run.name / "metrics" / "validation.json").exists()


def test_training_a_finished_run_prints_its_id_and_changes_nothing(
    fer: Fer, trained_run: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained_run.rglob("*.*")}
    result = fer("train", trained_run / "config.yaml", "--outputs", trained_run.parent)
    assert (result.exit_code, result.stdout) == (0, f"{trained_run.name}\n")
    says(result.stderr, "finished", "--fresh", "--more-epochs")
    assert {path: path.stat().st_mtime_ns for path in trained_run.rglob("*.*")} == before


def test_validate_shows_the_plan(fer: Fer, write_config: Any, tiny: dict[str, Any]) -> None:
    path = write_config(tiny)
    result = fer("validate", path, "--set", "seed=8")
    assert result.exit_code == 0
    experiment = fer_bench.config.loading.load_experiment(path, ["seed=8"])
    assert result.stdout.startswith(f"{experiment.run_id}\n")
    assert "last 12 layers and head" in result.stdout


def test_a_stage_may_have_brackets_in_its_name(
    fer: Fer, write_config: Any, tiny: dict[str, Any]
) -> None:
    result = fer("validate", write_config(tiny), "--set", "stages.0.name='[/x]'")
    assert result.exit_code == 0
    assert "[/x]" in result.stdout


def test_validate_goes_on_after_a_wrong_file(
    fer: Fer, write_config: Any, tiny: dict[str, Any]
) -> None:
    wrong = [write_config(tiny | {"sede": 1}, f"wrong{number}") for number in range(2)]
    result = fer("validate", wrong[0], write_config(tiny), wrong[1])
    assert result.exit_code == 2
    assert "tiny-s7-" in result.stdout
    assert "wrong0.yaml" in result.stderr
    assert "wrong1.yaml" in result.stderr


# Exit codes ------------------------------------------------------------------------------------


def test_a_command_that_does_not_exist(fer: Fer) -> None:
    result = fer("trian")
    assert result.exit_code == 2
    assert "trian" in result.stderr


@pytest.mark.parametrize(
    ("stop", "words"),
    [(Interrupted("x stopped at step 3"), "x stopped at step 3"), (KeyboardInterrupt(), "user")],
)
def test_stopping_is_exit_code_130(
    fer: Fer, monkeypatch: pytest.MonkeyPatch, stop: BaseException, words: str
) -> None:
    def stopped(*arguments: object) -> None:
        raise stop

    monkeypatch.setattr(fer_bench.config.loading, "load_experiment", stopped)
    result = fer("train", "x.yaml")
    assert result.exit_code == 130
    assert result.stderr.startswith("stopped: ")
    assert words in result.stderr
    assert result.stdout == ""


def test_a_bug_keeps_its_traceback(fer: Fer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(fer_bench.config.loading, "load_experiment", broken)
    result = fer("train", "x.yaml")
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize("path", ["folder", "file/x.csv"])
def test_a_path_that_cannot_be_written_is_no_bug(
    fer: Fer, trained_run: Path, tmp_path: Path, path: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    result = fer("compare", trained_run.parent, "--csv", tmp_path / path)
    assert result.exit_code == 2
    says(result.stderr, tmp_path, "Give another path")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file", tmp_path / "folder"]
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_dry_run_checks_everything_and_leaves_no_run(
    fer: Fer, tiny: dict[str, Any], write_config: Callable[..., Path], tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    result = fer("train", write_config(tiny), "--dry-run", "--outputs", outputs)
    assert result.exit_code == 0, result.output
    says(result.stdout, "tiny-s7-", "cnn_compact", "72 train", "24 validation", "48 test")
    assert not outputs.exists()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"dataset": {"name": "folder", "root": "nowhere"}}, ["nowhere"]),
        ({"model": {"backbone": "cnn_compact", "head": {"pooling": "none"}}}, ["pooling"]),
    ],
    ids=["no data", "no such network"],
)
def test_a_dry_run_reports_what_would_fail(
    fer: Fer,
    tiny: dict[str, Any],
    write_config: Callable[..., Path],
    tmp_path: Path,
    change: dict[str, Any],
    parts: list[str],
) -> None:
    result = fer("train", write_config(tiny | change), "--dry-run", "--outputs", tmp_path / "out")
    assert result.exit_code == 2
    says(result.stderr, *parts)
    assert not (tmp_path / "out").exists()


def test_an_experiment_is_trained_though_the_terminal_of_the_one_before_is_gone(
    fer: Fer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def prepared(experiment: Any, outputs: Path, **_: Any) -> training.PreparedTraining:
        return training.PreparedTraining(RunDirectory(outputs / experiment.run_id), None)

    def train(one: training.PreparedTraining, *_: Any, **__: Any) -> None:
        trained.append(one.run.run_id)

    def gone(_: str) -> None:
        raise OSError(errno.EIO, "Input/output error", STANDARD_OUTPUT)

    monkeypatch.setattr(training, "prepare_training", prepared)
    monkeypatch.setattr(training, "run_training", train)
    monkeypatch.setattr("fer_bench.cli.train.say", gone)
    config = Path(__file__).parents[2] / "configs" / "drawn_compact.yaml"
    result = fer("train", config, config)
    assert len(trained) == 2, result.output
    assert result.exit_code == 2
    says(result.stderr, "standard output")
