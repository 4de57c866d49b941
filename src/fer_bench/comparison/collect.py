"""From folders of runs to one comparison."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from fer_bench.comparison.filter import Condition, parse_where
from fer_bench.comparison.groups import (
    Pairs,
    build_group,
    check_sort,
    group_members,
    not_comparable,
    order_groups,
)
from fer_bench.comparison.identity import without_copies
from fer_bench.comparison.member import Member, known_columns, read_run
from fer_bench.comparison.result import (
    COLUMNS,
    Comparison,
    LeftOut,
)
from fer_bench.errors import RunError
from fer_bench.runs.directory import RunDirectory, list_runs


def collect(
    outputs: Path | Sequence[RunDirectory],
    split: str = "test",
    where: str | None = None,
    sort: str = "accuracy",
    pairs: Pairs = "auto",
    only: Collection[str] | None = None,
) -> Comparison:
    """Read every run below `outputs` and compare those that are comparable.

    A run that is unfinished, was not evaluated or cannot be read is left out, with the reason; it
    never stops the others. A copy of another run is left out, too, as it would count twice.

    Args:
        outputs: the folder of the runs, or the runs themselves, from any folders.
        split: the evaluation: a split, or `test+flip`, `test@fer2013`.
        where: a condition in the language of `filter`; runs for which it does not hold are neither
            tested nor listed. A run that is left out has no metrics, and is listed if the condition
            holds for what else is known of it.
        sort: the column or metric that the runs of a group are sorted by.
        pairs: which pairs are tested; with `auto`, all in a group of up to 15 runs, and those with
            the best run in a larger one.
        only: the ids of the runs to compare, as far as they exist; None for all.

    Raises:
        RunError: the folder is missing or holds no such runs, or `where` chooses none of them.
        ConfigError: `where` or `sort` cannot be understood.
    """
    check_sort(sort, COLUMNS)
    chosen = parse_where(where, COLUMNS) if where else None
    directories = _directories(outputs, only)
    called = Counter(directory.run_id for directory in directories)
    found = [
        _read(
            directory,
            directory.run_id if called[directory.run_id] == 1 else str(directory.path),
            split,
            chosen,
        )
        for directory in directories
    ]
    members = [one for one in found if isinstance(one, Member)]
    not_chosen = found.count(None)
    if not_chosen and not members:
        raise RunError(
            f"--where {where}: chooses none of the {not_chosen} runs"
            f"{f' below {outputs}' if isinstance(outputs, Path) else ''}.\n"
            "Without --where, all of them are shown, with the columns to choose by."
        )
    runs, copies = without_copies(members)
    groups = order_groups(build_group(group, split, pairs, sort) for group in group_members(runs))
    return Comparison(
        split=split,
        groups=tuple(groups),
        left_out=(*(one for one in found if isinstance(one, LeftOut)), *copies),
        not_comparable=tuple(not_comparable(groups)),
        where=where,
        not_chosen=not_chosen,
        sort=sort,
    )


def _directories(
    outputs: Path | Sequence[RunDirectory], only: Collection[str] | None
) -> list[RunDirectory]:
    found = list_runs(outputs) if isinstance(outputs, Path) else outputs
    directories = [run for run in found if only is None or run.run_id in only]
    if not directories:
        these = "runs" if only is None else "such runs"
        raise RunError(
            f"{outputs}: holds no {these} (no */run.json was found).\n"
            "Give the folder that contains your runs, or train one first."
        )
    return directories


def _read(
    directory: RunDirectory, called: str, evaluation: str, chosen: Condition | None
) -> Member | LeftOut | None:
    """One run under the name `called`; None where the condition `chosen` does not hold for it."""
    try:
        member = read_run(directory, evaluation, chosen)
    except RunError as error:
        if chosen and not _may_hold(chosen, directory):
            return None
        return LeftOut(called, str(error).splitlines()[0])
    return member and replace(member, row=replace(member.row, run_id=called))


def _may_hold(chosen: Condition, directory: RunDirectory) -> bool:
    """Whether a condition holds for what is known of a run that cannot be compared."""
    try:
        return chosen(known_columns(directory))
    except RunError:
        return True
