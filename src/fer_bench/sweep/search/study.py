"""The trials of a search, in the database of Optuna: which were made, and which comes next."""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fer_bench.config.training import LESS_IS_BETTER
from fer_bench.errors import ConfigError, RunError
from fer_bench.sweep.search.space import Parameter, Pruning, Space, as_text

if TYPE_CHECKING:
    import optuna

DATABASE = "study.db"
# With fewer, the importance of a parameter is that of chance.
TRIALS_FOR_IMPORTANCE = 8

State = Literal["finished", "pruned", "failed", "running"]


@dataclass(frozen=True)
class Trial:
    """One choice of values and what came of it.

    Attributes:
        number: counted from 0, in the order in which they were begun.
        state: `running` also while nobody trains it, because the search was interrupted.
        value: the best of its epochs in the metric of the search; None where there is none.
        epochs: how many it was trained.
        parameters: the value of every key that is varied.
        run_id: its run; None where the values do not make an experiment.
        message: why it failed; else empty.
    """

    number: int
    state: State
    value: float | None
    epochs: int
    parameters: dict[str, Any]
    run_id: str | None
    message: str

    def to_json(self) -> dict[str, Any]:
        """The trial as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Study:
    """The trials of one search. One thread of one process uses it at a time.

    Attributes:
        study: that of Optuna.
        space: what is varied.
        opened: the trials that this process has begun or taken up, as Optuna has them.
    """

    study: "optuna.Study"
    space: Space
    opened: "dict[int, optuna.Trial]" = field(default_factory=dict)

    def trials(self) -> list[Trial]:
        """All trials so far, by number."""
        return [self._read(trial) for trial in self.study.get_trials(deepcopy=False)]

    def is_better(self, value: float, than: float) -> bool:
        """Whether one value is nearer to what the search aims at than another."""
        return value > than if self._goes_up else value < than

    @property
    def _goes_up(self) -> bool:
        return self.study.direction.name == "MAXIMIZE"

    def take_up(self, number: int) -> Trial:
        """The trial of an earlier start that has not ended, with the values it was given."""
        trial = self._open(number)
        for key, parameter in self.space.space.items():
            # One that was chosen comes back; only a kill between two keys leaves any to choose.
            _suggest(trial, key, parameter)
        return self._read(self._frozen(number))

    def ask(self) -> Trial:
        """Begin a new trial, whose values the sampler chooses from the trials before it."""
        # Of its own for each trial: what is chosen must not depend on how often the search was
        # interrupted, and a sampler that starts anew would choose the first values again.
        self.study.sampler = _sampler(self.space.seed, len(self.study.get_trials(deepcopy=False)))
        trial = self.study.ask()
        self.opened[trial.number] = trial
        return self.take_up(trial.number)

    def note_run(self, number: int, run_id: str) -> None:
        """Remember which run a trial is."""
        self._open(number).set_user_attr("run_id", run_id)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Note the value of the metric after an epoch, counted from 1; a known one is kept."""
        if epoch not in self._frozen(number).intermediate_values:
            self._open(number).report(value, epoch)

    def is_to_be_pruned(self, number: int) -> bool:
        """Whether the epochs of a trial are so poor that it need not go on."""
        return self._open(number).should_prune()

    def finish(self, number: int) -> Trial:
        """End a trial that was trained to its end, with the best of its epochs."""
        best = self._best(self._frozen(number))
        if best is None:
            return self.fail(number, "the metric of the search has no value in any epoch")
        self.study.tell(number, best)
        return self._read(self._frozen(number))

    def prune(self, number: int) -> Trial:
        """End a trial that was stopped early."""
        self.study.tell(number, state=_optuna().trial.TrialState.PRUNED)
        return self._read(self._frozen(number))

    def fail(self, number: int, message: str) -> Trial:
        """End a trial that gave nothing."""
        self._open(number).set_user_attr("message", message)
        self.study.tell(number, state=_optuna().trial.TrialState.FAIL)
        return self._read(self._frozen(number))

    def importance(self) -> dict[str, float]:
        """The share of each varied key in the differences of value, the largest first.

        By fANOVA (Hutter, Hoos, Leyton-Brown, 2014); the shares add up to 1. Empty with fewer than
        `TRIALS_FOR_IMPORTANCE` finished trials, and where all have the same value.
        """
        values = [trial.value for trial in self.trials() if trial.state == "finished"]
        if len(values) < TRIALS_FOR_IMPORTANCE or len(set(values)) == 1:
            return {}
        importance = _optuna().importance
        evaluator = importance.FanovaImportanceEvaluator(seed=0)
        with _quiet():
            found = importance.get_param_importances(self.study, evaluator=evaluator)
        return {key: float(share) for key, share in found.items()}

    def _open(self, number: int) -> "optuna.Trial":
        if number not in self.opened:
            # Optuna has no other way to go on with a trial of an earlier process.
            trial: optuna.Trial = _optuna().Trial(self.study, self._frozen(number)._trial_id)
            self.opened[number] = trial
        return self.opened[number]

    def _frozen(self, number: int) -> "optuna.trial.FrozenTrial":
        return self.study.get_trials(deepcopy=False)[number]

    def _best(self, trial: "optuna.trial.FrozenTrial") -> float | None:
        values = trial.intermediate_values.values()
        return (max if self._goes_up else min)(values) if values else None

    def _read(self, trial: "optuna.trial.FrozenTrial") -> Trial:
        states: dict[str, State] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
        return Trial(
            number=trial.number,
            state=states.get(trial.state.name, "running"),
            value=self._best(trial),
            epochs=trial.last_step or 0,
            parameters={
                key: _value(parameter, trial.params[key])
                for key, parameter in self.space.space.items()
                if key in trial.params
            },
            run_id=trial.user_attrs.get("run_id"),
            message=trial.user_attrs.get("message", ""),
        )


@contextlib.contextmanager
def open_study(folder: Path, name: str, space: Space, metric: str) -> Iterator[Study]:
    """The study in `folder`, made where there is none.

    Args:
        folder: where its database is.
        name: of the study.
        space: what is varied.
        metric: the `val_` metric at which it aims.

    Raises:
        ConfigError: Optuna is not installed.
        RunError: the database cannot be read.
    """
    optuna = _optuna()
    folder.mkdir(parents=True, exist_ok=True)
    with _quiet():
        try:
            storage = optuna.storages.RDBStorage(_address(folder / DATABASE))
            study = optuna.create_study(
                study_name=name,
                storage=storage,
                direction="minimize" if metric in LESS_IS_BETTER else "maximize",
                pruner=_pruner(space.pruning),
                load_if_exists=True,
            )
        except Exception as error:
            if not type(error).__module__.startswith(("sqlalchemy", "optuna", "alembic")):
                raise
            raise RunError(
                f"{folder / DATABASE}: cannot be read as a study ({error}).\n"
                "Remove it to begin the search anew; the runs of its trials stay and are used."
            ) from error
        try:
            yield Study(study, space)
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _address(path: Path) -> str:
    """The database as SQLAlchemy names it; Optuna fills in what stands in braces."""
    from sqlalchemy.engine import URL

    url = URL.create("sqlite", database=str(path.absolute()))
    return url.render_as_string().replace("{", "{{").replace("}", "}}")


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError(
            "fer sweep --search needs Optuna, which is not installed.\n"
            "Install it: pip install 'fer-bench[search]'"
        ) from error
    return optuna


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Optuna says of itself: each trial, and which of its parts are new."""
    optuna = _optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _sampler(seed: int, number: int) -> Any:
    """Tree-structured Parzen estimators, which take the trials under way into account."""
    digest = hashlib.sha256(f"{seed}, trial {number}".encode()).digest()
    return _optuna().samplers.TPESampler(
        seed=int.from_bytes(digest[:4], "little"), multivariate=True, constant_liar=True
    )


def _pruner(pruning: Pruning | None) -> Any:
    pruners = _optuna().pruners
    if pruning is None:
        return pruners.NopPruner()
    # Steps are epochs counted from 1, and its warm-up are the steps before the first it looks at.
    return pruners.MedianPruner(
        n_startup_trials=pruning.startup_trials, n_warmup_steps=pruning.warmup_epochs + 1
    )


def _suggest(trial: "optuna.Trial", key: str, parameter: Parameter) -> None:
    """Have a value chosen for a key, unless it has one."""
    if parameter.choices is not None:
        trial.suggest_categorical(key, [as_text(choice) for choice in parameter.choices])
        return
    low, high = parameter.bounds
    if parameter.integer:
        trial.suggest_int(key, int(low), int(high), log=parameter.log)
    else:
        trial.suggest_float(key, low, high, log=parameter.log)


def _value(parameter: Parameter, chosen: Any) -> Any:
    """What the database holds, as it stands in an experiment: a choice is kept as JSON there."""
    return chosen if parameter.choices is None else json.loads(chosen)
