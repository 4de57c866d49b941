"""Sweeps: several jobs at a time, stopping and resuming them, and their output."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from messages import says
from typer.testing import Result

from fer_bench.comparison.collect import collect
from fer_bench.config.loading import load_experiment
from fer_bench.device.machine import usable_cores
from fer_bench.device.signals import PARENT_ENDED, Stop
from fer_bench.errors import FerError, RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.sweep import job as jobs
from fer_bench.sweep.job import Job, Outcome, config_text, is_claimed, run_job
from fer_bench.sweep.local_engine import LocalEngine, share_of_cores
from fer_bench.sweep.scheduler import job_status, run_jobs

Fer = Callable[..., Result]
WriteConfig = Callable[..., Path]
MakeJob = Callable[..., Job]
TIMES = ["images_per_second", "seconds"]
SECONDS = 900.0  # guards against hanging; takes seconds on an idle machine

# Replaces `fer`, so that a job takes no time. Its behaviour depends on the name of the run.
STAND_IN = """
import fcntl, json, os, pathlib, signal, sys, time

kind, what, *rest = sys.argv[1:]
options = dict(zip(rest[::2], rest[1::2]))
run_id = pathlib.Path(what).stem if kind == "train" else what
outputs = pathlib.Path(options["--outputs"])
run = outputs / run_id
with (outputs / "calls").open("a") as calls:
    calls.write(f"{kind} {run_id} {options['--device']} {options.get('--threads')}\\n")

def write(status):
    (run / "run.json").write_text(json.dumps({"status": status}))

def stop(number, frame):
    write("interrupted")
    print(f"stopped: {run_id} stopped at epoch 1, step 3")
    sys.exit(130)

if kind == "evaluate":
    (run / "metrics").mkdir()
    (run / "metrics" / "test.json").write_text("{}")
    sys.exit()
if "wrong" in run_id:
    sys.exit("some heading\\nerror: data/none: no such folder.\\nUnpack the download.")
if "bug" in run_id:
    raise ZeroDivisionError("division by zero")
if "killed" in run_id:
    os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, stop)
run.mkdir(exist_ok=True)
with (run / "lock").open("a") as lock:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("error: this run is being trained by another process")
        sys.exit(2)
    write("running")
    if "warned" in run_id:
        print("warning: few images\\nwarning: few images\\nno warning: here")
    if "slow" in run_id and not (run / "go").exists():
        time.sleep(60)
    write("finished")
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make jobs call the stand-in; returns the file where it records its calls."""
    program = tmp_path / "stand_in.py"
    program.write_text(STAND_IN)
    monkeypatch.setattr(jobs, "FER", (sys.executable, "-S", str(program)))
    (tmp_path / "outputs").mkdir()
    return tmp_path / "outputs" / "calls"


@pytest.fixture
def new_job(tmp_path: Path) -> MakeJob:
    """A job with this run id, for the stand-in."""

    def make(run_id: str, evaluation: str | None = "test") -> Job:
        log = str(tmp_path / "logs" / f"{run_id}.log")
        return Job(run_id, "", str(tmp_path / "outputs"), evaluation, "auto", None, log)

    return make


def calls(notes: Path) -> list[str]:
    return [" ".join(line.split()[:2]) for line in notes.read_text().splitlines()]


def wait_until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


class Background:
    """A job in a thread that can be stopped."""

    def __init__(self, job: Job) -> None:
        self.stop = Stop()
        self.outcome: Outcome | None = None
        self.thread = threading.Thread(target=self._run, args=(job,))
        self.thread.start()

    def _run(self, job: Job) -> None:
        self.outcome = run_job(job, self.stop.is_set)

    def ended(self) -> Outcome:
        self.thread.join(SECONDS)
        assert self.outcome is not None
        return self.outcome


# One job ---------------------------------------------------------------------------------------


def test_a_job_trains_then_evaluates(stand_in: Path, new_job: MakeJob) -> None:
    job = new_job("a")
    outcome = run_job(job)
    assert (outcome.status, outcome.message) == ("finished", "")
    assert calls(stand_in) == ["train a", "evaluate a"]
    assert job.is_done
    assert Path(job.log).read_text().startswith("$ fer train ")


@pytest.mark.slow
def test_a_job_collects_its_warnings(stand_in: Path, new_job: MakeJob) -> None:
    assert run_job(new_job("a")).warnings == ()
    assert run_job(new_job("warned")).warnings == ("few images",)
    assert run_job(new_job("warned")).warnings == ()  # it is not trained again


def test_finished_parts_are_not_repeated(stand_in: Path, new_job: MakeJob) -> None:
    assert run_job(new_job("a", None)).status == "finished"
    assert run_job(new_job("a")).status == "finished"
    assert run_job(new_job("a")).status == "finished"
    assert calls(stand_in) == ["train a", "evaluate a"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong", "data/none: no such folder.\nUnpack the download."),
        ("bug", "ZeroDivisionError: division by zero"),
        ("killed", "ended by SIGKILL"),
    ],
)
def test_a_failed_job_gives_its_reason(
    stand_in: Path, new_job: MakeJob, name: str, message: str
) -> None:
    outcome = run_job(new_job(name))
    assert outcome.status == "failed"
    assert outcome.message.endswith(message)
    assert "heading" not in outcome.message
    assert "$ fer" not in outcome.message
    assert calls(stand_in) == [f"train {name}"]


def test_a_job_that_is_stopped_has_saved_its_state(stand_in: Path, new_job: MakeJob) -> None:
    job = new_job("slow")
    background = Background(job)
    wait_until(lambda: job.run.status() == "running")
    background.stop.set()
    outcome = background.ended()
    assert outcome.status == "interrupted"
    assert "stopped at epoch 1, step 3" in outcome.message
    assert job_status(job) == "interrupted"
    (job.run.path / "go").touch()
    assert run_job(job).status == "finished"


def test_a_stopped_job_does_not_begin(stand_in: Path, new_job: MakeJob) -> None:
    assert run_job(new_job("a"), lambda: True).status == "interrupted"
    assert not stand_in.exists()


@pytest.mark.slow
def test_a_job_waits_for_a_training_by_hand(stand_in: Path, new_job: MakeJob) -> None:
    job = new_job("a")
    with job.run.lock():
        background = Background(job)
        wait_until(lambda: is_claimed(job.run))
        time.sleep(3 * jobs.PAUSE)
        assert not stand_in.exists()
    assert background.ended().status == "finished"


def test_two_jobs_of_one_run_train_it_once(stand_in: Path, new_job: MakeJob) -> None:
    both = [Background(new_job("a")) for _ in range(2)]
    assert [one.ended().status for one in both] == ["finished"] * 2
    assert calls(stand_in) == ["train a", "evaluate a"]


@pytest.mark.slow
def test_the_next_job_waits_for_the_processes_of_a_killed_one(
    stand_in: Path, new_job: MakeJob
) -> None:
    """After a sweep is killed, its processes hold the claim until they have saved."""
    job = new_job("slow")
    first = Background(job)
    wait_until(lambda: job.run.status() == "running")
    second = Background(new_job("slow"))
    time.sleep(3 * jobs.PAUSE)
    assert calls(stand_in) == ["train slow"]
    (job.run.path / "go").touch()
    first.stop.set()
    assert first.ended().status == "interrupted"
    assert second.ended().status == "finished"


def test_a_process_ends_with_its_parent(tmp_path: Path) -> None:
    """The child of a killed parent gets a signal, even if it was not yet prepared for it."""
    child = (
        "import pathlib, signal, sys, time\n"
        "from fer_bench.sweep.parent import stop_with_parent\n"
        f"path = pathlib.Path({str(tmp_path / 'told')!r})\n"
        f"signal.signal({int(PARENT_ENDED)}, lambda *_: (path.write_text('yes'), sys.exit()))\n"
        "stop_with_parent()\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(60)\n"
    )
    parent = (
        "import os, subprocess, sys, time\n"
        "environment = os.environ | {'FER_BENCH_PARENT': str(os.getpid())}\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], env=environment)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        try:
            wait_until((tmp_path / "ready").exists)
        finally:
            process.kill()
    wait_until((tmp_path / "told").exists)


def test_keys_outside_the_run_id_reach_the_job(tmp_path: Path) -> None:
    config = Path(__file__).resolve().parents[2] / "configs" / "drawn_compact.yaml"
    experiment = load_experiment(config, ["cache.max_gb=3"])
    written = tmp_path / "x.yaml"
    written.write_text(config_text(experiment))
    again = load_experiment(written)
    assert (again.run_id, again.cache.max_gb) == (experiment.run_id, 3)


# Many jobs -------------------------------------------------------------------------------------


class Unseen:
    """A watch that shows nothing."""

    def look(self, outcomes: Mapping[str, Outcome]) -> None:
        pass

    def stopping(self) -> None:
        pass


def carry_out(
    todo: list[Job], needs: Mapping[str, str] | None = None, **engine: Any
) -> dict[str, str]:
    with LocalEngine(engine.pop("workers", 1), **engine) as local:
        outcomes = run_jobs(todo, needs or {}, local, Stop(), Unseen())
    return {run_id: outcome.status for run_id, outcome in outcomes.items()}


def test_the_others_continue_when_one_fails(stand_in: Path, new_job: MakeJob) -> None:
    statuses = carry_out([new_job(name) for name in ("a", "wrong", "b")])
    assert statuses == {"a": "finished", "wrong": "failed", "b": "finished"}


def test_a_job_starts_when_the_run_it_needs_is_finished(stand_in: Path, new_job: MakeJob) -> None:
    todo = [new_job(name, None) for name in ("last", "middle", "first", "other")]
    carry_out(todo, {"last": "middle", "middle": "first", "other": "done before"}, workers=3)
    order = calls(stand_in)
    assert order.index("train first") < order.index("train middle") < order.index("train last")
    assert len(order) == len(todo)


def test_a_job_that_needs_a_failed_run_fails_too(stand_in: Path, new_job: MakeJob) -> None:
    todo = [new_job(name) for name in ("wrong", "next", "last")]
    with LocalEngine(2) as engine:
        needs = {"next": "wrong", "last": "next"}
        outcomes = run_jobs(todo, needs, engine, Stop(), Unseen())
    assert {outcome.status for outcome in outcomes.values()} == {"failed"}
    says(outcomes["next"].message, "starts from wrong")
    assert calls(stand_in) == ["train wrong"]


def test_jobs_take_the_devices_in_turn(stand_in: Path, new_job: MakeJob) -> None:
    todo = [new_job(f"slow{number}", None) for number in range(3)]
    with LocalEngine(3, ("gpu:0", "gpu:1"), threads=5) as engine:
        for job in todo:
            engine.start(job)
        assert not engine.has_room()
        wait_until(lambda: stand_in.exists() and len(calls(stand_in)) == 3)
    devices = [line.split()[2:] for line in stand_in.read_text().splitlines()]
    assert sorted(devices) == [["gpu:0", "5"], ["gpu:0", "5"], ["gpu:1", "5"]]


def test_after_a_stop_nothing_starts_and_all_is_saved(stand_in: Path, new_job: MakeJob) -> None:
    todo = [new_job(f"slow{number}") for number in range(3)]
    stop = Stop()

    class Stopper(Unseen):
        def look(self, outcomes: Mapping[str, Outcome]) -> None:
            if all(job.run.status() == "running" for job in todo[:2]):
                stop.set()

    with LocalEngine(2) as engine:
        outcomes = run_jobs(todo, {}, engine, stop, Stopper())
    assert {key: one.status for key, one in outcomes.items()} == {
        "slow0": "interrupted",
        "slow1": "interrupted",
    }
    assert job_status(todo[2]) == "new"


def test_cores_are_shared_evenly() -> None:
    assert share_of_cores(1) is None
    assert share_of_cores(2 * usable_cores().number) == 1


@pytest.mark.parametrize(
    ("workers", "devices", "parts"),
    [
        (0, ["auto"], ["--workers 0", "at least 1"]),
        (-1, ["auto"], ["--workers -1", "at least 1"]),
        (1, [""], ["--device ''", "gpu:<index>"]),
        (None, ["gpu:0", ""], ["--device ''"]),
        (None, ["cpu", "gpu:x"], ["--device gpu:x"]),
    ],
)
def test_invalid_workers_and_devices_are_refused(
    workers: int | None, devices: list[str], parts: list[str]
) -> None:
    with pytest.raises(FerError) as caught:
        LocalEngine(workers, devices)
    says(caught.value, *parts)


# The command -----------------------------------------------------------------------------------


@pytest.fixture
def write_suite(tmp_path: Path, tiny: dict[str, Any]) -> Callable[..., Path]:
    """Write a suite of these entries over tiny.yaml, the experiment of `trained_run`."""

    def write(*runs: Any, **others: Any) -> Path:
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny, sort_keys=False))
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({"description": "x.", "runs": list(runs), **others}))
        return path

    return write


def run_ids(fer: Fer, suite: Path, outputs: Path) -> dict[str, str]:
    """The status of every run, by run id."""
    result = fer("sweep", suite, "--outputs", outputs, "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    return {run["run_id"]: run["status"] for run in json.loads(result.stdout)["runs"]}


def test_a_dry_run_lists_the_runs_that_are_left(
    fer: Fer, write_suite: Callable[..., Path], trained_run: Path
) -> None:
    suite = write_suite("tiny.yaml", {"config": "tiny.yaml", "seeds": [1]})
    result = fer("sweep", suite, "--outputs", trained_run.parent, "--dry-run")
    assert result.exit_code == 0, result.stderr
    done, new, count = result.stdout.splitlines()
    assert done.split() == [trained_run.name, "finished"]
    assert new.startswith("tiny-s1-")
    assert new.endswith("new")
    assert count == "2 runs, 1 of them to be done"
    assert not (trained_run.parent / "sweeps").exists()


def test_a_dry_run_of_a_part(fer: Fer, write_suite: Callable[..., Path], tmp_path: Path) -> None:
    suite = write_suite("tiny.yaml", seeds=[1, 2, 3])
    result = fer("sweep", suite, "--outputs", tmp_path, "--dry-run", "--part", "2/2")
    assert result.stdout.splitlines()[-1] == "1 runs, 1 of them to be done"
    assert "tiny-s2-" in result.stdout


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--part", "3"), ["--part 3", "I/N"]),
        (("--engine", "slurm"), ["--engine slurm", "local, ray"]),
        (("--address", "auto"), ["--address auto", "--engine ray"]),
        (("--engine", "ray", "--device", "gpu:0,gpu:1"), ["gpu:0,gpu:1", "--gpus-per-run"]),
        (("--trials", "3"), ["--trials 3", "--search"]),
        (("--search", "x.yaml", "--part", "1/2"), ["--part", "--search"]),
        (("--workers", "0"), ["--workers 0", "at least 1"]),
        (("--workers", "-1", "--dry-run"), ["--workers -1", "at least 1"]),
        (("--engine", "ray", "--workers", "0"), ["--workers 0", "at least 1"]),
        (("--search", "x.yaml", "--workers", "0"), ["--workers 0", "at least 1"]),
        (("--device", ""), ["--device ''", "gpu:<index>"]),
        (("--device", "gpu:0,"), ["--device ''", "gpu:<index>"]),
    ],
)
def test_options_that_are_invalid_or_do_not_go_together(
    fer: Fer, write_suite: Callable[..., Path], options: tuple[str, ...], parts: list[str]
) -> None:
    result = fer("sweep", write_suite("tiny.yaml"), *options)
    assert result.exit_code == 2
    says(result.stderr, *parts)


@pytest.mark.slow
def test_a_warning_of_several_runs_is_shown_once(
    fer: Fer, stand_in: Path, write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    suite = write_suite(
        {"config": "tiny.yaml", "name": "warned", "seeds": [1, 2]},
        {"config": "tiny.yaml", "name": "wrong"},
    )
    result = fer("sweep", suite, "--outputs", tmp_path / "outputs")
    assert result.exit_code == 1
    assert result.stderr.count("few images") == 1
    assert "warning (2 of 3 runs): few images" in result.stderr.splitlines()


def test_a_failure_is_listed_at_the_end_with_its_log(
    fer: Fer, stand_in: Path, write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    suite = write_suite({"config": "tiny.yaml", "name": "wrong"}, "tiny.yaml")
    result = fer("sweep", suite, "--outputs", tmp_path / "outputs")
    assert result.exit_code == 1
    assert result.exception is None or isinstance(result.exception, SystemExit)
    *_, failed, advice, log, count = result.stderr.splitlines()
    assert failed.startswith("failed: wrong-s7-")
    assert failed.endswith("data/none: no such folder.")
    assert advice == "Unpack the download."
    assert Path(log.removeprefix("  log: ")).is_file()
    assert count == "1 of 2 runs did not finish; the others did"
    assert "[1/2] tiny-s7: finished" in result.stderr


def test_the_runs_of_a_part_are_not_compared(
    fer: Fer, stand_in: Path, write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    suite = write_suite("tiny.yaml", seeds=[1, 2])
    result = fer("sweep", suite, "--outputs", tmp_path / "outputs", "--part", "1/2")
    assert (result.exit_code, result.stdout) == (0, "")
    assert [line.split()[1][:8] for line in calls(stand_in)] == ["tiny-s1-"] * 2


def test_only_some_runs_of_a_folder_are_compared(trained_run: Path, tmp_path: Path) -> None:
    for name in (trained_run.name, "other-s1-0123abcd"):
        shutil.copytree(trained_run, tmp_path / name)
    (group,) = collect(tmp_path, only=[trained_run.name, "missing"]).groups
    assert [run.run_id for run in group.runs] == [trained_run.name]
    with pytest.raises(RunError, match="holds no such runs"):
        collect(tmp_path, only=["missing"])


# Real runs -------------------------------------------------------------------------------------


class Sweeping:
    """`fer sweep` in its own process."""

    def __init__(self, suite: Path, outputs: Path, *options: str) -> None:
        command = [sys.executable, "-m", "fer_bench", "sweep", str(suite), "--outputs"]
        self.process = subprocess.Popen(
            [*command, str(outputs), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self, which: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(which)
        _, messages = self.process.communicate(timeout=1800)
        return self.process.returncode, messages

    def finish(self) -> tuple[int, str, str]:
        printed, messages = self.process.communicate(timeout=1800)
        return self.process.returncode, printed, messages


def assert_same_history(first: Path, second: Path) -> None:
    one, other = (pd.read_csv(run / "history.csv").drop(columns=TIMES) for run in (first, second))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.fixture
def outputs(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "outputs"
    shutil.rmtree(tmp_path / "outputs", ignore_errors=True)


@pytest.mark.slow
@pytest.mark.scale
def test_a_sweep_and_its_second_start(
    fer: Fer, write_suite: Callable[..., Path], trained_run: Path, outputs: Path, tmp_path: Path
) -> None:
    """Two jobs at a time and a run that fails; another run in the folder is not compared."""
    frozen = [{"name": "head", "train": "head", "epochs": 1, "learning_rate": 1e-3}]
    suite = write_suite(
        {"config": "tiny.yaml", "name": "kept", "grid": {"model.head.dropout": [0.0, 0.3]}},
        {"config": "tiny.yaml", "name": "none", "set": {"dataset.name": "rafdb"}},
        set={"image.augment": {}, "stages": frozen},
    )
    outputs.mkdir()
    shutil.copytree(trained_run, outputs / trained_run.name)
    seconds = processor_seconds()
    code, printed, messages = Sweeping(suite, outputs, "--workers", "2", "--json").finish()
    trained = processor_seconds() - seconds
    assert code == 1, messages
    document = json.loads(printed)
    by_name = {run["name"]: run for run in document["runs"]}
    assert [run["outcome"] for run in by_name.values()] == ["finished", "finished", "failed"]
    assert by_name["none"]["message"] in messages
    (group,) = document["comparison"]["groups"]
    compared = {run["run_id"] for run in group["runs"]}
    assert compared == {run["run_id"] for run in document["runs"][:2]}
    page = (outputs / "sweeps" / "study" / "comparison.html").read_text()
    assert trained_run.name not in page

    # The frozen layers are the same in both, and only one of them computed their output.
    logs = [(outputs / "sweeps" / "study" / f"{run_id}.log").read_text() for run_id in compared]
    assert sum("frozen layers up to" in log for log in logs) == 1
    records = [json.loads((outputs / one / "run.json").read_text()) for one in compared]
    assert {record["threads"] for record in records} == {share_of_cores(2)}

    before = {path: path.stat().st_mtime_ns for path in outputs.glob("*-s*/**/*") if path.is_file()}
    suite = write_suite(
        {"config": "tiny.yaml", "name": "kept", "grid": {"model.head.dropout": [0.0, 0.3]}},
        set={"image.augment": {}, "stages": frozen},
    )
    seconds = processor_seconds()
    code, printed, _ = Sweeping(suite, outputs, "--json").finish()
    assert processor_seconds() - seconds < trained / 3
    assert code == 0
    assert [run["outcome"] for run in json.loads(printed)["runs"]] == ["skipped", "skipped"]
    after = {path: path.stat().st_mtime_ns for path in outputs.glob("*-s*/**/*") if path.is_file()}
    assert after == before


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.slow
@pytest.mark.scale
def test_a_sweep_that_is_stopped_and_killed_ends_with_the_same_run(
    fer: Fer, write_suite: Callable[..., Path], trained_run: Path, outputs: Path
) -> None:
    suite = write_suite("tiny.yaml")
    run = RunDirectory(outputs / trained_run.name)

    stopped = Sweeping(suite, outputs)
    wait_until((run.state / "progress.json").exists, 900)
    code, messages = stopped.end(signal.SIGINT)
    assert code == 130, messages
    says(messages, "0 of 1 runs are finished", "`fer sweep`")
    assert run.status() == "interrupted"

    reached = run.run_json.stat().st_mtime_ns
    killed = Sweeping(suite, outputs)
    wait_until(lambda: run.run_json.stat().st_mtime_ns > reached, 900)
    assert killed.end(signal.SIGKILL)[0] == -signal.SIGKILL
    # The training process has saved its state, or is about to: the next sweep waits.
    code, _, messages = Sweeping(suite, outputs).finish()
    assert code == 0, messages
    assert_same_history(run.path, trained_run)
    log = (outputs / "sweeps" / "study" / f"{run.run_id}.log").read_text()
    assert log.count("resuming at epoch") == 2, log
    assert list(run_ids(fer, suite, outputs).values()) == ["finished"]
