"""The rounds of a search: values are chosen, runs are trained, their epochs are watched."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from fer_bench.config.experiment import Experiment
from fer_bench.device.signals import Stop, stop_on_signals
from fer_bench.errors import ConfigError
from fer_bench.runs.directory import RunDirectory
from fer_bench.sweep.job import Job, Outcome, config_text
from fer_bench.sweep.local_engine import share_of_cores
from fer_bench.sweep.search.space import varied
from fer_bench.sweep.search.study import Study, Trial

# How often the histories of the runs under way are read, in seconds.
PAUSE = 0.5

Run = Callable[[Job, Callable[[], bool]], Outcome]


@dataclass(frozen=True)
class Slots:
    """What the trials are trained on.

    Attributes:
        number: how many at a time.
        devices: as in `fer train --device`; each slot has one, in turn.
        threads: for each trial on the CPU; None: the usable cores, shared evenly.
    """

    number: int = 1
    devices: tuple[str, ...] = ("auto",)
    threads: int | None = None

    def __post_init__(self) -> None:
        """Raises: ConfigError for fewer than one trial at a time."""
        if self.number < 1:
            raise ConfigError(f"--workers {self.number}: expected at least 1.")


@dataclass(frozen=True)
class Rounds:
    """What the rounds of one search share.

    Attributes:
        base: the experiment that is varied.
        study: the trials.
        outputs: the folder that holds the runs.
        folder: that of the study, which holds the logs.
        slots: how many at a time and on what.
        run: trains one run.
        said: is told of each trial that goes on from an earlier start, and of each that ends.
    """

    base: Experiment
    study: Study
    outputs: Path
    folder: Path
    slots: Slots
    run: Run
    said: Callable[[Trial], None]


@dataclass(frozen=True)
class _Attempt:
    """A trial that is being trained in one of the slots."""

    number: int
    slot: int
    experiment: Experiment
    run: RunDirectory
    reported: set[int] = field(default_factory=set)
    given_up: Stop = field(default_factory=Stop)

    @property
    def epochs(self) -> int:
        """How many there are at most."""
        return sum(stage.epochs for stage in self.experiment.stages)


def make_trials(rounds: Rounds) -> bool:
    """Make the trials that are left, first those that an earlier start left unfinished.

    Returns:
        Whether all were made. If not, somebody asked this search, or one of its runs, to stop.
    """
    left = _trials_left(rounds)
    free = list(range(rounds.slots.number))
    under_way: dict[Future[Outcome], _Attempt] = {}
    with stop_on_signals() as stop, ThreadPoolExecutor(rounds.slots.number) as pool:
        try:
            while True:
                while free and not stop.is_set() and (trial := next(left, None)):
                    if attempt := _prepare(rounds, trial, free[0]):
                        free.pop(0)
                        under_way[_start(rounds, attempt, pool, stop)] = attempt
                if not under_way:
                    break
                done, _ = wait(under_way, PAUSE, FIRST_COMPLETED)
                for attempt in under_way.values():
                    _watch(rounds, attempt)  # also those that are done: for the last time
                for future in done:
                    attempt = under_way.pop(future)
                    free.append(attempt.slot)
                    _end(rounds, attempt, future.result(), stop)
        finally:
            # After an error here nobody waits for the others any more.
            for attempt in under_way.values():
                attempt.given_up.set()
        return not stop.is_set()


def _trials_left(rounds: Rounds) -> Iterator[Trial]:
    """The trials to be trained, each chosen when its turn comes."""
    so_far = rounds.study.trials()
    ended = sum(trial.state in ("finished", "pruned") for trial in so_far)
    left = max(0, rounds.study.space.trials - ended)
    begun = [trial for trial in so_far if trial.state == "running"][:left]
    for trial in begun:
        yield rounds.study.take_up(trial.number)
    for _ in range(left - len(begun)):
        yield rounds.study.ask()


def _prepare(rounds: Rounds, trial: Trial, slot: int) -> _Attempt | None:
    """What is needed to train a trial; None where its values do not make an experiment."""
    try:
        experiment = varied(rounds.base, trial.parameters)
    except ConfigError as error:
        rounds.said(rounds.study.fail(trial.number, str(error)))
        return None
    if trial.run_id is None:
        rounds.study.note_run(trial.number, experiment.run_id)
    else:
        rounds.said(trial)
    run = RunDirectory(rounds.outputs / experiment.run_id)
    return _Attempt(trial.number, slot, experiment, run)


def _start(
    rounds: Rounds, attempt: _Attempt, pool: ThreadPoolExecutor, stop: Stop
) -> Future[Outcome]:
    """Train a trial in its slot, from where its run is; an equal one may have trained it."""
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
    """What a run of the study in `folder` said."""
    return folder / "logs" / f"{run_id}.log"


def _watch(rounds: Rounds, attempt: _Attempt) -> None:
    """Report the epochs that are new in the history of a run, and give it up if they are poor."""
    # One by one: what is given up must not depend on how many epochs were made between two looks.
    for epoch in attempt.run.read_history():
        value = epoch.values.get(rounds.base.select)
        if value is None or epoch.number in attempt.reported:
            continue
        attempt.reported.add(epoch.number)
        rounds.study.report(attempt.number, epoch.number, value)
        # After its last epoch a run is as good as finished.
        if epoch.number < attempt.epochs and rounds.study.is_to_be_pruned(attempt.number):
            attempt.given_up.set()


def _end(rounds: Rounds, attempt: _Attempt, outcome: Outcome, stop: Stop) -> None:
    """Note how a trial ended; one that was interrupted stays as it is, for the next start."""
    study, number = rounds.study, attempt.number
    if outcome.status == "finished":
        rounds.said(study.finish(number))
    elif outcome.status == "failed":
        rounds.said(study.fail(number, outcome.message))
    elif attempt.given_up.is_set():
        rounds.said(study.prune(number))
    else:
        stop.set()
