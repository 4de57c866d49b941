"""Many runs side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from fer_bench import comparison
from fer_bench.api.choices import one_of
from fer_bench.api.metrics import html_table
from fer_bench.api.runs import Run
from fer_bench.comparison.groups import Pairs
from fer_bench.errors import RunError
from fer_bench.report.wording import write_cell, write_heading
from fer_bench.runs.directory import RunDirectory, list_runs
from fer_bench.runs.names import check_evaluation, named_run, run_at
from fer_bench.spelling import visible

RunName = Run | str | Path


class Comparison(comparison.Comparison):
    """Runs with their intervals, in groups of comparable ones, and the tests of their differences.

    >>> import fer_bench
    >>> comparison = fer_bench.compare("outputs")
    >>> frame = comparison.to_frame()
    >>> {"run_id", "accuracy", "accuracy_low", "accuracy_high"} <= set(frame.columns)
    True
    """

    def to_html(self) -> str:
        """A self-contained page."""
        from fer_bench.report.pages import comparison_page

        return comparison_page(self)

    def to_markdown(self) -> str:
        """Tables in Markdown."""
        from fer_bench.report import paper

        return paper.markdown(self)

    def to_latex(self) -> str:
        """Tables in LaTeX."""
        from fer_bench.report import paper

        return paper.latex(self)

    def to_text(self, kind: str) -> str:
        """One of the documents of `fer compare`: `json`, `csv`, `html`, `markdown` or `latex`."""
        if kind == "json":
            return json.dumps(self.to_json(), indent=2) + "\n"
        if kind == "csv":
            return visible(self.to_frame().to_csv(index=False))
        return str(getattr(self, f"to_{kind}")())

    def __repr__(self) -> str:
        runs = sum(len(group.runs) for group in self.groups)
        return (
            f"Comparison of {runs} runs on {self.split}, in {len(self.groups)} comparable groups "
            f"({len(self.left_out)} left out)"
        )

    def _repr_html_(self) -> str:
        tables = []
        for number, group in enumerate(self.groups, start=1):
            metrics = [name for kind in group.kinds for name in kind]
            header = ["run", *map(write_heading, metrics), "letter"]
            rows = [
                [row.run_id, *(write_cell(m, row.metrics.get(m)) for m in metrics), row.letter]
                for row in group.runs
            ]
            caption = (
                f"{self.split}, group {number} of {len(self.groups)}, n = {group.n:,}; runs that "
                "share a letter cannot be distinguished by accuracy"
            )
            tables.append(html_table(caption, header, rows))
        if self.left_out:
            rows = [[one.run_id, one.reason] for one in self.left_out]
            tables.append(html_table("left out", ["run", "reason"], rows))
        return "".join(tables)


def compare(
    runs: RunName | Sequence[RunName] = "outputs",
    *,
    split: str = "test",
    where: str | None = None,
    sort: str = "accuracy",
    pairs: Pairs = "auto",
    outputs: str | Path = "outputs",
) -> Comparison:
    """Put runs side by side: intervals, paired tests, and which rows are comparable.

    >>> import fer_bench
    >>> fer_bench.compare("outputs", where="dataset=drawn").split
    'test'

    Args:
        runs: a folder of runs, a run, or several of both.
        split: the evaluation: a split, or `test+flip`, `test@other_dataset`.
        where: which of the runs, such as `dataset=rafdb and backbone~resnet or accuracy>=65%`.
        sort: the metric or other column that orders the runs.
        pairs: which pairs are tested: `all`, `best` (those with the best run), or `auto` (`all` in
            groups of up to 15 runs, else `best`).
        outputs: the folder in which the names of runs are looked up.

    Raises:
        RunError: there are no such runs.
        ConfigError: `where`, `sort` or `pairs` cannot be understood.
    """
    one_of("pairs", pairs, get_args(Pairs))
    check_evaluation(split)
    given = [runs] if isinstance(runs, Run | str | Path) else list(runs)
    paths = [run.path if isinstance(run, Run) else Path(run) for run in given]
    found = comparison.collect(_chosen(paths, Path(outputs)), split, where, sort, pairs)
    return Comparison(**vars(found))


def _chosen(paths: Sequence[Path], outputs: Path) -> Path | list[RunDirectory]:
    """A folder of runs, or the runs in several folders and of several names.

    A pattern such as `outputs/*` also names files that are no runs: they are passed over.
    """
    if len(paths) == 1 and paths[0].is_dir() and not run_at(paths[0]):
        return paths[0]
    elsewhere = paths[0].parent != Path() or not outputs.is_dir()
    if len(paths) == 1 and not paths[0].exists() and elsewhere:
        return paths[0]  # reported as missing
    found: list[RunDirectory] = []
    for path in paths:
        if path.exists() and not run_at(path):
            found += list_runs(path) if path.is_dir() else []
        else:
            found.append(named_run(outputs, str(path)))
    if not found:
        raise RunError(
            f"{', '.join(map(str, paths[:8]))}: no run, and no folder that holds runs.\n"
            "Give the folder that contains your runs, or a run by its id."
        )
    return list({run.path.resolve(): run for run in found}.values())
