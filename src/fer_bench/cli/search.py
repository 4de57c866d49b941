"""`fer sweep CONFIG --search SPACE`: look for the values of an experiment's keys that do best."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fer_bench.cli.console import messages, results, say
from fer_bench.cli.shell import mention

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
    """Search, show what was found, and end with exit code 1 if trials are missing that failed.

    Args:
        config: the experiment that is varied.
        space: what is varied.
        overrides: `a.b=value`, for every trial.
        trials: how many, instead of what the space says.
        outputs: the folder that holds the runs.
        slots: how many trials at a time and on what.
        dry_run: check everything, say what would be done, and train nothing.
        as_json: print one document and nothing else.
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
        line = trial_line(trial, plan.space.space)
        messages.print(line, soft_wrap=True, highlight=False, markup=False)

    result = search(plan, outputs, slots, on_trial=say)
    draw_study(result, result.folder / "study.png")
    return result


def _show(result: "Result", outputs: Path) -> None:
    from fer_bench.report.terminal.search import result_tables

    results().print(result_tables(result))
    mention("picture", result.folder / "study.png")
    if result.best is None:
        return
    mention("best", result.best_config)
    messages.print(
        "The test split was not looked at. To measure the best trial on it, and to train it with "
        f"another seed:\n  fer evaluate {result.best.run_id} --outputs {outputs}\n"
        f"  fer train {result.best_config} --outputs {outputs} --set seed=1",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def _name_failed(result: "Result") -> None:
    for trial in result.failed:
        log = result.log(trial)
        text = f"failed: trial {trial.number}: {trial.message}" + (f"\n  log: {log}" if log else "")
        messages.print(text, soft_wrap=True, highlight=False, markup=False)
    messages.print(
        f"{result.left} trials are missing because so many failed; the same command makes others",
        soft_wrap=True,
        highlight=False,
    )
