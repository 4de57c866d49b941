"""The results of runs that cannot be written, or must stay as they are."""

import json
import os
from pathlib import Path

import pytest
from messages import says
from permissions import forbidden

from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.elsewhere import place_of_results


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run with a model, a checkpoint and an evaluation."""
    made = RunDirectory(tmp_path / "outputs" / "a-s1-00000000")
    for path in (
        made.model,
        made.state / "progress.json",
        made.metrics("test"),
        made.path / "lock",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    record = {"run_id": made.run_id, "status": "finished", "started": "2026-01-01T00:00:00+00:00"}
    made.run_json.write_text(json.dumps(record))
    return made


def test_results_go_into_the_run(run: RunDirectory) -> None:
    assert place_of_results(run) is run


def test_a_run_that_cannot_be_written_is_refused(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    run.outputs.chmod(0o755)
    with forbidden(run.path, tmp_path / "inside"):
        read_only = RunDirectory(Path(os.pardir) / "outputs" / run.run_id)
        with pytest.raises(RunError) as refused:
            place_of_results(read_only)
    says(refused.value, read_only.path, "--to FOLDER")


def test_the_copy_has_everything_but_the_model_and_the_checkpoints(
    run: RunDirectory, tmp_path: Path
) -> None:
    copy = place_of_results(run, tmp_path / "mine")
    assert copy.path == tmp_path / "mine" / run.run_id
    files = {str(path.relative_to(copy.path)) for path in copy.path.rglob("*") if path.is_file()}
    assert files == {"run.json", "metrics/test.json"}


def test_a_copy_keeps_the_results_that_it_has(run: RunDirectory, tmp_path: Path) -> None:
    copy = place_of_results(run, tmp_path / "mine")
    copy.metrics("test").write_text('{"n": 1}')
    assert place_of_results(run, tmp_path / "mine") == copy
    assert copy.metrics("test").read_text() == '{"n": 1}'


def test_another_run_of_that_name_is_not_touched(run: RunDirectory, tmp_path: Path) -> None:
    copy = place_of_results(run, tmp_path / "mine")
    copy.run_json.write_text(run.run_json.read_text().replace("2026", "2025"))
    with pytest.raises(RunError) as refused:
        place_of_results(run, tmp_path / "mine")
    says(refused.value, copy.path, run.path, "--to FOLDER")


def test_a_run_can_be_its_own_place(run: RunDirectory) -> None:
    assert place_of_results(run, run.outputs) == run
