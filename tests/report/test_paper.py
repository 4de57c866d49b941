"""Tables for papers: complete, escaped, and well formed."""

import re
from dataclasses import replace
from typing import Any

import pytest

from fer_bench.comparison import Comparison, Group, LeftOut, NotComparable, Pair, Row, Seeds
from fer_bench.report.paper import latex, markdown

CELL = {"value": 0.6528, "low": 0.6371, "high": 0.6682}
METRICS = ("accuracy", "macro_f1")


def row(name: str, seed: int = 1, **changes: Any) -> Row:
    facts: dict[str, Any] = dict.fromkeys(Row.__dataclass_fields__)
    facts |= {
        "run_id": f"{name}-s{seed}-unhashed",
        "name": name,
        "seed": seed,
        "dataset": "raf_db",
        "backbone": "cnn_compact",
        "parameters": 1_600_000,
        "selection": "validation",
        "letter": "ab",
        "resamples": 10_000,
        "metrics": dict.fromkeys(METRICS, CELL),
    }
    return Row(**facts | changes)


def group(*rows: Row, **changes: Any) -> Group:
    first, *_, last = (*rows, rows[0])
    pair = Pair(
        *(first.run_id, last.run_id, "accuracy", 0.01, 0.0, 0.02, 0.04, 0.04, "exact McNemar")
    )
    whole = Group("f" * 64, 3589, rows, (pair,), (), (), 0.0156, smallest_difference=0.0315)
    return replace(whole, **changes)


def comparison(*groups: Group, **changes: Any) -> Comparison:
    return replace(Comparison("test", groups, ()), **changes)


SEEDS = Seeds("cnn_a", ("a", "b"), (1, 2), {name: {"mean": 0.65, "sd": 0.0021} for name in METRICS})
ODD = row("50%_of_a&b#[x]{y}~^\\<z>|*", selection="test_split")


def test_markdown_holds_every_run_with_intervals_and_letters() -> None:
    text = markdown(comparison(group(row("cnn"), row("vgg", letter="", seed=3))))
    assert "### 1. raf\\_db, test, n = 3,589" in text
    assert "| cnn | cnn\\_compact | - | - | 1.6 M | 65.28 [63.71, 66.82]<sup>ab</sup> |" in text
    assert "| vgg | cnn\\_compact | - | - | 1.6 M | 65.28 [63.71, 66.82] |" in text
    assert text.endswith("\n")


@pytest.mark.parametrize("write", [markdown, latex])
def test_the_caption_says_what_the_numbers_are(write: Any) -> None:
    text = write(comparison(group(row("cnn"), row("vgg"))))
    for expected in ("n = 3,589", "10,000 resamples", "exact McNemar", "3.15 points", "Wilson"):
        assert expected in text


def test_every_row_of_a_markdown_table_has_as_many_cells() -> None:
    published = {
        "name": "a|b",
        "source": "x|y",
        "metric": "accuracy",
        "value": 0.5,
        "caveat": "c|d\ne",
        "reason": "?",
    }
    whole = group(ODD, row("cnn"), seeds=(SEEDS,), published=(published,))
    lines = [line for line in markdown(comparison(whole)).splitlines() if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert cells == [8] * 4 + [5] * 3 + [6] * 3


def test_without_a_verdict_only_the_caveat_is_shown() -> None:
    entry = {"name": "cnn", "source": "x", "metric": "accuracy", "value": 0.5, "caveat": "of 306"}
    silent = {**entry, "metric": "loss", "caveat": None}
    lines = markdown(comparison(group(row("cnn"), published=(entry, silent)))).splitlines()
    found = [line.split(" | ")[-1] for line in lines if line.startswith("| cnn | x")]
    assert found == ["of 306 |", "- |"]


@pytest.mark.parametrize("write", [markdown, latex])
@pytest.mark.parametrize(
    ("selection", "words"), [("test_split", "chosen on test"), ("unknown", "selection unknown")]
)
def test_the_row_says_how_a_model_was_selected(write: Any, selection: str, words: str) -> None:
    text = write(comparison(group(row("cnn", selection=selection), row("vgg"))))
    marked = [line for line in text.splitlines() if words in line]
    assert len(marked) == 1
    assert "cnn" in marked[0]


def test_latex_is_a_table_of_booktabs() -> None:
    text = latex(comparison(group(row("cnn"), row("vgg", letter=""))))
    assert r"cnn & 1.6 M & 65.28 [63.71, 66.82]\textsuperscript{ab} & 65.28" in text
    assert r"vgg & 1.6 M & 65.28 [63.71, 66.82] & 65.28 [63.71, 66.82] \\" in text
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == 1
    assert re.findall(r"\\(begin|end)\{(\w+)\}", text) == [
        ("begin", "table"),
        ("begin", "tabular"),
        ("end", "tabular"),
        ("end", "table"),
    ]


def test_latex_escapes_every_name() -> None:
    text = latex(comparison(group(ODD, row("cnn"))))
    assert (
        r"50\%\_of\_a\&b\#[x]\{y\}\textasciitilde{}\textasciicircum{}"
        r"\textbackslash{}\textless{}z\textgreater{}|*" in text
    )
    assert r"raf\_db" in text
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    body = body.replace("tab:fer-1", "")
    assert not re.search(r"(?<!\\)[%#_]", body)
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in rows] == [3, 3, 3]


def test_a_row_of_latex_never_begins_with_a_bracket() -> None:
    assert "\n{}[odd] & " in latex(comparison(group(row("[odd]"), row("cnn"))))


@pytest.mark.parametrize("write", [markdown, latex])
def test_runs_with_the_same_name_are_distinguished(write: Any) -> None:
    runs = (row("cnn", 1), row("cnn", 2), row("vgg", 1), row("vgg", 1, run_id="vgg-s1-ffffffff"))
    text = write(comparison(group(*runs)))
    for expected in ("cnn, seed 1", "cnn, seed 2", "vgg-s1-unhashed", "vgg-s1-ffffffff"):
        assert expected in text


@pytest.mark.parametrize(("write", "plus"), [(markdown, "±"), (latex, r"$\pm$")])
def test_seeds_have_a_table(write: Any, plus: str) -> None:
    text = write(comparison(group(row("cnn"), seeds=(SEEDS,))))
    assert f"65.00 {plus} 0.21" in text
    assert "cnn\\_a" in text


def test_groups_are_numbered_and_their_reason_is_given() -> None:
    apart = NotComparable((0, 1), "not comparable: different test images")
    whole = comparison(group(row("a")), group(row("b")), not_comparable=(apart,))
    assert "- Groups 1 and 2: not comparable: different test images." in markdown(whole)
    assert "% tables 1 and 2: not comparable: different test images" in latex(whole)
    assert latex(whole).count(r"\begin{table}") == 2


def test_left_out_runs_are_listed() -> None:
    left_out = (LeftOut("late_run", "no metrics for the split 'test'; compute them"),)
    text = markdown(comparison(group(row("a")), left_out=left_out))
    assert "- late\\_run: no metrics for the split 'test'\n" in text


@pytest.mark.parametrize("write", [markdown, latex])
def test_valence_and_arousal_have_columns_where_they_are_predicted(write: Any) -> None:
    axes = {"valence_ccc": CELL, "arousal_ccc": dict.fromkeys(CELL)}
    both = row("both", metrics=dict.fromkeys(METRICS, CELL) | axes)
    text = write(comparison(group(row("cnn"), both)))
    assert "valence CCC" in text
    assert "0.653 [0.637, 0.668]" in text
    assert "None" not in text
