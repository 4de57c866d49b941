import os
import subprocess
import sys
from pathlib import Path

import pytest

from fer_bench.errors import RunError
from fer_bench.rundir import (
    RunDirectory,
    find_run,
    list_runs,
    write_atomically,
    write_json,
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "small-s1-0123abcd")


def test_file_names(run: RunDirectory) -> None:
    paths = {
        run.config: "config.yaml",
        run.run_json: "run.json",
        run.history: "history.csv",
        run.model: "model.keras",
        run.state: "state",
        run.figures: "figures",
        run.report: "report.html",
        run.predictions("test"): "predictions/test.csv",
        run.metrics("validation"): "metrics/validation.json",
    }
    assert all(path == run.path / name for path, name in paths.items())
    assert run.run_id == "small-s1-0123abcd"


@pytest.mark.parametrize("content", ["text ä", b"bytes"])
def test_writing_makes_the_folder_and_leaves_one_file(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "deep" / "er" / "file"
    write_atomically(path, "old")
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError("disk full")

    path = tmp_path / "file"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_round_trip(run: RunDirectory) -> None:
    write_json(run.run_json, {"status": "finished", "value": 0.1})
    assert run.read_json(run.run_json) == {"status": "finished", "value": 0.1}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_without_nan(run: RunDirectory, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(run.run_json, {"value": value})
    assert not run.run_json.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as JSON"),
        (b'{"a": ', "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[1]", "expected a JSON object, found list"),
    ],
)
def test_unreadable_json(run: RunDirectory, content: bytes | None, message: str) -> None:
    if content is not None:
        write_atomically(run.run_json, content)
    with pytest.raises(RunError, match=message):
        run.read_json(run.run_json)


def make_run(outputs: Path, run_id: str) -> None:
    write_json(RunDirectory(outputs / run_id).run_json, {})


def test_runs_are_listed_by_name(tmp_path: Path) -> None:
    make_run(tmp_path, "b")
    make_run(tmp_path, "a")
    (tmp_path / "no run").mkdir()
    assert [run.run_id for run in list_runs(tmp_path)] == ["a", "b"]
    assert find_run(tmp_path, "b").path == tmp_path / "b"


def test_unknown_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run called 'c'; it holds no runs"):
        find_run(tmp_path, "c")
    make_run(tmp_path, "a")
    with pytest.raises(RunError, match="no run called 'c'; it holds a"):
        find_run(tmp_path, "c")


def test_missing_outputs(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder"):
        list_runs(tmp_path / "none")


def test_a_lock_is_held_by_one(run: RunDirectory) -> None:
    with (
        run.lock(),
        pytest.raises(RunError, match=f"being trained by process {os.getpid()} on "),
        run.lock(),
    ):
        pytest.fail("locked twice")
    with run.lock():
        pass


def test_what_a_run_says_of_itself(run: RunDirectory) -> None:
    assert run.status() is None
    assert run.started() is None
    write_json(run.run_json, {"status": "running", "started": "2026-01-02T03:04:05"})
    assert run.status() == "running"
    assert run.started() == "2026-01-02T03:04:05"


def test_a_run_that_was_not_begun_leaves_no_folder(run: RunDirectory) -> None:
    with pytest.raises(ZeroDivisionError), run.lock():
        raise ZeroDivisionError
    assert not run.path.exists()


def test_a_file_is_replaced_in_one_step(run: RunDirectory) -> None:
    write_atomically(run.model, "old")

    def write(path: Path) -> None:
        path.write_text("new")
        assert run.model.read_text() == "old"

    run.replace_file(run.model, write)
    assert run.model.read_text() == "new"
    assert list(run.path.iterdir()) == [run.model]


def test_a_lock_is_gone_with_a_killed_process(run: RunDirectory) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from fer_bench.rundir import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).lock(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(run.path)], check=False, env=environment)
    assert (run.path / "lock").exists()
    with run.lock():
        assert f"process {os.getpid()} on" in (run.path / "lock").read_text()
