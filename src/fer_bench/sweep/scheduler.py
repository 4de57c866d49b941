"""Many runs: what is left of them, in which order it is done, and how each ends."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from fer_bench.device.signals import Stop
from fer_bench.errors import RunError
from fer_bench.sweep.job import Job, Outcome, config_text, is_claimed, is_done
from fer_bench.sweep.suite import Planned, Suite

FOLDER = "sweeps"


class Engine(Protocol):
    """What runs jobs side by side."""

    def has_room(self) -> bool:
        """Whether another job may be started."""

    def start(self, job: Job) -> None:
        """Begin a job and return at once."""

    def is_busy(self) -> bool:
        """Whether jobs are under way."""

    def ended(self) -> Mapping[str, Outcome]:
        """Wait a moment; the jobs that ended since the last call, by run id."""

    def stop(self) -> None:
        """Tell all jobs under way to save what they have and end."""


class Watch(Protocol):
    """What shows how far the runs are."""

    def look(self, outcomes: Mapping[str, Outcome]) -> None:
        """Called several times a second, with the jobs that have ended."""

    def stopping(self) -> None:
        """Called once, when the jobs under way are told to save what they have."""


def sweep_folder(outputs: Path, suite: Suite) -> Path:
    """Where logs, resolved experiments and the comparison of a suite are."""
    return outputs / FOLDER / suite.name


def make_job(planned: Planned, outputs: Path, folder: Path) -> Job:
    """The job that trains and evaluates a run; relative paths begin where this process is.

    Args:
        planned: the run.
        outputs: the folder of all runs.
        folder: where its log goes.
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


def standing(job: Job) -> str:
    """How far a run is, on the disk.

    `finished`, `trained` (not evaluated), `running` (some job works at it), `interrupted`,
    `failed` (also where it cannot be read) or `new`.
    """
    try:
        if is_done(job.run, job.evaluation):
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
    """Bring every job to its end, whatever becomes of the others.

    Args:
        jobs: what is left to do, in the order in which it is wanted.
        needs: by run id, the run that must be finished before. One that is no job is finished.
        engine: what runs them.
        stop: once it is set, no job begins, and those under way save what they have.
        watch: what shows it.

    Returns:
        How each ended, by run id; what was not begun before `stop` is missing.
    """
    left = {job.run_id: job for job in jobs}
    needs = {run_id: needed for run_id, needed in needs.items() if needed in left}
    outcomes: dict[str, Outcome] = {}
    told = False
    while engine.is_busy() or (left and not stop.is_set()):
        if not stop.is_set():
            _give_up(left, needs, outcomes)
            _start(left, needs, outcomes, engine)
        elif not told:
            watch.stopping()
            engine.stop()
            told = True
        outcomes |= engine.ended()
        watch.look(outcomes)
    return outcomes


def _give_up(left: dict[str, Job], needs: Mapping[str, str], outcomes: dict[str, Outcome]) -> None:
    """Take out what waits for a run that did not finish."""
    for run_id in list(left):
        needed = outcomes.get(needs.get(run_id, ""))
        if needed and needed.status != "finished":
            del left[run_id]
            message = f"it starts from {needs[run_id]}, which did not finish"
            outcomes[run_id] = Outcome("failed", message, 0.0)


def _start(
    left: dict[str, Job], needs: Mapping[str, str], outcomes: Mapping[str, Outcome], engine: Engine
) -> None:
    """Begin what can begin; last of all what another sweep is working at."""
    ready = [job for run_id, job in left.items() if needs.get(run_id) in (None, *outcomes)]
    while ready and engine.has_room():
        chosen = next((job for job in ready if not is_claimed(job.run)), ready[0])
        ready.remove(chosen)
        engine.start(left.pop(chosen.run_id))
