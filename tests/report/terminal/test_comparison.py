"""A comparison on the terminal: complete, within the width, and safe with any name."""

import io
import itertools
import re
from dataclasses import replace
from typing import Any

import pytest
from messages import says
from rich.console import Console, RenderableType

from fer_bench.comparison import (
    CONCORDANCE,
    Comparison,
    ExperimentPair,
    Group,
    LeftOut,
    NotComparable,
    Pair,
    Row,
    Seeds,
)
from fer_bench.metrics.expression import METRICS
from fer_bench.report.comparison import LETTERS, MEANINGS, TESTS
from fer_bench.report.terminal.comparison import PAIRS_SHOWN, REASONS_SHOWN, comparison_tables

CELL = {"value": 0.9234, "low": 0.9133, "high": 0.9324}


def row(run_id: str, **changes: Any) -> Row:
    facts: dict[str, Any] = {
        "run_id": run_id,
        "name": run_id.split("-")[0],
        "seed": 42,
        "status": "finished",
        "dataset": "rafdb",
        "backbone": "efficientnetv2l",
        "weights": "imagenet",
        "parameters": 118_533_415,
        "image_size": 224,
        "selection_metric": "val_macro_f1",
        "n": 3068,
        "metrics": dict.fromkeys(METRICS, CELL),
        "images_per_second": 812.3,
        "seconds": 7505.0,
    }
    return Row(**facts | changes)


def comparison(pairs: int = 1, groups: int = 1) -> Comparison:
    runs = (row("rafdb_effv2l_unfreeze45-s42-1a2b3c4d"), row("[bold]odd[/bold]-s1-unhashed"))
    pair = Pair(
        *(runs[0].run_id, runs[1].run_id, "accuracy"),
        *(0.0042, -0.003, 0.011, 0.0004, 0.034),
        "exact McNemar",
    )
    group = Group(
        test_fingerprint="0123456789abcdef" * 4,
        n=3068,
        runs=runs,
        pairs=(pair,) * pairs,
        seeds=(
            Seeds(
                name="rafdb_effv2l_unfreeze45",
                run_ids=("a", "b"),
                seeds=(42, 43),
                metrics={name: {"mean": 0.92, "sd": 0.0021} for name in ("accuracy", "macro_f1")},
            ),
        ),
        published=(
            {
                "name": "rafdb_effv2l_unfreeze45",
                "source": "slides",
                "metric": "val_accuracy",
                "value": 0.6622,
                "caveat": None,
            },
        ),
        half_width=0.0095,
    )
    left_out = (LeftOut("late-s1-unhashed", "not finished (status: running)"),)
    return Comparison("test", (group,) * groups, left_out)


def shown(renderable: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    console.print(renderable)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


@pytest.mark.parametrize("width", [80, 110, 160, 200])
def test_comparison_is_complete_and_fits(width: int) -> None:
    text = shown(comparison_tables(comparison(), width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for expected in (
        "rafdb, test, n = 3068, fingerprint 01234567",
        "92.34 [91.33, 93.24]",
        "± 0.95",
        "92.00 ± 0.21",
        "not computed here",
        "0.6622",
        "#1 - #2",
        "+0.42 [-0.30, +1.10]",
        "< 0.001",
        "late-s1-unhashed",
        "[bold]odd[/bold]-s1",
    ):
        assert expected in text
    assert ("efficientnetv2l" in text) == (width >= 110)
    assert ("2 h 05 min" in text) == (width >= 200)


def test_a_wider_terminal_shows_more_of_a_run_beside_its_whole_name() -> None:
    name, end = "opencv_emotion_slides_cnn", "-s42-1acc6d2e"
    group = replace(comparison().groups[0], runs=(row(f"{name}{end}"),), pairs=())
    facts = ["backbone", "weights", "size", "parameters", "selected by", "images/s", "time"]
    counts = []
    for width in range(76, 200):
        text = shown(comparison_tables(Comparison("test", (group,), ()), width), width)
        (head,) = re.findall("^.* run .*$", text, re.MULTILINE)
        counts.append(sum(fact in head for fact in facts))
        assert all(fact in head for fact in facts[: counts[-1]])
        whole = f" {name}{end} " in text
        assert whole or (counts[-1] == 0 and re.search(rf" {name} .*\n +{end} ", text))
    assert counts == sorted(counts)
    assert set(counts) == set(range(8))


def concordance(*pairs: Pair) -> Comparison:
    """Three runs: of expressions, of both, of valence and arousal alone."""
    cell = {"value": 0.8512, "low": 0.8312, "high": 0.8702}
    axes = {"valence_ccc": cell, "arousal_ccc": dict.fromkeys(("value", "low", "high"))}
    runs = (
        row("both_of_them-s42-1a2b3c4d", metrics=dict.fromkeys(METRICS, CELL) | axes),
        row("rafdb_effv2l_unfreeze45-s42-1a2b3c4d"),
        row("valence_arousal-s42-1a2b3c4d", metrics=axes),
    )
    over_seeds = {"valence_ccc": {"mean": 0.85, "sd": 0.0021}}
    seeds = (Seeds("valence_arousal", ("a", "b"), (42, 43), over_seeds),)
    return Comparison("test", (Group("f" * 64, 3068, runs, pairs, seeds, (), 0.0095),), ())


@pytest.mark.parametrize("width", [80, 200])
def test_valence_and_arousal_have_their_own_table(width: int) -> None:
    pair = Pair(
        *("both_of_them-s42-1a2b3c4d", "valence_arousal-s42-1a2b3c4d", "valence_ccc"),
        *(0.0042, -0.003, 0.011, 0.04, 0.08),
        "paired stratified bootstrap",
    )
    text = shown(comparison_tables(concordance(pair), width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    first, second, *_ = re.split(r"# +run", text)[1:]
    assert re.findall(r"^ (\d) ", first, re.MULTILINE) == ["1", "2", "3"]
    assert [line.split()[0] for line in second.splitlines() if "0.851" in line] == ["1", "3"]
    assert re.search(r"3 +valence_arousal-s42-\w+ +- +- ", first)
    assert re.search(r"0\.851 \[0\.831, 0\.870\] +- ", second)
    assert "0.850 ± 0.002" in text
    assert "+0.004 [-0.003, +0.011]" in text
    says(text, TESTS[CONCORDANCE])


def test_a_group_without_expressions_does_not_mention_accuracy() -> None:
    group = concordance().groups[0]
    only = replace(group, runs=group.runs[2:], half_width=None)
    text = shown(comparison_tables(Comparison("test", (only,), ())), 80)
    assert "0.851 [0.831, 0.870]" in text
    assert "ccuracy" not in text


def test_groups_are_called_not_comparable() -> None:
    assert "not comparable" not in " ".join(shown(comparison_tables(comparison()), 80).split())
    reasons = [
        NotComparable((0, 1), "not comparable: different test images"),
        NotComparable((0, 2), "not comparable: different test images"),
        NotComparable((1, 2), "not comparable: different classes"),
    ]
    apart = replace(comparison(groups=3), not_comparable=tuple(reasons))
    text = shown(comparison_tables(apart), 80)
    says(text, "3 groups")
    assert "not comparable: different test images (groups 1 and 2, 1 and 3)" in text
    assert "not comparable: different classes (groups 2 and 3)" in text
    assert "3. rafdb, test, n = 3068" in text


def test_many_reasons_are_cut_with_their_number() -> None:
    pairs = itertools.combinations(range(5), 2)
    reasons = tuple(NotComparable(pair, "not comparable: different classes") for pair in pairs)
    apart = replace(comparison(groups=5), not_comparable=reasons)
    assert f"and {10 - REASONS_SHOWN} more)" in " ".join(
        shown(comparison_tables(apart), 80).split()
    )


def with_runs(group: Group, **changes: Any) -> Comparison:
    """The first run changed, with letters for both."""
    first, second = group.runs
    runs = (replace(first, letter="a", **changes), replace(second, letter="ab"))
    return Comparison("test", (replace(group, runs=runs, smallest_difference=0.0271),), ())


def test_letters_are_beside_accuracy_and_explained() -> None:
    text = shown(comparison_tables(with_runs(comparison().groups[0])), 80)
    assert re.search(r"92\.34 \[91\.33, 93\.24\] +a +92\.34", text)
    assert re.search(r"92\.34 \[91\.33, 93\.24\] +ab +92\.34", text)
    says(text, "share a letter", "p ≥ 0.05", "2.71 points")


@pytest.mark.parametrize(("selection", "mark"), [("test_split", "†"), ("unknown", "‡")])
def test_how_a_model_was_selected_is_marked(selection: str, mark: str) -> None:
    group = comparison().groups[0]
    text = " ".join(shown(comparison_tables(with_runs(group, selection=selection)), 80).split())
    says(text, f"{mark} {MEANINGS[mark]}")
    assert text.count(mark) == 2
    assert mark not in shown(comparison_tables(with_runs(group)), 80)


def test_pairs_with_the_best_run_have_their_own_heading() -> None:
    group = replace(with_runs(comparison().groups[0]).groups[0], pairs_with="best")
    text = " ".join(shown(comparison_tables(Comparison("test", (group,), ())), 80).split())
    says(text, "from the best run")
    says(text, LETTERS["best"])


@pytest.mark.parametrize(("sort", "value"), [("ece", "4.56%"), ("seed", "42"), ("seconds", "7505")])
def test_the_column_of_the_sort_is_shown(sort: str, value: str) -> None:
    group = comparison().groups[0]
    cell = {"value": 0.0456, "low": 0.04, "high": 0.05}
    first = replace(group.runs[0], metrics={**group.runs[0].metrics, "ece": cell})
    sorted_by = Comparison("test", (replace(group, runs=(first, *group.runs[1:])),), (), sort=sort)
    text = shown(comparison_tables(sorted_by, 110), 110)
    assert value in text
    assert max(map(len, text.splitlines())) <= 110


def test_a_selection_of_runs_is_pointed_out() -> None:
    text = shown(comparison_tables(replace(comparison(), where="seed=1", not_chosen=7)), 80)
    says(text, "seed=1", "7 others")


@pytest.mark.parametrize(("number", "expected"), [(250, False), (251, True)])
def test_too_many_tests_for_the_bootstrap_are_pointed_out(number: int, expected: bool) -> None:
    group = comparison().groups[0]
    pairs = (replace(group.pairs[0], metric="macro_f1"),) * number
    whole = Comparison("test", (replace(group, pairs=pairs),), ())
    text = " ".join(shown(comparison_tables(whole), 80).split())
    assert ("no bootstrap can show a difference after Holm" in text) == expected


def test_experiments_are_compared_over_their_seeds() -> None:
    pair = ExperimentPair(
        *("rafdb_effv2l_unfreeze45", "cnn", "macro_f1", 0.0142, -0.003, 0.031, 0.09, 0.18),
        *("hierarchical bootstrap (seeds x images)", (3, 3)),
    )
    group = replace(comparison().groups[0], experiments=(pair,))
    text = shown(comparison_tables(Comparison("test", (group,), ())), 80)
    assert re.search(
        r"_unfreeze45 +cnn +macro F1 +\+1\.42 \[-0\.30, \+3\.10\] +0\.090 +0\.180", text
    )
    assert "Hierarchical bootstrap over seeds and images" in text


def test_published_values_are_beside_ours_with_a_verdict() -> None:
    entry = {
        "name": "cnn",
        "source": "pisa",
        "metric": "accuracy",
        "value": 0.3791,
        "caveat": "306 images of a set",
        "n": 306,
        "low": 0.3266,
        "high": 0.4346,
        "ours": 0.3965,
        "verdict": "consistent",
        "reason": "+1.7 [-4.0, +7.2] points",
    }
    loss = {**entry, "metric": "val_loss", "value": 1.1455, "caveat": None}
    loss |= dict.fromkeys(("n", "low", "high", "ours", "reason"))
    loss["verdict"] = "cannot be compared"
    recall = {**entry, "metric": "macro_recall"}
    group = replace(comparison().groups[0], published=(entry, recall, loss))
    text = " ".join(shown(comparison_tables(Comparison("test", (group,), ()), 160), 160).split())
    ours = "37.91 [32.66, 43.46] 39.65 consistent: +1.7 [-4.0, +7.2] points"
    assert f"cnn accuracy {ours} 1 cnn macro recall {ours} 1" in text
    assert "cnn val loss 1.1455 - cannot be compared 2" in text
    assert text.count("1 pisa: 306 images of a set") == 1
    assert text.count("2 pisa ") == 1


def test_many_pairs_are_cut_with_their_number() -> None:
    text = shown(comparison_tables(comparison(pairs=PAIRS_SHOWN + 3)), 80)
    assert text.count("#1 - #2") == PAIRS_SHOWN
    assert "3 more with --json" in " ".join(text.split())


def test_optional_facts_of_a_run_may_be_missing() -> None:
    bare = row(
        "bare-s1-unhashed",
        **dict.fromkeys(("backbone", "weights", "parameters", "image_size", "selection_metric")),
        images_per_second=None,
        seconds=None,
    )
    group = Group("0" * 64, 10, (bare,), (), (), (), 0.1)
    text = shown(comparison_tables(Comparison("test", (group,), ()), 200), 200)
    assert text.count(" - ") >= 6
    assert "None" not in text
