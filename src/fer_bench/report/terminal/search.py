"""What a search says on a terminal: a line for each trial, and the tables at its end."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fer_bench.sweep.search.search import Result
from fer_bench.sweep.search.space import Parameter, as_text
from fer_bench.sweep.search.study import TRIALS_FOR_IMPORTANCE, Trial

BEST = 10
LONGEST_VALUE = 24

Parameters = Mapping[str, Parameter]


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """For each dotted key the end of it that no other has: `learning_rate`, or `0.learning_rate`.

    An end does not begin with a position in a list unless it must.
    """
    ends = {key: list(_ends(key)) for key in keys}
    taken = [end for some in ends.values() for end in some]
    return {
        key: next((end for end in some if taken.count(end) == 1), key) for key, some in ends.items()
    }


def _ends(key: str) -> Iterator[str]:
    parts = key.split(".")
    for start in reversed(range(len(parts))):
        if not parts[start].isdecimal():
            yield ".".join(parts[start:])


def shown(parameter: Parameter, value: Any) -> str:
    """A value in a few letters; a long choice by its position, counted from 1."""
    if parameter.choices is None:
        return f"{value:.3g}" if isinstance(value, float) else str(value)
    text = value if isinstance(value, str) else as_text(value)
    if len(text) <= LONGEST_VALUE:
        return text
    texts = [as_text(choice) for choice in parameter.choices]
    return f"choice {texts.index(as_text(value)) + 1}"


def trial_line(trial: Trial, parameters: Parameters) -> str:
    """One line about a trial: number, value, state and parameters; why, where it failed."""
    state: str = trial.state
    if state == "running":
        state = f"goes on after epoch {trial.epochs}" if trial.epochs else "begins again"
    value = "" if trial.value is None else f"{trial.value:.4f} "
    line = f"trial {trial.number}: {value}{state}  {_choice(trial, parameters)}"
    return f"{line}\n{trial.message}" if trial.message else line


def _choice(trial: Trial, parameters: Parameters) -> str:
    names = short_names(parameters)
    return "  ".join(
        f"{names[key]}={shown(parameters[key], value)}" for key, value in trial.parameters.items()
    )


def result_tables(result: Result) -> Group:
    """The best trials, and how much each parameter matters."""
    return Group(*_tables(result))


def _tables(result: Result) -> Iterator[Table | Text]:
    parameters, ranking = result.plan.space.space, result.ranking
    counted = f"{len(result.trials)} trials, {len(ranking)} finished"
    yield Text(f"{result.plan.study}: {counted}, the best by {result.plan.metric}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("trial", result.plan.metric, "epochs"):
        table.add_column(heading, justify="right")
    table.add_column("parameters")
    for trial in ranking[:BEST]:
        cells = (str(trial.number), f"{trial.value:.4f}", str(trial.epochs))
        # As Text: a name with brackets must not be read as markup.
        table.add_row(*map(Text, (*cells, _choice(trial, parameters))))
    yield table
    yield _importance(result)


def _importance(result: Result) -> Table | Text:
    if not result.importance:
        return Text(
            f"How much each parameter matters is said once {TRIALS_FOR_IMPORTANCE} trials that "
            "differ in value are finished."
        )
    names = short_names(result.plan.space.space)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("parameter")
    table.add_column("importance", justify="right")
    for key, share in result.importance.items():
        table.add_row(Text(names[key]), f"{share:.0%}")
    return table


def plan_lines(described: Mapping[str, Any], parameters: Parameters) -> Iterator[str]:
    """What a search would do, from `describe`: a line for its aim and one for each parameter."""
    aim = "small" if described["direction"] == "down" else "large"
    made = ", ".join(f"{described[state]} {state}" for state in ("finished", "pruned", "failed"))
    yield f"{described['study']}: a {described['metric']} as {aim} as possible"
    yield f"{described['trials']} trials: {made}, {described['left']} left"
    for key, parameter in parameters.items():
        yield f"  {key}: {_values(parameter)}"


def _values(parameter: Parameter) -> str:
    if parameter.choices is not None:
        return ", ".join(shown(parameter, choice) for choice in parameter.choices)
    low, high = parameter.bounds
    scale = ", even in its logarithm" if parameter.log else ""
    return f"{low:g} to {high:g}{', whole' if parameter.integer else ''}{scale}"
