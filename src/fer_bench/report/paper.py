"""Tables for papers: a comparison as Markdown and as LaTeX (booktabs).

What marks, letters and verdicts are called stands here too, for every table of a comparison.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fer_bench.comparison import CONCORDANCE, EXPRESSION_METRICS, Comparison, Group, Row
from fer_bench.comparison.pairs import PAIR_RESAMPLES
from fer_bench.metrics.document import interval_method
from fer_bench.metrics.intervals import ALPHA
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

# By what chose the model, beside the run's name.
MARKS = {"test_split": "†", "unknown": "‡"}
MEANINGS = {
    "†": "chosen on test: the test images chose this model, so that its score on them is too high",
    "‡": "how the model was chosen is not known",
}
LETTERS = {
    "all": "Runs that share a letter cannot be told apart by accuracy "
    f"(Holm-adjusted p ≥ {ALPHA}).",
    "best": f"a: cannot be told apart from the best by accuracy (Holm-adjusted p ≥ {ALPHA}).",
}
_TESTS = {
    EXPRESSION_METRICS: "accuracy by exact McNemar tests, macro F1 by a paired bootstrap",
    CONCORDANCE: "CCC by a paired bootstrap",
}
_Rows = list[list[str]]


def write_smallest(difference: float) -> str:
    """What a test set can show of two accuracies."""
    return (
        f"To be told apart on these images, two such models must differ by about "
        f"{100 * difference:.2f} points of accuracy (at 80% power; by less where they fail on the "
        "same images)."
    )


def write_published(entry: Mapping[str, Any]) -> tuple[str, str]:
    """A published value with its interval, and ours: percent for shares, plain otherwise."""
    share = entry.get("ours") is not None and entry["value"] is not None and entry["value"] <= 1
    in_percent = share or entry.get("low") is not None

    def shown(value: float | None) -> str:
        if value is None:
            return MISSING
        # What cannot be compared stays as it was printed, without digits that nobody reported.
        return f"{100 * value:.2f}" if in_percent else f"{value:.5g}"

    theirs = shown(entry["value"])
    if entry.get("low") is not None:
        theirs += f" [{shown(entry['low'])}, {shown(entry['high'])}]"
    return theirs, shown(entry.get("ours"))


def write_verdict(entry: Mapping[str, Any]) -> str:
    """What ours is beside a published value, and why; empty where nothing is said."""
    return ": ".join(filter(None, (entry.get("verdict"), entry.get("reason"))))


def write_caveat(entry: Mapping[str, Any]) -> str:
    """Of how many images a published value is, and what keeps it from being comparable."""
    n, caveat = entry.get("n"), entry["caveat"] or ""
    size = f"n = {n:,}" if n and not caveat.startswith((f"{n} ", f"{n:,} ")) else None
    return "; ".join(filter(None, (size, caveat)))


def pairs_apart(comparison: Comparison) -> dict[str, list[str]]:
    """By what keeps groups apart, the pairs of groups, counted from 1: `1 and 2`."""
    found: dict[str, list[str]] = {}
    for entry in comparison.not_comparable:
        first, second = (place + 1 for place in entry.groups)
        found.setdefault(entry.reason, []).append(f"{first} and {second}")
    return found


def write_reasons(comparison: Comparison) -> list[str]:
    """What keeps groups apart: each reason once, with the pairs of groups."""
    found = pairs_apart(comparison)
    return [f"Groups {'; '.join(pairs)}: {reason}" for reason, pairs in found.items()]


# Markdown --------------------------------------------------------------------------------------


def markdown(comparison: Comparison) -> str:
    """All groups as Markdown tables, with what they mean; ends with a line break."""
    parts = []
    for number, group in enumerate(comparison.groups, start=1):
        parts += [f"### {number}. {_plain(_title(group, comparison))}", *_markdown_group(group)]
    reasons = [f"- {_plain(line)}." for line in write_reasons(comparison)]
    left_out = [
        # Without what to do about it, which follows the first semicolon.
        f"- {_plain(run.run_id)}: {_plain(run.reason.partition(';')[0])}"
        for run in comparison.left_out
    ]
    for heading, lines in (("Not comparable", reasons), ("Left out", left_out)):
        if lines:
            parts += [f"### {heading}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


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
                _plain("; ".join(filter(None, said)) or MISSING),
            ]
            for entry in group.published
            for said in [(write_verdict(entry), write_caveat(entry))]
        ]
        parts.append(_pipes(["experiment", "published", "theirs", "ours", "ours is"], rows))
    return parts


def _pipes(head: Sequence[str], rows: _Rows, numbers: int = 0) -> str:
    """A Markdown table; its last columns, as many as `numbers`, stand to the right."""
    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _plain(text: str) -> str:
    """Text in which Markdown sees no markup."""
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
    r"""All groups as `table` environments; a document needs `\usepackage{booktabs}`."""
    parts = [r"% needs \usepackage{booktabs}"]
    for number, group in enumerate(comparison.groups, start=1):
        parts += _latex_group(group, comparison, number)
    for entry in comparison.not_comparable:
        first, second = (position + 1 for position in entry.groups)
        parts.append(f"% tables {first} and {second}: {entry.reason}")
    return "\n".join(parts) + "\n"


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
    """A row that begins with a bracket, which the line break before it would take for its own."""
    return "{}" + row if row.startswith("[") else row


def _tex(text: str) -> str:
    """Text in which LaTeX sees no command."""
    return "".join(_ESCAPES.get(character, character) for character in " ".join(text.split()))


# What both say ---------------------------------------------------------------------------------


def _title(group: Group, comparison: Comparison) -> str:
    dataset = group.runs[0].dataset or "unnamed dataset"
    protocol = f"{dataset}, {comparison.split}, n = {group.n:,}"
    return protocol + (", models chosen on test" if group.selection == "test_split" else "")


def _caption(group: Group) -> str:
    """What the numbers are, how they were tested, and what they cannot show."""
    resamples = sorted({row.resamples for row in group.runs if row.resamples})
    methods = {name: interval_method(name) for kind in group.kinds for name in kind}
    made = [write_methods(methods)]
    if resamples:
        made.append(f"{' or '.join(f'{number:,}' for number in resamples)} resamples")
    said = [f"Brackets: 95% interval ({', '.join(filter(None, made))})."]
    if group.pairs:
        tests = ", ".join(_TESTS[kind] for kind in group.kinds)
        which = "All pairs" if group.pairs_with == "all" else "Pairs with the best run"
        said.append(f"{which} tested on the same images: {tests} ({PAIR_RESAMPLES:,} resamples).")
        said += [LETTERS[group.pairs_with]] if any(row.letter for row in group.runs) else []
    if group.smallest_difference is not None:
        said.append(write_smallest(group.smallest_difference))
    return " ".join([*said, *group.remarks])


def _labels(rows: Sequence[Row]) -> dict[str, str]:
    """By run id, the shortest name that is the run's alone: with its seed, or its whole id."""
    names = Counter(row.name for row in rows)
    seeded = Counter((row.name, row.seed) for row in rows)
    labels = {}
    for row in rows:
        alone = seeded[row.name, row.seed] == 1 and row.seed is not None
        several = f"{row.name}, seed {row.seed}" if alone else row.run_id
        labels[row.run_id] = row.name if names[row.name] == 1 else several
    return labels


def _chosen(row: Row) -> str:
    said = {"test_split": " (chosen on test)", "unknown": " (choice unknown)"}
    return said.get(row.selection, "")


def _about(row: Row) -> list[str]:
    size = None if row.image_size is None else str(row.image_size)
    return [text or MISSING for text in (row.backbone, row.weights, size)] + [
        write_count(row.parameters)
    ]


def _lettered(row: Row, metric: str, before: str, after: str) -> str:
    """A value with its interval and, of the accuracy, its letters as superscript."""
    cell = write_cell(metric, row.metrics.get(metric))
    marked = metric == "accuracy" and row.letter
    return f"{cell}{before}{row.letter}{after}" if marked else cell


def _seeds(group: Group, metrics: Sequence[str], escape: Any = _plain) -> tuple[list[str], _Rows]:
    """Head and rows of the table of experiments with several seeds."""
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
