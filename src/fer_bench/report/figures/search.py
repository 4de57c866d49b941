"""The PNG figure of a search: its trials in order, and the value by each parameter."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from fer_bench.report.figures.png import save_figure
from fer_bench.report.palette import BLUE, GREY, ORANGE
from fer_bench.report.terminal.search import short_names, shown
from fer_bench.sweep.search.search import Result
from fer_bench.sweep.search.space import Parameter, as_text
from fer_bench.sweep.search.study import Trial

COLUMNS = 3


def draw_study(result: Result, target: Path) -> None:
    """Draw the value of each trial and the best so far; below, one panel per parameter.

    Args:
        result: the search; failed trials are marked at the lower edge.
        target: the PNG to write.
    """
    parameters = result.plan.space.space
    rows = math.ceil(len(parameters) / COLUMNS)
    figure = Figure(figsize=(9, 3.2 + 2.5 * rows), layout="constrained")
    trials, panels = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.2, 2.5 * rows])[:, 0]
    _draw_trials(trials.subplots(), result)
    cells = panels.subplots(rows, COLUMNS, sharey=True, squeeze=False)
    names = short_names(parameters)
    for axes, (key, parameter) in zip(cells.flat, parameters.items(), strict=False):
        _draw_parameter(axes, result, key, parameter)
        axes.set_title(names[key], fontsize=10)
    for axes in cells.flat[len(parameters) :]:
        axes.set_visible(False)
    for axes in (trials.axes[0], cells[0, 0]):
        axes.set_yscale(_scale(result))
    panels.supylabel(result.plan.metric, fontsize=10)
    save_figure(figure, target)


def _draw_trials(axes: Axes, result: Result) -> None:
    _dots(axes, result.trials, [trial.number for trial in result.trials])
    failed = [trial.number for trial in result.failed]
    if failed:
        edge = axes.get_xaxis_transform()
        axes.plot(failed, [0.03] * len(failed), "|", color=ORANGE, transform=edge, label="failed")
    numbers, values = _best_so_far(result)
    axes.step(numbers, values, where="post", color=ORANGE, linewidth=1.2, label="best so far")
    axes.set(xlabel="trial", ylabel=result.plan.metric)
    axes.set_title(textwrap.fill(result.plan.study, 44), loc="left", fontsize=11)
    axes.set_xlim(-0.7, max((trial.number for trial in result.trials), default=0) + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, ncols=4, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)


def _scale(result: Result) -> str:
    """`log` if losses differ by orders of magnitude, as too high a learning rate makes them."""
    values = [trial.value for trial in result.trials if trial.value is not None]
    is_wide = result.plan.direction == "down" and max(values, default=0) > 10 * min(
        values, default=0
    )
    return "log" if is_wide and min(values) > 0 else "linear"


def _best_so_far(result: Result) -> tuple[list[int], list[float]]:
    """Trial numbers and the best value of the finished trials up to each of them."""
    choose = max if result.plan.direction == "up" else min
    numbers: list[int] = []
    values: list[float] = []
    for trial in result.trials:
        if trial.state == "finished" and trial.value is not None:
            values.append(choose([trial.value, *values[-1:]]))
            numbers.append(trial.number)
    if numbers:
        numbers.append(result.trials[-1].number)
        values.append(values[-1])
    return numbers, values


def _draw_parameter(axes: Axes, result: Result, key: str, parameter: Parameter) -> None:
    trials = [trial for trial in result.trials if key in trial.parameters]
    values = [trial.parameters[key] for trial in trials]
    if parameter.choices is None:
        _mark_range(axes, parameter)
    else:
        _mark_choices(axes, parameter)
        values = _places(trials, values, parameter)
    _dots(axes, trials, values)
    for trial, value in zip(trials, values, strict=True):
        if trial == result.best and trial.value is not None:
            axes.plot([value], [trial.value], "o", markersize=10, color=ORANGE, fillstyle="none")
    axes.grid(alpha=0.3)


def _mark_range(axes: Axes, parameter: Parameter) -> None:
    low, high = parameter.bounds
    if not parameter.log:
        axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=parameter.integer))
        return
    beyond = (high / low) ** 0.05
    axes.set(xscale="log", xlim=(low / beyond, high * beyond))
    decades = math.log10(high / low)
    steps = [1, 2, 5] if decades < 1.2 else [1, 3] if decades < 2.5 else [1]
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _mark_choices(axes: Axes, parameter: Parameter) -> None:
    names = [shown(parameter, choice) for choice in parameter.choices or ()]
    axes.set_xticks(range(len(names)), names, rotation=30 if len("".join(names)) > 32 else 0)
    axes.set_xlim(-0.5, len(names) - 0.5)


def _places(trials: Sequence[Trial], values: Sequence[Any], parameter: Parameter) -> list[float]:
    """The places of trials along the choices; trials of one choice are spread by their number."""
    texts = [as_text(choice) for choice in parameter.choices or ()]
    last = max((trial.number for trial in trials), default=0) or 1
    return [
        texts.index(as_text(value)) + 0.4 * (trial.number / last - 0.5)
        for trial, value in zip(trials, values, strict=True)
    ]


def _dots(axes: Axes, trials: Sequence[Trial], places: Sequence[float]) -> None:
    """Draw a dot for each trial with a value, at its place along x and its value along y."""
    for state, colour, marker in (("pruned", GREY, "x"), ("finished", BLUE, "o")):
        points = [
            (place, trial.value)
            for place, trial in zip(places, trials, strict=True)
            if trial.state == state and trial.value is not None
        ]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                linestyle="",
                marker=marker,
                markersize=5,
                color=colour,
                label=state,
            )
