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
from fer_bench.comparison.member import Member, read_run
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

    A run that is unfinished, has no such evaluation or cannot be read is left out, with the
    reason; it never stops the others. So is a copy of another run, which would count twice.

    Args:
        outputs: the folder of the runs, or the runs themselves, from wherever.
        split: the evaluation: a split, or `test+flip`, `test@fer2013`.
        where: a condition in the language of `where`; runs for which it doesn't hold take no part,
            not in the tests either.
        sort: the column or metric that the runs of a group are sorted by.
        pairs: which pairs are tested; `auto`: all in a group of up to 15 runs, else those with
            the best.
        only: the ids of the runs that take part, as far as they are there; None: all.

    Raises:
        RunError: the folder is missing or holds no such runs, or none that `where` chooses.
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
            "Without --where, all of them are shown with what can be asked for."
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
            "Give the folder that holds your runs, or train one first."
        )
    return directories


def _read(
    directory: RunDirectory, called: str, evaluation: str, chosen: Condition | None
) -> Member | LeftOut | None:
    """A run under the name by which it is told from the others."""
    try:
        member = read_run(directory, evaluation, chosen)
    except RunError as error:
        return LeftOut(called, str(error).splitlines()[0])
    return member and replace(member, row=replace(member.row, run_id=called))
