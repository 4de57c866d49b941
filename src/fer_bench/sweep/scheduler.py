"""Runs many jobs: what is left to do, in which order, and how each ended."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from fer_bench.device.signals import Stop
from fer_bench.errors import RunError
from fer_bench.sweep.job import Job, Outcome, config_text, is_claimed
from fer_bench.sweep.suite import Planned, Suite

FOLDER = "sweeps"


class Engine(Protocol):
    """Runs several jobs at a time."""

    def has_room(self) -> bool:
        """Whether another job can be started."""

    def start(self, job: Job) -> None:
        """Start a job and return at once."""

    def is_busy(self) -> bool:
        """Whether any job is running."""

    def ended(self) -> Mapping[str, Outcome]:
        """Wait a moment; the jobs that ended since the last call, by run id."""

    def stop(self) -> None:
        """Tell all running jobs to save their state and end."""


class Watch(Protocol):
    """Displays the progress of the runs."""

    def look(self, outcomes: Mapping[str, Outcome]) -> None:
        """Called several times per second, with the jobs that have ended."""

    def stopping(self) -> None:
        """Called once, when the running jobs are told to save their state."""


def sweep_folder(outputs: Path, suite: Suite) -> Path:
    """The folder of the logs, the resolved experiments and the comparison of a suite."""
    return outputs / FOLDER / suite.name


def make_job(planned: Planned, outputs: Path, folder: Path) -> Job:
    """The job that trains and evaluates a run; relative paths start at the working directory.

    Args:
        planned: the run.
        outputs: the folder of all runs.
        folder: the folder of its log.
    """
    return Job(
        run_id=planned.run_id,
        config=config_text(planned.experiment),
        outputs=str(outputs.absolute()),
        evaluation="test",
        device="auto",
        threads=None,
        log=str(folder.absolute() / f"{planned.run_id}.log"),
        folder=str(Path.cwd()),
    )


def job_status(job: Job) -> str:
    """The status of a job, from its run directory.

    `finished`, `trained` (not evaluated), `running` (a job is working on it), `interrupted`,
    `failed` (also if the run cannot be read) or `new`.
    """
    try:
        if job.is_done:
            return "finished"
        status = job.run.status()
    except RunError:
        return "failed"
    if is_claimed(job.run):
        return "running"
    return {None: "new", "finished": "trained", "running": "interrupted"}.get(status, str(status))


def run_jobs(
    jobs: Sequence[Job],
    needs: Mapping[str, str],
    engine: Engine,
    stop: Stop,
    watch: Watch,
) -> dict[str, Outcome]:
    """Run all jobs; a job that fails does not stop the others.

    Args:
        jobs: the jobs that are left, in the desired order.
        needs: by run id, the run that must finish first. A run without a job is finished already.
        engine: runs the jobs.
        stop: once set, no further job starts, and the running ones save their state.
        watch: displays the progress.

    Returns:
        The outcomes by run id, without the jobs that were not started before `stop`.
    """
    left = {job.run_id: job for job in jobs}
    needs = {run_id: needed for run_id, needed in needs.items() if needed in left}
    outcomes: dict[str, Outcome] = {}
    is_stopping = False
    while engine.is_busy() or (left and not stop.is_set()):
        if not stop.is_set():
            _give_up(left, needs, outcomes)
            _start(left, needs, outcomes, engine)
        elif not is_stopping:
            watch.stopping()
            engine.stop()
            is_stopping = True
        outcomes |= engine.ended()
        watch.look(outcomes)
    return outcomes


def _give_up(left: dict[str, Job], needs: Mapping[str, str], outcomes: dict[str, Outcome]) -> None:
    """Fail the jobs that wait for a run that did not finish."""
    for run_id in list(left):
        needed = outcomes.get(needs.get(run_id, ""))
        if needed and needed.status != "finished":
            del left[run_id]
            message = f"it starts from {needs[run_id]}, which did not finish"
            outcomes[run_id] = Outcome("failed", message, 0.0)


def _start(
    left: dict[str, Job], needs: Mapping[str, str], outcomes: Mapping[str, Outcome], engine: Engine
) -> None:
    """Start the jobs that are ready; those that another sweep is working on come last."""
    ready = [job for run_id, job in left.items() if needs.get(run_id) in (None, *outcomes)]
    while ready and engine.has_room():
        chosen = next((job for job in ready if not is_claimed(job.run)), ready[0])
        ready.remove(chosen)
        engine.start(left.pop(chosen.run_id))
