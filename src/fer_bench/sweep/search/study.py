"""The trials of a search in the database of Optuna, and the choice of the next one."""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fer_bench.config.training import LESS_IS_BETTER
from fer_bench.errors import ConfigError, RunError
from fer_bench.sweep.search.space import Parameter, Pruning, Space, as_text

if TYPE_CHECKING:
    import optuna

DATABASE = "study.db"
# With fewer trials, importance is mostly chance.
TRIALS_FOR_IMPORTANCE = 8

State = Literal["finished", "pruned", "failed", "running"]


@dataclass(frozen=True)
class Trial:
    """One choice of values and its result.

    Attributes:
        number: counted from 0, in the order of their start.
        state: `running` also while the search is interrupted.
        value: the metric of the search in its best epoch; None without any.
        epochs: the number of trained epochs.
        parameters: the values of the varied keys.
        run_id: its run; None if the values are invalid together.
        message: the reason of a failure, or empty.
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


def number_ended(trials: Iterable[Trial]) -> int:
    """How many of the trials count: those that are finished or pruned."""
    return sum(trial.state in ("finished", "pruned") for trial in trials)


@dataclass(frozen=True)
class Study:
    """The trials of one search. Only one thread of one process may use it at a time.

    Attributes:
        study: the study of Optuna.
        storage: its database.
        space: the keys to vary.
        opened: the trials of Optuna that this process has started or resumed, by number.
    """

    study: "optuna.Study"
    storage: "optuna.storages.RDBStorage"
    space: Space
    opened: "dict[int, optuna.Trial]" = field(default_factory=dict)

    def trials(self) -> list[Trial]:
        """All trials so far, by number."""
        return [self._read(trial) for trial in self.study.get_trials(deepcopy=False)]

    def resume(self, number: int) -> Trial:
        """Continue a trial of an earlier start that has not ended, with the same values."""
        trial = self._open(number)
        for key, parameter in self.space.space.items():
            # Returns a value that was chosen before; only a kill between two keys leaves a choice.
            _suggest(trial, key, parameter)
        return self._read(self._frozen(number))

    def ask(self) -> Trial:
        """Start a new trial; the sampler chooses its values based on the trials before it."""
        # One sampler per trial: the choice must not depend on how often the search was interrupted,
        # and a new sampler with the same seed would choose the first values again.
        self.study.sampler = _sampler(self.space.seed, len(self.study.get_trials(deepcopy=False)))
        trial = self.study.ask()
        self.opened[trial.number] = trial
        return self.resume(trial.number)

    def set_run(self, number: int, run_id: str) -> None:
        """Record the run of a trial."""
        self._open(number).set_user_attr("run_id", run_id)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Record the metric after an epoch, counted from 1; a recorded value is kept."""
        if epoch not in self._frozen(number).intermediate_values:
            self._open(number).report(value, epoch)

    def should_prune(self, number: int) -> bool:
        """Whether the epochs of a trial are too poor to continue."""
        return self._open(number).should_prune()

    def finish(self, number: int) -> Trial:
        """End a fully trained trial, with the value of its best epoch."""
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
        """End a trial that failed."""
        self._open(number).set_user_attr("message", message)
        self.study.tell(number, state=_optuna().trial.TrialState.FAIL)
        return self._read(self._frozen(number))

    def importance(self) -> dict[str, float]:
        """The share of each varied key in the variance of the value, largest first.

        By fANOVA (Hutter, Hoos, Leyton-Brown, 2014); the shares add up to 1. Empty with fewer than
        `TRIALS_FOR_IMPORTANCE` finished trials, and if all have the same value.
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
            study_id = self.storage.get_study_id_from_name(self.study.study_name)
            trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
            self.opened[number] = _optuna().Trial(self.study, trial_id)
        return self.opened[number]

    def _frozen(self, number: int) -> "optuna.trial.FrozenTrial":
        return self.study.get_trials(deepcopy=False)[number]

    def _best(self, trial: "optuna.trial.FrozenTrial") -> float | None:
        values = trial.intermediate_values.values()
        choose = max if self.study.direction.name == "MAXIMIZE" else min
        return choose(values) if values else None

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
    """Open the study in `folder`, or create it.

    Args:
        folder: the folder of the database.
        name: the name of the study.
        space: the keys to vary.
        metric: the `val_` metric to optimize.

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
        except _database_errors() as error:
            raise RunError(
                f"{folder / DATABASE}: cannot be read as a study ({error}).\n"
                "Remove it to restart the search; the runs of its trials are kept and reused."
            ) from error
        try:
            yield Study(study, storage, space)
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _database_errors() -> tuple[type[Exception], ...]:
    """The errors of opening a damaged or incompatible database."""
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    return _optuna().exceptions.OptunaError, SQLAlchemyError, CommandError


def _address(path: Path) -> str:
    """The database as a SQLAlchemy URL; braces are doubled because Optuna formats it."""
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
    """Silence Optuna's messages about trials and experimental features."""
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
    """A tree-structured Parzen estimator that takes running trials into account."""
    digest = hashlib.sha256(f"{seed}, trial {number}".encode()).digest()
    return _optuna().samplers.TPESampler(
        seed=int.from_bytes(digest[:4], "little"), multivariate=True, constant_liar=True
    )


def _pruner(pruning: Pruning | None) -> Any:
    pruners = _optuna().pruners
    if pruning is None:
        return pruners.NopPruner()
    # Steps are epochs counted from 1; its warm-up ends before the first step that it checks.
    return pruners.MedianPruner(
        n_startup_trials=pruning.startup_trials, n_warmup_steps=pruning.warmup_epochs + 1
    )


def _suggest(trial: "optuna.Trial", key: str, parameter: Parameter) -> None:
    """Choose a value for a key, unless it has one already."""
    if parameter.choices is not None:
        trial.suggest_categorical(key, [as_text(choice) for choice in parameter.choices])
        return
    low, high = parameter.bounds
    if parameter.integer:
        trial.suggest_int(key, int(low), int(high), log=parameter.log)
    else:
        trial.suggest_float(key, low, high, log=parameter.log)


def _value(parameter: Parameter, chosen: Any) -> Any:
    """A value of the database as in the experiment; the database stores choices as JSON."""
    return chosen if parameter.choices is None else json.loads(chosen)
