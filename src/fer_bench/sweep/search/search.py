"""`fer sweep --search`: which values of an experiment's keys do best on the validation split.

A search is a study of Optuna in `<outputs>/sweeps/<study>/`. Each of its trials is a run like any
other; what a trial is worth is read from the history of its run, so that the test split is never
looked at, and nothing is lost when the search is interrupted in any way.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fer_bench.config.experiment import Experiment
from fer_bench.config.loading import load_experiment
from fer_bench.config.training import LESS_IS_BETTER
from fer_bench.config.yaml_files import read_yaml
from fer_bench.errors import ConfigError, Interrupted, RunError
from fer_bench.storage.files import write_atomically
from fer_bench.storage.locks import LOCK, BusyError, held
from fer_bench.sweep.job import config_text, run_job
from fer_bench.sweep.scheduler import FOLDER
from fer_bench.sweep.search.rounds import Rounds, Run, Slots, log_file, make_trials
from fer_bench.sweep.search.space import Space, load_space, varied
from fer_bench.sweep.search.study import DATABASE, Trial, open_study

__all__ = ["Plan", "Result", "Slots", "Trial", "plan_search", "search", "trials_so_far"]


@dataclass(frozen=True)
class Plan:
    """What is to be searched.

    Attributes:
        base: the experiment that is varied; its name is that of the study.
        space: what is varied, how often and how.
    """

    base: Experiment
    space: Space

    @property
    def study(self) -> str:
        """The name of the study, which is the name of every run in it."""
        return self.base.name

    @property
    def metric(self) -> str:
        """The `val_` metric that is aimed at."""
        return self.base.select

    @property
    def direction(self) -> str:
        """Whether the metric shall go `up` or `down`."""
        return "down" if self.metric in LESS_IS_BETTER else "up"

    def folder(self, outputs: Path) -> Path:
        """Where the study is kept."""
        return outputs / FOLDER / self.study

    def experiment(self, trial: Trial) -> Experiment:
        """The experiment that a trial is. Raises: ConfigError when its values make none."""
        return varied(self.base, trial.parameters)


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        plan: what was searched.
        folder: where the study is kept.
        trials: all, by number.
        importance: the share of each key in the differences of value; empty with few trials.
    """

    plan: Plan
    folder: Path
    trials: tuple[Trial, ...]
    importance: dict[str, float]

    @property
    def ranking(self) -> list[Trial]:
        """The finished trials, the best first, the earlier first of equals."""
        finished = [trial for trial in self.trials if trial.state == "finished"]
        sign = -1 if self.plan.direction == "up" else 1
        return sorted(finished, key=lambda trial: sign * (trial.value or 0.0))

    @property
    def best(self) -> Trial | None:
        """The best finished trial."""
        return next(iter(self.ranking), None)

    @property
    def left(self) -> int:
        """How many trials are missing because others failed."""
        counted = sum(trial.state in ("finished", "pruned") for trial in self.trials)
        return max(0, self.plan.space.trials - counted)

    @property
    def failed(self) -> list[Trial]:
        """The trials that gave nothing."""
        return [trial for trial in self.trials if trial.state == "failed"]

    def log(self, trial: Trial) -> Path | None:
        """What the run of a trial said; None where it has none."""
        return log_file(self.folder, trial.run_id) if trial.run_id else None

    @property
    def best_config(self) -> Path:
        """The best trial as an experiment file; missing while no trial is finished."""
        return self.folder / "best.yaml"

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return describe(self.plan, self.trials) | {
            "best": self.best.to_json() if self.best else None,
            "best_config": str(self.best_config) if self.best else None,
            "importance": self.importance,
            "runs": [trial.to_json() for trial in self.trials],
        }


def describe(plan: Plan, trials: Sequence[Trial]) -> dict[str, Any]:
    """What is searched and how far it is, as a JSON object."""
    states = Counter(trial.state for trial in trials)
    return {
        "study": plan.study,
        "metric": plan.metric,
        "direction": plan.direction,
        "space": {
            key: parameter.model_dump(mode="json", exclude_unset=True)
            for key, parameter in plan.space.space.items()
        },
        "trials": plan.space.trials,
        **{state: states[state] for state in ("finished", "pruned", "failed")},
        "left": max(0, plan.space.trials - states["finished"] - states["pruned"]),
    }


def plan_search(
    config: Path, space: Path, overrides: Sequence[str] = (), trials: int | None = None
) -> Plan:
    """Read and check an experiment and the space in which it is to be varied.

    Args:
        config: the file of the experiment; the study is named by it and by the file of the space.
        space: the file of the space.
        overrides: `a.b=value`, for every trial.
        trials: how many, instead of what the space says.

    Raises:
        ConfigError: one of the files is wrong, or they do not fit together.
    """
    if trials is not None and trials < 1:
        raise ConfigError(f"--trials {trials}: expected at least 1.")
    given = load_experiment(config, overrides)
    if given.selection == "test_split":
        raise ConfigError(
            f"{config}: selection: test_split chooses by the test split.\n"
            "A search would tune the experiment to the very images that it is measured on. Search "
            "with --set selection=validation."
        )
    try:
        base = varied(given, {"name": f"{given.name}_{space.stem}", "published": []})
    except ConfigError as error:
        raise ConfigError(f"{space}: the file cannot give its name to a study.\n{error}") from error
    found = load_space(space, base)
    return Plan(base, found.model_copy(update={"trials": trials}) if trials else found)


def trials_so_far(plan: Plan, outputs: Path) -> list[Trial]:
    """The trials of earlier starts. Raises: RunError, ConfigError when they are of another plan."""
    folder = plan.folder(outputs)
    if not (folder / DATABASE).exists():
        return []
    _check_unchanged(folder, plan)
    with open_study(folder, plan.study, plan.space, plan.metric) as study:
        return study.trials()


def search(
    plan: Plan,
    outputs: Path,
    slots: Slots | None = None,
    *,
    said: Callable[[Trial], None] = lambda trial: None,  # noqa: ARG005 - nobody listens
    run: Run = run_job,
) -> Result:
    """Make the trials that are left.

    Trials that failed are not counted: the next start makes others in their place.

    Args:
        plan: what is searched.
        outputs: the folder that holds the runs.
        slots: how many trials at a time and on what; None: one.
        said: is told of each trial that goes on from an earlier start, and of each that ends.
        run: trains one run.

    Raises:
        FerError: the study is another one's, or is being searched already.
        Interrupted: SIGINT or SIGTERM came, here or to a run; the same search goes on from there.
    """
    folder = plan.folder(outputs)
    with _only_search(folder):
        _check_unchanged(folder, plan)
        write_atomically(folder / "base.yaml", config_text(plan.base))
        write_atomically(folder / "space.yaml", _space_text(plan.space))
        with open_study(folder, plan.study, plan.space, plan.metric) as study:

            def end(trial: Trial) -> None:
                # Not only at the end: a search that is never finished has found something too.
                _write_best(Result(plan, folder, tuple(study.trials()), {}))
                said(trial)

            rounds = Rounds(plan.base, study, outputs, folder, slots or Slots(), run, end)
            if not make_trials(rounds):
                ended = sum(trial.state in ("finished", "pruned") for trial in study.trials())
                raise Interrupted(
                    f"{plan.study} stopped with {ended} of {plan.space.trials} trials made; the "
                    "same command goes on from here"
                )
            result = Result(plan, folder, tuple(study.trials()), study.importance())
    _write_best(result)
    return result


def _write_best(result: Result) -> None:
    """Write the experiment of the best trial, if there is one."""
    plan, best = result.plan, result.best
    if best:
        heading = f"# Trial {best.number} of {plan.study}: {plan.metric} {best.value:.4f}\n"
        write_atomically(result.best_config, heading + plan.experiment(best).to_yaml())


def _space_text(space: Space) -> str:
    document = space.model_dump(mode="json", exclude_unset=True)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _check_unchanged(folder: Path, plan: Plan) -> None:
    """Make sure that the trials of earlier starts are of the same experiment and space."""
    base, space = folder / "base.yaml", folder / "space.yaml"
    if not (folder / DATABASE).exists() or not base.exists() or not space.exists():
        return
    changed = list(_differences(load_experiment(base).to_yaml(), plan.base.to_yaml()))
    varied_before = read_yaml(space, "a search space").get("space")
    if json.dumps(varied_before) != json.dumps(yaml.safe_load(_space_text(plan.space))["space"]):
        changed.append("the space")
    if changed:
        raise ConfigError(
            f"{folder}: this study was begun with other values of {', '.join(changed)}; its trials "
            "cannot be compared with new ones.\n"
            "Restore them, or give the experiment or the space another file name, or remove the "
            "folder of the study (the runs stay and are used)."
        )


def _differences(before: str, now: str) -> Iterator[str]:
    """The dotted keys of two YAML texts that do not have the same value."""
    flat = [dict(_flatten(yaml.safe_load(text))) for text in (before, now)]
    keys = dict.fromkeys([*flat[0], *flat[1]])
    yield from (key for key in keys if flat[0].get(key) != flat[1].get(key))


def _flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    inside = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(inside, dict) or not inside:
        yield key, value
        return
    for part, below in inside.items():
        yield from _flatten(below, f"{key}.{part}" if key else str(part))


@contextlib.contextmanager
def _only_search(folder: Path) -> Iterator[None]:
    """Hold the study for one process; the lock vanishes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(folder / LOCK))
        except BusyError as error:
            raise RunError(
                f"{folder}: this search is being made by {error.holder}.\n"
                "Wait for it to end, or stop it. More at a time is --workers."
            ) from error
        yield
