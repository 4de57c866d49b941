"""`fer sweep CONFIG --search SPACE`: search for the best values of an experiment's keys."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fer_bench.cli.console import results, say
from fer_bench.cli.shell import mention, notify

if TYPE_CHECKING:
    from fer_bench.sweep.search.search import Plan, Result, Slots


def search(
    config: Path,
    space: Path,
    *,
    overrides: Sequence[str],
    trials: int | None,
    outputs: Path,
    slots: "Slots",
    dry_run: bool,
    as_json: bool,
) -> None:
    """Search and show the result; exit with code 1 if trials are missing because they failed.

    `overrides`, `a.b=value`, are for every trial; `trials` None is the number in the space. With
    `dry_run`, everything is checked, what would be done is shown, and nothing is trained.
    """
    from fer_bench.sweep.search.search import plan_search

    plan = plan_search(config, space, overrides, trials)
    if dry_run:
        _show_plan(plan, outputs, as_json)
        return
    result = _search(plan, outputs, slots)
    if as_json:
        say(json.dumps(result.to_json(), indent=2))
    else:
        _show(result, outputs)
    if result.left:
        _name_failed(result)
        raise typer.Exit(1)


def _show_plan(plan: "Plan", outputs: Path, as_json: bool) -> None:
    from fer_bench.report.terminal.search import plan_lines
    from fer_bench.sweep.search.search import describe, trials_so_far

    described = describe(plan, trials_so_far(plan, outputs))
    if as_json:
        say(json.dumps(described, indent=2))
        return
    for line in plan_lines(described, plan.space.space):
        say(line)


def _search(plan: "Plan", outputs: Path, slots: "Slots") -> "Result":
    from fer_bench.report.figures.search import draw_study
    from fer_bench.report.terminal.search import trial_line
    from fer_bench.sweep.search.search import Trial, search

    def say(trial: Trial) -> None:
        notify(trial_line(trial, plan.space.space))

    result = search(plan, outputs, slots, on_trial=say)
    draw_study(result, result.folder / "study.png")
    return result


def _show(result: "Result", outputs: Path) -> None:
    from fer_bench.report.terminal.search import result_tables

    results().print(result_tables(result))
    mention("figure", result.folder / "study.png")
    if result.best is None:
        return
    mention("best", result.best_config)
    notify(
        "The test split was not used. To evaluate the best trial on it, and to train it with "
        f"another seed:\n  fer evaluate {result.best.run_id} --outputs {outputs}\n"
        f"  fer train {result.best_config} --outputs {outputs} --set seed=1"
    )


def _name_failed(result: "Result") -> None:
    for trial in result.failed:
        log = f"\n  log: {path}" if (path := result.log(trial)) else ""
        notify(f"failed: trial {trial.number}: {trial.message}{log}")
    notify(f"{result.left} trials are missing because they failed; the same command tries others")
