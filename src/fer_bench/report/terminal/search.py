"""A search on the terminal: one line per trial, and the tables at its end."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fer_bench.report.terminal.table import add_row, new_table
from fer_bench.sweep.search.search import Result
from fer_bench.sweep.search.space import Parameter, as_text
from fer_bench.sweep.search.study import TRIALS_FOR_IMPORTANCE, Trial

BEST = 10
LONGEST_VALUE = 24

Parameters = Mapping[str, Parameter]


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """For each dotted key its shortest unique ending: `learning_rate`, or `0.learning_rate`.

    An ending does not begin with a position in a list unless the whole key does.
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
    """A value in a few characters; a long choice as its position, counted from 1."""
    if parameter.choices is None:
        return f"{value:.3g}" if isinstance(value, float) else str(value)
    text = value if isinstance(value, str) else as_text(value)
    if len(text) <= LONGEST_VALUE:
        return text
    texts = [as_text(choice) for choice in parameter.choices]
    return f"choice {texts.index(as_text(value)) + 1}"


def trial_line(trial: Trial, parameters: Parameters) -> str:
    """One line about a trial: number, value, state and parameters; a second one if it failed."""
    state: str = trial.state
    if state == "running":
        state = f"resumes after epoch {trial.epochs}" if trial.epochs else "restarts"
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
    table = new_table([">trial", f">{result.plan.metric}", ">epochs", "parameters"])
    for trial in ranking[:BEST]:
        numbers = (str(trial.number), f"{trial.value:.4f}", str(trial.epochs))
        add_row(table, *numbers, _choice(trial, parameters))
    yield table
    yield _importance(result)


def _importance(result: Result) -> Table | Text:
    if not result.importance:
        return Text(
            f"The importance of each parameter is shown once {TRIALS_FOR_IMPORTANCE} trials with "
            "different values are finished."
        )
    names = short_names(result.plan.space.space)
    table = new_table(["parameter", ">importance"])
    for key, share in result.importance.items():
        add_row(table, names[key], f"{share:.0%}")
    return table


def plan_lines(described: Mapping[str, Any], parameters: Parameters) -> Iterator[str]:
    """What a search would do: a line for its aim and one per parameter.

    Args:
        described: the plan as a document, from `describe`.
        parameters: those of the space, by key.
    """
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
    scale = ", on a logarithmic scale" if parameter.log else ""
    return f"{low:g} to {high:g}{', integer' if parameter.integer else ''}{scale}"
