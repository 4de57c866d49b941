"""Tables for papers: a comparison as Markdown and as LaTeX (booktabs)."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fer_bench.comparison import Comparison, Group, Row
from fer_bench.comparison.pairs import PAIR_RESAMPLES
from fer_bench.metrics.document import interval_method
from fer_bench.report.comparison import (
    LETTERS,
    TESTS,
    write_caveat,
    write_published,
    write_reasons,
    write_smallest,
    write_verdict,
)
from fer_bench.report.wording import (
    LABELS,
    MISSING,
    write_cell,
    write_count,
    write_difference,
    write_heading,
    write_label,
    write_methods,
    write_p,
    write_spread,
)
from fer_bench.spelling import visible

_Rows = list[list[str]]


# Markdown --------------------------------------------------------------------------------------


def markdown(comparison: Comparison) -> str:
    """All groups as Markdown tables with explanations; ends with a line break."""
    parts = []
    for number, group in enumerate(comparison.groups, start=1):
        parts += [f"### {number}. {_plain(_title(group, comparison))}", *_markdown_group(group)]
    reasons = [f"- {_plain(line)}." for line in write_reasons(comparison)]
    left_out = [
        # Without the advice, which follows the first semicolon.
        f"- {_plain(run.run_id)}: {_plain(run.reason.partition(';')[0])}"
        for run in comparison.left_out
    ]
    for heading, lines in (("Not comparable", reasons), ("Left out", left_out)):
        if lines:
            parts += [f"### {heading}", "\n".join(lines)]
    return visible("\n\n".join(parts) + "\n")


def _markdown_group(group: Group) -> list[str]:
    names = _labels(group.runs)
    kinds = [name for kind in group.kinds for name in kind]
    parts = [
        _pipes(
            ["run", "backbone", "weights", "size", "parameters", *map(write_heading, kinds)],
            [
                [_plain(f"{names[row.run_id]}{_chosen(row)}"), *map(_plain, _about(row))]
                + [_lettered(row, name, "<sup>", "</sup>") for name in kinds]
                for row in group.runs
            ],
            numbers=len(kinds) + 2,
        ),
        _plain(_caption(group)),
    ]
    if group.seeds:
        parts.append(_pipes(*_seeds(group, kinds), numbers=len(kinds) + 1))
    if group.experiments:
        rows = [
            [
                _plain(f"{pair.a} - {pair.b}"),
                LABELS[pair.metric],
                write_difference(pair.metric, pair.difference, pair.low, pair.high),
                _plain(write_p(pair.p_holm)),
            ]
            for pair in group.experiments
        ]
        head = ["difference over seeds", "metric", "points", "p, Holm"]
        parts.append(_pipes(head, rows, numbers=2))
    if group.published:
        rows = [
            [
                _plain(entry["name"]),
                _plain(f"{entry['source']}: {write_label(entry['metric'])}"),
                *write_published(entry),
                _plain(
                    "; ".join(filter(None, (write_verdict(entry), write_caveat(entry)))) or MISSING
                ),
            ]
            for entry in group.published
        ]
        parts.append(_pipes(["experiment", "published", "theirs", "ours", "ours is"], rows))
    return parts


def _pipes(head: Sequence[str], rows: _Rows, numbers: int = 0) -> str:
    """A Markdown table; the last `numbers` columns are aligned to the right."""
    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _plain(text: str) -> str:
    """Text with all Markdown markup escaped."""
    return re.sub(r"([\\`*_\[\]<>|~#$&])", r"\\\1", " ".join(text.split()))


# LaTeX -----------------------------------------------------------------------------------------

_ESCAPES = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
}


def latex(comparison: Comparison) -> str:
    r"""All groups as `table` environments, for a document that loads the package `booktabs`."""
    parts = [r"% needs \usepackage{booktabs}"]
    for number, group in enumerate(comparison.groups, start=1):
        parts += _latex_group(group, comparison, number)
    for entry in comparison.not_comparable:
        first, second = (position + 1 for position in entry.groups)
        parts.append(f"% tables {first} and {second}: {entry.reason}")
    return visible("\n".join(parts) + "\n")


def _latex_group(group: Group, comparison: Comparison, number: int) -> list[str]:
    names = _labels(group.runs)
    kinds = [name for kind in group.kinds for name in kind]
    rows = [
        [_tex(f"{names[row.run_id]}{_chosen(row)}"), _tex(write_count(row.parameters))]
        + [_lettered(row, name, r"\textsuperscript{", "}") for name in kinds]
        for row in group.runs
    ]
    title = f"{_title(group, comparison)}. {_caption(group)}"
    head = ["run", "parameters", *map(write_heading, kinds)]
    parts = _tabular(head, rows, title, f"tab:fer-{number}")
    if group.seeds:
        head, rows = _seeds(group, kinds, escape=_tex)
        title = f"{_title(group, comparison)}: mean ± standard deviation over seeds."
        parts += _tabular(head, rows, title, f"tab:fer-{number}-seeds")
    return parts


def _tabular(head: Sequence[str], rows: _Rows, caption: str, label: str) -> list[str]:
    return [
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{_tex(caption)}}}",
        f"\\label{{{label}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        " & ".join(map(_tex, head)) + r" \\",
        r"\midrule",
        *(f"{_guarded(' & '.join(cells))} \\\\" for cells in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def _guarded(row: str) -> str:
    """A row whose first bracket does not become an argument of the line break before it."""
    return "{}" + row if row.startswith("[") else row


def _tex(text: str) -> str:
    """Text with all LaTeX commands escaped."""
    return "".join(_ESCAPES.get(character, character) for character in " ".join(text.split()))


# Shared by both --------------------------------------------------------------------------------


def _title(group: Group, comparison: Comparison) -> str:
    dataset = group.runs[0].dataset or "unnamed dataset"
    protocol = f"{dataset}, {comparison.split}, n = {group.n:,}"
    return protocol + (", models chosen on test" if group.selection == "test_split" else "")


def _caption(group: Group) -> str:
    """What the numbers are, how they were tested, and how small a difference can be shown."""
    resamples = sorted({row.resamples for row in group.runs if row.resamples})
    methods = {name: interval_method(name) for kind in group.kinds for name in kind}
    made = [write_methods(methods)]
    if resamples:
        made.append(f"{' or '.join(f'{number:,}' for number in resamples)} resamples")
    sentences = [f"Brackets: 95% interval ({', '.join(filter(None, made))})."]
    if group.pairs:
        tests = ", ".join(TESTS[kind] for kind in group.kinds)
        which = "All pairs" if group.pairs_with == "all" else "Pairs with the best run"
        sentences.append(
            f"{which} tested on the same images: {tests} ({PAIR_RESAMPLES:,} resamples)."
        )
        sentences += [LETTERS[group.pairs_with]] if any(row.letter for row in group.runs) else []
    if group.smallest_difference is not None:
        sentences.append(write_smallest(group.smallest_difference))
    return " ".join([*sentences, *group.remarks])


def _labels(rows: Sequence[Row]) -> dict[str, str]:
    """For each run id the shortest unique name: the name, with its seed, or the whole id."""
    names = Counter(row.name for row in rows)
    seeded = Counter((row.name, row.seed) for row in rows)
    labels = {}
    for row in rows:
        unique = seeded[row.name, row.seed] == 1 and row.seed is not None
        longer = f"{row.name}, seed {row.seed}" if unique else row.run_id
        labels[row.run_id] = row.name if names[row.name] == 1 else longer
    return labels


def _chosen(row: Row) -> str:
    return {"test_split": " (chosen on test)", "unknown": " (selection unknown)"}.get(
        row.selection, ""
    )


def _about(row: Row) -> list[str]:
    size = None if row.image_size is None else str(row.image_size)
    return [text or MISSING for text in (row.backbone, row.weights, size)] + [
        write_count(row.parameters)
    ]


def _lettered(row: Row, metric: str, before: str, after: str) -> str:
    """A value with its interval; accuracy also with its letters as a superscript."""
    cell = write_cell(metric, row.metrics.get(metric))
    marked = metric == "accuracy" and row.letter
    return f"{cell}{before}{row.letter}{after}" if marked else cell


def _seeds(group: Group, metrics: Sequence[str], escape: Any = _plain) -> tuple[list[str], _Rows]:
    """Headings and rows of the table of experiments with several seeds."""
    rows = [
        [escape(entry.name), str(len(entry.seeds))]
        + [
            escape(write_spread(name, cell["mean"], cell["sd"])) if cell else MISSING
            for name in metrics
            for cell in [entry.metrics.get(name)]
        ]
        for entry in group.seeds
    ]
    return ["experiment", "seeds", *map(write_heading, metrics)], rows
