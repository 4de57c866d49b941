"""`fer sweep --search`: finds the values of an experiment's keys with the best validation metric.

A search is an Optuna study in `<outputs>/sweeps/<study>/`. Each trial is an ordinary run; its value
is read from the history of the run, so that the test split is never used, and nothing is lost
however the search is interrupted.
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
from fer_bench.sweep.search.study import DATABASE, Trial, number_ended, open_study

__all__ = ["Plan", "Result", "Slots", "Trial", "plan_search", "search", "trials_so_far"]


@dataclass(frozen=True)
class Plan:
    """The plan of a search.

    Attributes:
        base: the experiment to vary; its name is the name of the study.
        space: the keys to vary, and the number of trials.
    """

    base: Experiment
    space: Space

    @property
    def study(self) -> str:
        """The name of the study and of all its runs."""
        return self.base.name

    @property
    def metric(self) -> str:
        """The `val_` metric to optimize."""
        return self.base.select

    @property
    def direction(self) -> str:
        """Whether to push the metric `up` or `down`."""
        return "down" if self.metric in LESS_IS_BETTER else "up"

    def folder(self, outputs: Path) -> Path:
        """The folder of the study."""
        return outputs / FOLDER / self.study

    def experiment(self, trial: Trial) -> Experiment:
        """The experiment of a trial. Raises: ConfigError if its values are invalid together."""
        return varied(self.base, trial.parameters)


@dataclass(frozen=True)
class Result:
    """The result of a search.

    Attributes:
        plan: the plan of the search.
        folder: the folder of the study.
        trials: all trials, by number.
        importance: the share of each key in the variance of the value; empty with few trials.
    """

    plan: Plan
    folder: Path
    trials: tuple[Trial, ...]
    importance: dict[str, float]

    @property
    def ranking(self) -> list[Trial]:
        """The finished trials, best first; of equal ones the earlier first."""
        finished = [trial for trial in self.trials if trial.state == "finished"]
        sign = -1 if self.plan.direction == "up" else 1
        return sorted(finished, key=lambda trial: sign * (trial.value or 0.0))

    @property
    def best(self) -> Trial | None:
        """The best finished trial."""
        return next(iter(self.ranking), None)

    @property
    def left(self) -> int:
        """The number of trials that are missing because others failed."""
        return max(0, self.plan.space.trials - number_ended(self.trials))

    @property
    def failed(self) -> list[Trial]:
        """The failed trials."""
        return [trial for trial in self.trials if trial.state == "failed"]

    def log(self, trial: Trial) -> Path | None:
        """The log of a trial; None if it has no run."""
        return log_file(self.folder, trial.run_id) if trial.run_id else None

    @property
    def best_config(self) -> Path:
        """The experiment file of the best trial; missing until a trial has finished."""
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
    """The plan and its progress as a JSON object."""
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
        "left": max(0, plan.space.trials - number_ended(trials)),
    }


def plan_search(
    config: Path, space: Path, overrides: Sequence[str] = (), trials: int | None = None
) -> Plan:
    """Read and check an experiment and the space in which to vary it.

    Args:
        config: the experiment file; the study is named after it and the space file.
        space: the space file.
        overrides: `a.b=value`, for all trials.
        trials: the number of trials; None: the number in the space file.

    Raises:
        ConfigError: one of the files is invalid, or they do not fit together.
    """
    if trials is not None and trials < 1:
        raise ConfigError(f"--trials {trials}: expected at least 1.")
    given = load_experiment(config, overrides)
    if given.selection == "test_split":
        raise ConfigError(
            f"{config}: selection: test_split selects the model on the test split.\n"
            "A search would tune the experiment on the images that it is evaluated on. Use "
            "--set selection=validation."
        )
    try:
        base = varied(given, {"name": f"{given.name}_{space.stem}", "published": []})
    except ConfigError as error:
        raise ConfigError(f"{space}: the file name is part of the run name.\n{error}") from error
    found = load_space(space, base)
    return Plan(base, found.model_copy(update={"trials": trials}) if trials else found)


def trials_so_far(plan: Plan, outputs: Path) -> list[Trial]:
    """The trials of earlier starts. Raises: RunError, ConfigError if the plan has changed."""
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
    on_trial: Callable[[Trial], None] = lambda trial: None,  # noqa: ARG005
    run: Run = run_job,
) -> Result:
    """Run the trials that are left.

    Failed trials do not count: the next start replaces them by others.

    Args:
        plan: the plan of the search.
        outputs: the folder of the runs.
        slots: the number of trials at a time and their devices; None: one.
        on_trial: called with each trial that is resumed from an earlier start or has ended.
        run: trains one run.

    Raises:
        FerError: the study belongs to another plan, or is being searched already.
        Interrupted: this process or a run received SIGINT, SIGTERM or SIGHUP; the same search
            resumes.
    """
    folder = plan.folder(outputs)
    with _only_search(folder):
        _check_unchanged(folder, plan)
        write_atomically(folder / "base.yaml", config_text(plan.base))
        write_atomically(folder / "space.yaml", _space_text(plan.space))
        with open_study(folder, plan.study, plan.space, plan.metric) as study:

            def end(trial: Trial) -> None:
                # Not only at the end: an unfinished search has results too.
                _write_best(Result(plan, folder, tuple(study.trials()), {}))
                on_trial(trial)

            rounds = Rounds(plan.base, study, outputs, folder, slots or Slots(), run, end)
            if not make_trials(rounds):
                raise Interrupted(
                    f"{plan.study} stopped after {number_ended(study.trials())} of "
                    f"{plan.space.trials} trials; the same command continues from here"
                )
            result = Result(plan, folder, tuple(study.trials()), study.importance())
    _write_best(result)
    return result


def _write_best(result: Result) -> None:
    """Write the experiment file of the best trial, if any."""
    plan, best = result.plan, result.best
    if best:
        heading = f"# Trial {best.number} of {plan.study}: {plan.metric} {best.value:.4f}\n"
        write_atomically(result.best_config, heading + plan.experiment(best).to_yaml())


def _space_text(space: Space) -> str:
    document = space.model_dump(mode="json", exclude_unset=True)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _check_unchanged(folder: Path, plan: Plan) -> None:
    """Raises: ConfigError if earlier trials belong to another experiment or space."""
    base, space = folder / "base.yaml", folder / "space.yaml"
    if not (folder / DATABASE).exists() or not base.exists() or not space.exists():
        return
    changed = list(_differences(load_experiment(base).to_yaml(), plan.base.to_yaml()))
    varied_before = read_yaml(space, "a search space").get("space")
    if json.dumps(varied_before) != json.dumps(yaml.safe_load(_space_text(plan.space))["space"]):
        changed.append("the space")
    if changed:
        raise ConfigError(
            f"{folder}: this study was started with other values of {', '.join(changed)}; its "
            "trials cannot be compared with new ones.\n"
            "Restore the values, rename the experiment file or the space file, or remove the "
            "folder of the study (its runs are kept and reused)."
        )


def _differences(before: str, now: str) -> Iterator[str]:
    """The dotted keys whose values differ between two YAML texts."""
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
                f"{folder}: this search is being run by {error.holder}.\n"
                "Wait for it to end, or stop it. For several trials at a time, use --workers."
            ) from error
        yield
