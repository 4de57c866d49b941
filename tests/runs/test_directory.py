import os
import subprocess
import sys
from pathlib import Path

import pytest
from messages import says

from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory, find_run, list_runs
from fer_bench.storage import files as storage_files
from fer_bench.storage.files import write_atomically, write_json
from fer_bench.storage.locks import LOCK, created_locked
from fer_bench.storage.replacement import COMPLETE


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
        run.corruptions("test+flip"): "corruptions/test+flip.json",
        run.explanations("test"): "explanations/test",
    }
    assert all(path == run.path / name for path, name in paths.items())
    assert run.run_id == "small-s1-0123abcd"


def test_json_round_trip(run: RunDirectory) -> None:
    write_json(run.metrics("test"), {"n": 1, "value": 0.1})
    assert run.read_json(run.metrics("test")) == {"n": 1, "value": 0.1}


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
        (b"[1]", "list"),
        (b'{"a":' + b"[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_unreadable_json(run: RunDirectory, content: bytes | None, message: str) -> None:
    if content is not None:
        write_atomically(run.metrics("test"), content)
    with pytest.raises(RunError) as raised:
        run.read_json(run.metrics("test"))
    says(raised.value, run.metrics("test"), message, f"fer evaluate {run.run_id}")


def test_json_that_is_too_large_is_not_read(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_files, "MOST_BYTES", 10)
    write_json(run.metrics("test"), {"n": "0123456789"})
    with pytest.raises(RunError) as raised:
        run.read_json(run.metrics("test"))
    says(raised.value, run.metrics("test"), "24 bytes", 10)


def make_run(outputs: Path, run_id: str) -> None:
    write_json(RunDirectory(outputs / run_id).run_json, {})


def test_runs_are_listed_by_name(tmp_path: Path) -> None:
    make_run(tmp_path, "b")
    make_run(tmp_path, "a")
    (tmp_path / "no run").mkdir()
    assert [run.run_id for run in list_runs(tmp_path)] == ["a", "b"]
    assert find_run(tmp_path, "b").path == tmp_path / "b"


def test_unknown_run(tmp_path: Path) -> None:
    with pytest.raises(RunError) as raised:
        find_run(tmp_path, "c")
    says(raised.value, tmp_path, "'c'", "no runs", "--outputs")
    make_run(tmp_path, "other")
    with pytest.raises(RunError) as raised:
        find_run(tmp_path, "c")
    says(raised.value, tmp_path, "'c'", "other", "--outputs")


def test_missing_outputs(tmp_path: Path) -> None:
    with pytest.raises(RunError) as raised:
        list_runs(tmp_path / "none")
    says(raised.value, tmp_path / "none", "no such folder")


def test_a_lock_is_held_by_one(run: RunDirectory) -> None:
    with run.lock(), pytest.raises(RunError) as raised, run.lock():
        pytest.fail("locked twice")
    says(raised.value, run.path, f"process {os.getpid()} on ", "--outputs")
    with run.lock():
        pass


def test_what_a_run_says_of_itself(run: RunDirectory) -> None:
    assert run.status() is None
    write_json(run.run_json, {"status": "running", "started": "2026-01-02T03:04:05"})
    assert run.status() == "running"
    assert run.read_record().started == "2026-01-02T03:04:05"


def test_a_run_that_was_not_begun_leaves_no_folder(run: RunDirectory) -> None:
    with pytest.raises(ZeroDivisionError), run.lock():
        raise ZeroDivisionError
    assert not run.path.exists()


def test_the_folder_of_runs_need_not_be_there(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "new" / "outputs" / "a-s1-00000000")
    with run.lock():
        assert run.path.is_dir()


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
        "from fer_bench.runs.directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).lock(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(run.path)], check=False, env=environment)
    assert (run.path / "lock").exists()
    with run.lock():
        assert f"process {os.getpid()} on" in (run.path / "lock").read_text()


# What is left behind ------------------------------------------------------------------------------

OF_A_KILL = [
    ".history.csv.{process}.tmp",
    ".run.json.{process}.tmp",
    ".config.yaml.{process}.tmp",
    ".model.keras.{process}.tmp",
    ".writing-model.keras",
    "state/.writing-weights-00001-0000003.npz",
    "state/.progress.json.{process}.tmp",
    "predictions/.test.csv.{process}.tmp",
    "metrics/.test@other+flip.json.{process}.tmp",
    "corruptions/.test.json.{process}.tmp",
    "explanations/test/.maps.npz.{process}.tmp",
    "tracking/.mlflow.json.{process}.tmp",
]
TO_BE_KEPT = ["history.csv", "state/progress.json", "tracking/.mlflow.lock", ".notes", "notes.tmp"]


@pytest.fixture
def ended() -> int:
    """The number of a process that is over."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave_behind(run: RunDirectory, process: int, status: str = "interrupted") -> None:
    for name in [*OF_A_KILL, *TO_BE_KEPT]:
        path = run.path / name.format(process=process)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    write_json(run.run_json, {"status": status})


def files(run: RunDirectory) -> set[str]:
    found = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*")}
    return {name for name in found if (run.path / name).is_file()} - {"lock", "run.json"}


@pytest.mark.parametrize("opened", ["lock", "find"])
def test_whoever_opens_a_run_clears_what_a_killed_process_left(
    opened: str, run: RunDirectory, ended: int
) -> None:
    leave_behind(run, ended)
    if opened == "lock":
        with run.lock():
            assert files(run) == set(TO_BE_KEPT)
    else:
        find_run(run.outputs, run.run_id)
        assert files(run) == set(TO_BE_KEPT)


def test_an_evaluation_that_was_killed_when_complete_takes_its_place(run: RunDirectory) -> None:
    complete = run.path / f"{COMPLETE}killed"
    write_atomically(complete / "new/metrics/test.json", "new")
    (complete / LOCK).touch()
    run.settle()
    assert run.metrics("test").read_text() == "new"
    assert not complete.exists()


def test_what_a_living_process_writes_is_left_alone(run: RunDirectory, ended: int) -> None:
    seen = []

    def look(path: Path) -> None:
        path.write_text("all")
        (run.path / "predictions").mkdir()
        (run.path / f"predictions/.test.csv.{os.getpid()}.tmp").touch()  # of an older version
        find_run(run.outputs, run.run_id)
        with run.lock():
            seen.append(files(run))

    write_json(run.run_json, {})
    run.replace_file(run.model, look)
    assert seen == [{".writing-model.keras", f"predictions/.test.csv.{os.getpid()}.tmp"}]
    assert run.model.read_text() == "all"


def test_of_a_run_that_is_held_nothing_is_cleared_by_others(run: RunDirectory, ended: int) -> None:
    write_json(run.run_json, {})
    with run.lock():
        leave_behind(run, ended, "finished")
        before = files(run)
        find_run(run.outputs, run.run_id)
        assert files(run) == before


def test_what_a_process_on_another_machine_writes_is_left_alone(
    run: RunDirectory, ended: int
) -> None:
    """Its number says nothing here, but it has the lock."""
    path = run.path / f".history.csv.{ended}.tmp"
    write_json(run.run_json, {})
    with created_locked(path):
        find_run(run.outputs, run.run_id)
        assert path.exists()
    find_run(run.outputs, run.run_id)
    assert not path.exists()


@pytest.mark.parametrize(
    ("record", "kept"),
    [
        ({"status": "finished", "ended": "2026-01-02", "state_kept": True}, True),
        ({"status": "finished", "ended": "2026-01-02", "state_kept": False}, False),
        ({"status": "finished", "ended": "2026-01-02"}, False),
        ({"status": "finished"}, True),  # what somebody has left of a record
        ({"status": "running", "ended": None}, True),
        ({"status": "interrupted", "ended": "2026-01-02", "state_kept": False}, True),
    ],
)
def test_a_run_killed_when_it_was_finished_loses_the_state_that_it_does_not_keep(
    record: dict[str, object], kept: bool, run: RunDirectory
) -> None:
    write_json(run.run_json, record)
    write_json(run.state / "progress.json", {})
    find_run(run.outputs, run.run_id)
    assert run.state.exists() == kept


def test_a_run_that_cannot_be_read_keeps_its_state(run: RunDirectory) -> None:
    write_atomically(run.run_json, "{")
    write_json(run.state / "progress.json", {})
    with run.lock():
        assert run.state.exists()


def test_the_lock_says_nothing_once_nobody_holds_it(run: RunDirectory) -> None:
    write_json(run.run_json, {})
    for _ in range(2):
        with run.lock():
            pass
        assert (run.path / "lock").read_text() == ""
