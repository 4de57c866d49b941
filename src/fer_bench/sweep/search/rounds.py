"""The main loop of a search: chooses values, trains runs, watches their epochs."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from fer_bench.config.experiment import Experiment
from fer_bench.device.signals import Stop, stop_on_signals
from fer_bench.errors import ConfigError
from fer_bench.runs.directory import RunDirectory
from fer_bench.sweep.job import Job, Outcome, config_text
from fer_bench.sweep.local_engine import check_workers, share_of_cores
from fer_bench.sweep.search.space import varied
from fer_bench.sweep.search.study import Study, Trial, number_ended

# How often the histories of the running trials are read, in seconds.
PAUSE = 0.5

Run = Callable[[Job, Callable[[], bool]], Outcome]


@dataclass(frozen=True)
class Slots:
    """The trials at a time and their devices.

    Attributes:
        number: trials at a time.
        devices: as in `fer train --device`; the slots take them in turn.
        threads: threads per trial on the CPU; None: the usable cores, shared evenly.
    """

    number: int = 1
    devices: tuple[str, ...] = ("auto",)
    threads: int | None = None

    def __post_init__(self) -> None:
        """Raises: FerError for fewer than one trial at a time, or an unknown device."""
        check_workers(self.number, self.devices)


@dataclass(frozen=True)
class Rounds:
    """Everything that the loop of one search needs.

    Attributes:
        base: the experiment to vary.
        study: the trials.
        outputs: the folder of the runs.
        folder: the folder of the study, with the logs.
        slots: the number of trials at a time and their devices.
        run: trains one run.
        on_trial: called with each trial that is resumed from an earlier start or has ended.
    """

    base: Experiment
    study: Study
    outputs: Path
    folder: Path
    slots: Slots
    run: Run
    on_trial: Callable[[Trial], None]


@dataclass(frozen=True)
class _Attempt:
    """A trial that is running in one of the slots."""

    number: int
    slot: int
    experiment: Experiment
    run: RunDirectory
    reported: set[int] = field(default_factory=set)
    given_up: Stop = field(default_factory=Stop)

    @property
    def epochs(self) -> int:
        """The maximum number of epochs."""
        return sum(stage.epochs for stage in self.experiment.stages)


def make_trials(rounds: Rounds) -> bool:
    """Run the trials that are left, first those that an earlier start left unfinished.

    Returns:
        Whether all have ended; False if this search, or one of its runs, was stopped.
    """
    left = _trials_left(rounds)
    free = list(range(rounds.slots.number))
    running: dict[Future[Outcome], _Attempt] = {}
    with stop_on_signals() as stop, ThreadPoolExecutor(rounds.slots.number) as pool:
        try:
            while True:
                while free and not stop.is_set() and (trial := next(left, None)):
                    if attempt := _prepare(rounds, trial, free[0]):
                        free.pop(0)
                        running[_start(rounds, attempt, pool, stop)] = attempt
                if not running:
                    break
                done, _ = wait(running, PAUSE, FIRST_COMPLETED)
                for attempt in running.values():
                    _watch(rounds, attempt)  # including those that are done, for the last time
                for future in done:
                    attempt = running.pop(future)
                    free.append(attempt.slot)
                    _end(rounds, attempt, future.result(), stop)
        finally:
            # After an error here, nothing waits for the others.
            for attempt in running.values():
                attempt.given_up.set()
        return not stop.is_set()


def _trials_left(rounds: Rounds) -> Iterator[Trial]:
    """The trials that are left, each chosen when its turn comes."""
    so_far = rounds.study.trials()
    left = max(0, rounds.study.space.trials - number_ended(so_far))
    begun = [trial for trial in so_far if trial.state == "running"][:left]
    for trial in begun:
        yield rounds.study.resume(trial.number)
    for _ in range(left - len(begun)):
        yield rounds.study.ask()


def _prepare(rounds: Rounds, trial: Trial, slot: int) -> _Attempt | None:
    """Prepare a trial; None if its values are invalid together."""
    try:
        experiment = varied(rounds.base, trial.parameters)
    except ConfigError as error:
        rounds.on_trial(rounds.study.fail(trial.number, str(error)))
        return None
    if trial.run_id is None:
        rounds.study.set_run(trial.number, experiment.run_id)
    else:
        rounds.on_trial(trial)
    run = RunDirectory(rounds.outputs / experiment.run_id)
    return _Attempt(trial.number, slot, experiment, run)


def _start(
    rounds: Rounds, attempt: _Attempt, pool: ThreadPoolExecutor, stop: Stop
) -> Future[Outcome]:
    """Train a trial in its slot, or resume its run, which an equal trial may have trained."""
    slots = rounds.slots
    job = Job(
        run_id=attempt.run.run_id,
        config=config_text(attempt.experiment),
        outputs=str(rounds.outputs.absolute()),
        evaluation=None,
        device=slots.devices[attempt.slot % len(slots.devices)],
        threads=slots.threads or share_of_cores(slots.number),
        log=str(log_file(rounds.folder, attempt.run.run_id).absolute()),
        folder=str(Path.cwd()),
    )
    _watch(rounds, attempt)
    return pool.submit(rounds.run, job, lambda: stop.is_set() or attempt.given_up.is_set())


def log_file(folder: Path, run_id: str) -> Path:
    """The log of a run of the study in `folder`."""
    return folder / "logs" / f"{run_id}.log"


def _watch(rounds: Rounds, attempt: _Attempt) -> None:
    """Report the new epochs in the history of a run, and stop the run if they are poor."""
    # One by one: pruning must not depend on the number of epochs between two looks.
    for epoch in attempt.run.read_history():
        value = epoch.values.get(rounds.base.select)
        if value is None or epoch.number in attempt.reported:
            continue
        attempt.reported.add(epoch.number)
        rounds.study.report(attempt.number, epoch.number, value)
        # After its last epoch, a run is practically finished.
        if epoch.number < attempt.epochs and rounds.study.should_prune(attempt.number):
            attempt.given_up.set()


def _end(rounds: Rounds, attempt: _Attempt, outcome: Outcome, stop: Stop) -> None:
    """Record how a trial ended; an interrupted one is left to the next start."""
    study, number = rounds.study, attempt.number
    if outcome.status == "finished":
        rounds.on_trial(study.finish(number))
    elif outcome.status == "failed":
        rounds.on_trial(study.fail(number, outcome.message))
    elif attempt.given_up.is_set():
        rounds.on_trial(study.prune(number))
    else:
        stop.set()
