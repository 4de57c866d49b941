"""The progress of the runs of a sweep, read from their run directories."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fer_bench.config.training import LESS_IS_BETTER
from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory
from fer_bench.sweep.job import Outcome, is_claimed
from fer_bench.sweep.suite import Planned

State = Literal[
    "waiting", "starting", "training", "evaluating", "finished", "failed", "interrupted", "skipped"
]
UNDER_WAY: tuple[State, ...] = ("starting", "training", "evaluating")
SUCCEEDED: tuple[State, ...] = ("finished", "skipped")


@dataclass(frozen=True)
class Progress:
    """The progress of one run.

    Attributes:
        name: name and seed of the run, unique within the suite.
        state: `skipped`: it was finished before the sweep started.
        stage: the name of the stage of the last completed epoch.
        epoch: the number of completed epochs.
        epochs: the maximum number of epochs.
        best: the best validation value so far, in the metric that selects the model.
        images_per_second: training speed of the last epoch.
        trained: the duration of the completed epochs in seconds.
        elapsed: seconds since the run was first seen running, or its duration after it has ended.
        message: the reason of a failure.
    """

    name: str
    state: State
    stage: str = ""
    epoch: int = 0
    epochs: int = 0
    best: float | None = None
    images_per_second: float | None = None
    trained: float = 0.0
    elapsed: float | None = None
    message: str = ""

    @property
    def epochs_left(self) -> int:
        """The maximum number of epochs that are left."""
        return 0 if self.state in ("evaluating", "failed", *SUCCEEDED) else self.epochs - self.epoch


class Follower:
    """Reads the runs that may have changed, and remembers the others."""

    def __init__(self, runs: Sequence[Planned], outputs: Path, skipped: Collection[str]) -> None:
        self.runs, self.outputs, self.skipped = runs, outputs, skipped
        self.known: dict[str, Progress] = {}
        self.seen: dict[str, float] = {}

    def look(self, outcomes: Mapping[str, Outcome]) -> list[Progress]:
        """The progress of all runs, in the order of the suite."""
        return [self._progress(run, outcomes.get(run.run_id)) for run in self.runs]

    def _progress(self, planned: Planned, outcome: Outcome | None) -> Progress:
        run = RunDirectory(self.outputs / planned.run_id)
        state = outcome.status if outcome else self._state(run)
        before = self.known.get(run.run_id)
        if before and before.state == state and state not in UNDER_WAY:
            return before
        now = time.monotonic()
        if state in UNDER_WAY:
            elapsed: float | None = now - self.seen.setdefault(run.run_id, now)
        else:
            elapsed = outcome.seconds if outcome else None
        found = replace(
            read_progress(run, planned),
            state=state,
            elapsed=elapsed,
            message=outcome.message if outcome else "",
        )
        self.known[run.run_id] = found
        return found

    def _state(self, run: RunDirectory) -> State:
        if run.run_id in self.skipped:
            return "skipped"
        if not is_claimed(run):
            return "waiting"
        try:
            status = run.status()
        except RunError:
            return "starting"
        if status == "finished":
            return "evaluating"
        return "training" if status == "running" else "starting"


def read_progress(run: RunDirectory, planned: Planned) -> Progress:
    """What `history.csv` says of a run, as of one that waits."""
    experiment = planned.experiment
    waiting = Progress(
        name=f"{experiment.name}-s{experiment.seed}",
        state="waiting",
        epochs=sum(stage.epochs for stage in experiment.stages),
    )
    try:
        epochs = run.read_history()
    except RunError:
        epochs = []
    if not epochs:
        return waiting
    numbers = [epoch.numbers for epoch in epochs]
    values = [one[experiment.select] for one in numbers if experiment.select in one]
    choose = min if experiment.select in LESS_IS_BETTER else max
    return replace(
        waiting,
        stage=epochs[-1].stage or "",
        epoch=len(epochs),
        best=choose(values, default=None),
        images_per_second=numbers[-1].get("images_per_second"),
        trained=sum(one.get("seconds", 0.0) for one in numbers),
    )


def time_left(runs: Sequence[Progress]) -> float | None:
    """Estimated seconds until all runs are trained; None before the first epoch is done.

    An epoch of a run without any takes as long as in runs of the same name with other seeds, or
    else as the average of all runs.
    """
    timed = [run for run in runs if run.epoch]
    if not timed:
        return None
    seconds = 0.0
    for run in runs:
        if run.epochs_left:
            like = [other for other in timed if _experiment(other) == _experiment(run)]
            known = [run] if run.epoch else like or timed
            each = sum(one.trained for one in known) / sum(one.epoch for one in known)
            seconds += run.epochs_left * each
    return seconds / max(1, sum(run.state in UNDER_WAY for run in runs))


def _experiment(run: Progress) -> str:
    return run.name.rpartition("-s")[0]
