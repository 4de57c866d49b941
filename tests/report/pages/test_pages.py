"""HTML pages: self-contained, escaped, and complete for whatever a run has so far."""

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import filled
import numpy as np
import pytest
from messages import says
from tiers import some_fast
from typer.testing import CliRunner

from fer_bench.cli import app
from fer_bench.comparison import Comparison, Group, LeftOut, Pair, Row, Seeds
from fer_bench.comparison.letters import letters
from fer_bench.comparison.member import Member
from fer_bench.metrics.document import compute
from fer_bench.metrics.predictions import Expression, Predictions, ValenceArousal
from fer_bench.report.pages import comparison_page, write_comparison, write_run_report
from fer_bench.report.pages.comparison import pareto_front
from fer_bench.report.pages.evaluation import CHOSEN_ON_TEST
from fer_bench.report.pages.probabilities import roc_curve
from fer_bench.runs.directory import RunDirectory

HISTORY = """\
epoch,stage,learning_rate,loss,accuracy,val_loss,val_accuracy,val_macro_f1,images_per_second,seconds
1,head,0.001,1.9,0.3,1.8,0.31,0.2,100,5
2,all,0.0001,1.5,0.4,1.6,0.38,0.3,90,6
"""


class Balanced(HTMLParser):
    """Fails on mismatched tags, pictures without a text and incomplete table headers."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.header = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        attributes = dict(attrs)
        if tag == "img":
            self.texts.append(attributes["alt"])
        if tag == "svg" and "aria-hidden" not in attributes:
            self.texts.append(attributes["aria-label"])
        if tag == "th":
            assert attributes.get("scope") in ("row", "col")
            self.header = ""
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "th":
            assert self.header.strip()

    def handle_data(self, data: str) -> None:
        self.header += data


def check_page(page: str) -> list[str]:
    """Checks the page; returns the text alternatives of its pictures."""
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    for address in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert address.startswith(("data:image/png;base64,", "#"))
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert all(len(text) > 20 for text in parser.texts)
    return parser.texts


def text_of(page: str) -> str:
    """The visible text of a page, with single spaces."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.replace("<wbr>", "")).split())


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A trained run that is not yet evaluated."""
    directory = RunDirectory(tmp_path / "cnn-s1-unhashed")
    directory.path.mkdir()
    record = {
        "run_id": directory.run_id,
        "status": "finished",
        "seed": 1,
        "dataset": {"name": "<script>alert(1)</script>", "release": "v1"},
        "model": {
            "backbone": "cnn_slides",
            "parameters": 1_234_567,
            "trainable_parameters": [1000, 2000],
            "first_trainable_layer": ["logits", None],
        },
        "best": {"epoch": 2, "metric": "val_macro_f1", "value": 0.3},
        "seconds": 11.0,
        "images_per_second": 95.0,
        "versions": {"keras": "3.15.1"},
    }
    directory.run_json.write_text(json.dumps(record))
    directory.history.write_text(HISTORY)
    directory.config.write_text("seed: 1\n")
    return directory


CLASSES = ("neutral", "happiness", "anger")


def evaluate(run: RunDirectory, split: str) -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(3), size=30)
    labels = np.arange(30) % 3
    predictions = Predictions(
        sample_ids=tuple(map(str, range(30))),
        label_names=np.array(CLASSES)[labels],
        expression=Expression(CLASSES, labels, probabilities.argmax(axis=1), probabilities),
    )
    write_metrics(run, split, predictions)


def write_metrics(run: RunDirectory, split: str, predictions: Predictions) -> None:
    run.metrics(split).parent.mkdir(exist_ok=True)
    run.metrics(split).write_text(json.dumps(compute(predictions, resamples=20)))


def test_report_of_an_evaluated_run(run: RunDirectory) -> None:
    evaluate(run, "validation")
    evaluate(run, "test")
    assert write_run_report(run) == run.report
    page = run.report.read_text()
    texts = check_page(page)
    assert page.index("Results on test, n = 30") < page.index("Results on validation, n = 30")
    for expected in ("1,234,567", "1,000 → 2,000", "logits → None", "val_macro_f1 = 0.3", "11 s"):
        assert expected in page
    assert "&lt;script&gt;" in page
    assert page.count("<script>") == 1  # ours, which sorts tables
    assert "predictions/test.csv is missing" in page
    assert any(text.startswith("Loss by epoch: training from 1.9 to 1.5") for text in texts)
    assert any(text.startswith("Recall of each class") for text in texts)
    assert {path.name for path in run.figures.iterdir()} == {
        *("learning_curves.png", "confusion_matrix_test.png", "confusion_matrix_validation.png")
    }


def test_the_page_names_the_method_of_each_interval(run: RunDirectory) -> None:
    """From the metrics file, whatever the version that wrote it."""
    evaluate(run, "test")
    write_run_report(run)
    text = html.unescape(text_of(run.report.read_text()))
    assert (
        "95%; Wilson for accuracy, weighted recall, top-2 accuracy and micro recall (p > 0.5); "
        "class-stratified percentile bootstrap for the others; by class:" in text
    )
    says(text, "20 resamples", "seed 0")
    document = json.loads(run.metrics("test").read_text())
    document["interval"]["methods"] = {"accuracy": "jackknife"}
    run.metrics("test").write_text(json.dumps(document))
    write_run_report(run)
    text = text_of(run.report.read_text())
    assert "95%; jackknife; 20 resamples" in text
    assert "Wilson" not in text


@pytest.mark.slow
def test_a_figure_is_redrawn_only_for_new_numbers(run: RunDirectory) -> None:
    evaluate(run, "test")
    run.corruptions("test").parent.mkdir()
    run.corruptions("test").write_text(json.dumps(filled.robustness()))
    write_run_report(run)
    assert (run.figures / "robustness_test.png").stat().st_size > 10_000
    path = run.figures / "confusion_matrix_test.png"
    drawn = path.stat().st_mtime_ns
    write_run_report(run)
    assert path.stat().st_mtime_ns == drawn
    evaluate(run, "test")
    write_run_report(run)
    assert path.stat().st_mtime_ns > drawn


@pytest.fixture(scope="module")
def filled_run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with everything that a page can show. Tests change only its page."""
    return filled.write_run(tmp_path_factory.mktemp("outputs") / "filled-s1-unhashed")


def test_everything_of_a_run_is_shown(filled_run: RunDirectory) -> None:
    page = write_run_report(filled_run).read_text()
    texts = check_page(page)
    read = text_of(page)
    assert len(page) < 1_500_000
    assert filled.HOSTILE not in page
    for expected in (
        "without copies: ",
        "the 338 images without a known copy",
        "dataset fingerprint abababababababab",
        "class rule mask_logits",
        "THE TEST SPLIT, by val_macro_f1",
        "contaminated: &lt;script&gt;",
        "Temperature 0.700, fitted on validation (n = 700)",
        "accuracy: worst for unsure; best minus worst 5.00 [3.00, 7.00] points",
        "fewer than 20 images: 70+ (n = 7).",
        "Accuracy 66.00 [64.00, 68.00]% on clean images, 45.00 [43.00, 47.00]% on average",
        "eyes 25.00 [23.00, 27.00]",
        "1 Grad-CAM sheet with faces, in explanations/test/",
        "Results on test+flip, n = 350: accuracy",
        "two: the image and its mirror image",
        "happiness 6,493 722 895",
        "seed: 1 selection: test_split",
        "concordance (CCC)",
        "macro recall",
    ):
        assert expected in read
    assert read.count(CHOSEN_ON_TEST) == 2
    for expected in (
        "Accuracy from the mildest to the strongest blur: defocus blur 52% to 32%",
        "Accuracy and macro F1 by gender. Accuracy: female (n = 200) 66.00 [64.00, 68.00]%",
        "Images per class: train 25,836 (neutral 4,468",
        "Predicted against true valence of 350 images. CCC 0.",
        "Receiver operating characteristic of each class against the rest: neutral, AUC 0.",
        "after temperature 0.70, calibration error (15 bins)",
        "head at epoch 1, last20 at epoch 5, last45 at epoch 7, kept at epoch 17.",
    ):
        assert any(expected in text for text in texts), expected


def test_faces_are_shown_only_on_request(filled_run: RunDirectory) -> None:
    page = write_run_report(filled_run).read_text()
    assert page.count("<img") == 1  # mean maps hold no face
    assert 'class="alert">This page shows faces' not in page
    page = write_run_report(filled_run, with_images=True).read_text()
    texts = check_page(page)
    assert page.count("<img") == 2
    assert 'class="alert">This page shows faces' in page
    assert any("Layer conv_5. Mean maps of neutral (20 images)" in text for text in texts)


def test_metrics_of_other_predictions_are_not_mixed_with_them(filled_run: RunDirectory) -> None:
    path = filled_run.metrics("test+flip")
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {"fingerprint": "0" * 64}))
    page = write_run_report(filled_run).read_text()
    path.write_text(before)
    says(
        text_of(page),
        "metrics/test+flip.json",
        "predictions/test+flip.csv",
        "fer evaluate filled-s1",
    )
    assert page.count("ROC, each class against the rest") == 1


def test_an_adopted_run_is_marked(filled_run: RunDirectory, tmp_path: Path) -> None:
    run = filled.write_run(tmp_path / "theirs-s1-unhashed", images=70)
    record = {"status": "finished", "model": {"backbone": "theirs", "weights": "adopted"}}
    nothing = {"parameters": None, "trainable_parameters": None, "first_trainable_layer": None}
    record["model"] |= nothing  # type: ignore[operator]
    run.run_json.write_text(json.dumps(record | {"best": None, "images_per_second": None}))
    run.config.write_text("name: theirs\nadopted: true\n")
    document = json.loads(run.metrics("test").read_text())
    document["protocol"]["selection"] = "unknown"
    run.metrics("test").write_text(json.dumps(document))
    run.history.unlink()
    run.metrics("test+flip").unlink()
    page = write_run_report(run).read_text()
    check_page(page)
    says(text_of(page), "made elsewhere")
    assert "unknown: the model was trained elsewhere" in page
    assert "Training" not in page


@pytest.mark.parametrize("with_expression", some_fast([True, False], False))
def test_report_of_valence_and_arousal(run: RunDirectory, with_expression: bool) -> None:
    run.history.unlink()  # its figure is not tested here
    random = np.random.default_rng(0)
    true = random.uniform(-1, 1, (30, 2))
    true[:8, 1] = np.nan
    labels = np.arange(30) % 3
    predictions = Predictions(
        sample_ids=tuple(f"{number:02d}" for number in range(30)),
        label_names=np.array(["fear"] * 30),
        expression=Expression(("anger", "disgust", "fear"), labels, labels, np.eye(3)[labels])
        if with_expression
        else None,
        valence_arousal=ValenceArousal(true, np.full((30, 2), 0.25)),
    )
    write_metrics(run, "test", predictions)
    rows = [f"{i:02d},fear,{v},{a},0.25,0.25" for i, (v, a) in enumerate(true)]
    columns = "sample_id,label,valence,arousal,valence_predicted,arousal_predicted"
    run.predictions("test").parent.mkdir()
    run.predictions("test").write_text("\n".join([columns, *rows]))
    page = write_run_report(run).read_text()
    texts = check_page(page)
    assert page.index("Results on test, n = 30") < page.index("Valence and arousal")
    for label in ("concordance (CCC)", "correlation (PCC)", "error (RMSE)", "same sign (SAGR)"):
        assert label in page
    assert re.search(r"samples</th>\s*<td class=\"number\">30<.*\s*.*>22<", page)
    assert any("Predicted against true arousal of 22 images" in text for text in texts)
    assert ("macro F1" in page) == ("By class" in page) == with_expression
    names = {path.name for path in run.figures.iterdir()}
    assert "valence_arousal_test.png" in names
    assert ("confusion_matrix_test.png" in names) == with_expression
    run.predictions("test").write_text("sample_id,label,predicted,p_a,p_b\nx,a,a,1,0\n")
    page = write_run_report(run).read_text()
    says(page, run.predictions("test"), "valence", f"fer evaluate {run.run_id}")


def test_report_of_a_run_without_results(run: RunDirectory) -> None:
    run.run_json.write_text('{"status": "running"}')
    run.history.write_text(HISTORY.splitlines()[0] + "\n")
    run.config.unlink()
    page = write_run_report(run).read_text()
    check_page(page)
    says(page, "fer evaluate cnn-s1-unhashed")
    assert "Training" not in page
    run.history.unlink()
    check_page(write_run_report(run).read_text())


def test_a_damaged_history_is_explained(run: RunDirectory) -> None:
    run.history.write_text("")
    page = write_run_report(run).read_text()
    check_page(page)
    says(page, run.history, "fer train", run.run_id)


def test_a_history_that_was_cut_off_is_named(run: RunDirectory) -> None:
    run.history.write_text(run.history.read_text()[:-9])
    page = write_run_report(run).read_text()
    check_page(page)
    says(page, run.history, "last line", "Training")
    run.history.write_text(HISTORY.splitlines()[0] + "\n1,he")
    says(write_run_report(run).read_text(), run.history, "last line")


@pytest.mark.parametrize("name", ["history.csv", "corruptions/test.json", "config.yaml"])
def test_a_file_that_is_a_link_to_nothing_is_named(filled_run: RunDirectory, name: str) -> None:
    path = filled_run.path / name
    kept = path.read_bytes()
    path.unlink()
    path.symlink_to("gone")
    try:
        page = write_run_report(filled_run).read_text()
    finally:
        path.unlink()
        path.write_bytes(kept)
    check_page(page)
    says(page, path)


@pytest.mark.parametrize(
    "text",
    some_fast(["a: [", "seed: " + "9" * 5000, "<<<<<<< HEAD\na: 1\n", "- 1\n"], "a: ["),
)
def test_a_configuration_that_is_no_mapping_is_shown_and_named(
    run: RunDirectory, text: str
) -> None:
    run.config.write_text(text)
    page = write_run_report(run).read_text()
    check_page(page)
    says(page, run.config, "no mapping", "Resolved configuration")


def test_an_empty_configuration_is_named_whatever_else_is_damaged(run: RunDirectory) -> None:
    run.config.write_text("")
    says(write_run_report(run).read_text(), run.config, "is empty")
    run.history.write_text("")
    says(write_run_report(run).read_text(), run.config, "is empty", run.history)


def test_fer_report_prints_the_path_of_the_page(filled_run: RunDirectory) -> None:
    arguments = ["report", filled_run.run_id, "--outputs", str(filled_run.outputs)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.strip()) == filled_run.report
    assert filled_run.report.read_text().count("<img") == 1
    assert CliRunner().invoke(app, [*arguments, "--with-images"]).exit_code == 0
    assert filled_run.report.read_text().count("<img") == 2
    assert CliRunner().invoke(app, ["report", "none", *arguments[2:]]).exit_code == 2


def test_a_roc_curve_rises_from_corner_to_corner_around_the_same_area() -> None:
    random = np.random.default_rng(0)
    positive = random.random(2000) < 0.2
    scores = np.round(random.normal(size=2000) + positive, 2)
    points = roc_curve(scores, positive)
    false, true = np.array(points).T
    assert len(points) <= 81
    assert points[0] == (0, 0)
    assert points[-1] == (1, 1)
    assert (np.diff(false) >= 0).all()
    assert (np.diff(true) >= 0).all()
    above = scores[positive][:, None] - scores[~positive]
    assert np.trapezoid(true, false) == pytest.approx((np.sign(above) / 2 + 0.5).mean(), abs=0.005)


# Comparison ------------------------------------------------------------------------------------


def comparison(pairs: int) -> Comparison:
    cell = {"value": 0.9, "low": 0.88, "high": 0.92}
    facts = (
        "finished",
        None,
        "cnn",
        "none",
        10,
        48,
        None,
        30,
        {"accuracy": cell, "macro_f1": cell},
    )
    rows = tuple(Row(f"<b>{name}", name, 1, *facts, None, None) for name in ("one", "two"))
    pair = Pair(
        rows[0].run_id, rows[1].run_id, "macro_f1", 0.0, -0.1, 0.1, 0.5, 1.0, "paired bootstrap"
    )
    published = ({"name": "one", "source": "s", "metric": "m", "value": None, "caveat": None},)
    group = Group("f" * 64, 30, rows, (pair,) * pairs, (), published, 0.02)
    return Comparison("test", (group, group), (LeftOut("late", "not <finished>"),))


def test_comparison_page(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "comparison.html"
    write_comparison(comparison(pairs=1), path)
    page = path.read_text()
    texts = check_page(page)
    assert "Runs of different groups are not comparable" in page
    assert "<b>one" not in page
    assert "not &lt;finished&gt;" in page
    assert sum("accuracy, %, with intervals: <b>one 90.00" in text for text in texts) == 2


def test_a_cost_that_all_runs_share_has_no_chart() -> None:
    full = filled.comparison()
    runs = tuple(replace(run, parameters=942_000) for run in full.groups[0].runs)
    page = comparison_page(replace(full, groups=(replace(full.groups[0], runs=runs),)))
    assert "Accuracy against images per second" in page
    assert "Accuracy against parameters" not in page


def test_a_full_comparison_shows_differences_and_what_is_not_comparable() -> None:
    page = comparison_page(filled.comparison())
    texts = check_page(page)
    read = text_of(page)
    assert filled.HOSTILE not in page
    for expected in (
        "Groups 1 and 2: not comparable: the model was chosen on the test split",
        "opencv_emotion, n = 3,589, chosen on test",
        CHOSEN_ON_TEST,
        "2.10 points of accuracy",
        "adopted-s42-0a1b2c3d ‡",
        "65.00 ± 0.40",
        "compact transfer_last20 3 and 3 accuracy +1.30 [+0.20, +2.40] 0.010 0.020",
        "compact slides val accuracy 0.6622 - - cannot be compared",
        "pisa accuracy 34.31 [29.20, 39.80] 306 65.00 better",
        "Caveat: dataset not named; split sizes not printed",
        "66.00 [64.50, 67.50]",
    ):
        assert expected in read
    assert any(
        text.startswith("Accuracy against parameters of 5 runs.")
        and text.endswith(f"compact-s42-0a1b2c3d, {filled.HOSTILE}-s42-0a1b2c3d.")
        for text in texts
    )


def test_the_recall_of_every_class_in_every_run_is_a_heat_map() -> None:
    group = filled.comparison().groups[0]
    recalls: dict[str, dict[str, float | None]] = {
        "anger": {"recall": 0.25},
        "disgust": {"recall": None},
    }
    runs = tuple(replace(run, per_class=recalls) for run in group.runs[:2])
    page = comparison_page(Comparison("test", (replace(group, runs=runs),), ()))
    check_page(page)
    table = page.split("Recall by class</h3>")[1].split("</table>")[0]
    assert table.count('style="--share: 0.250">25%') == 2
    assert table.count("<td>-</td>") == 2
    assert "Recall by class" not in comparison_page(filled.comparison())


def test_a_pairwise_test_is_shown_from_both_sides() -> None:
    page = comparison_page(filled.comparison())
    one, other = "compact-s42-0a1b2c3d", "adopted-s42-0a1b2c3d"
    assert f'title="{one} against {other}: better, p (Holm) 0.007"' in page
    assert f'title="{other} against {one}: worse, p (Holm) 0.007"' in page
    assert f'title="{one} against transfer_last20-s42-0a1b2c3d: no difference shown' in page


@pytest.mark.parametrize(
    ("p", "differs"), [(0.05, False), (1 - 0.95, False), (np.nextafter(0.05, 0), True)]
)
def test_letters_and_matrix_agree_at_the_limit(p: float, differs: bool) -> None:
    """1 - 0.95 is 0.05000000000000004: a p between the two must not be judged in two ways."""
    one = comparison(pairs=1)
    (first, second), (pair, *_) = one.groups[0].runs, one.groups[0].pairs
    pair = replace(pair, metric="accuracy", difference=0.1, p_holm=p)
    group = replace(one.groups[0], pairs=(pair,))
    page = comparison_page(Comparison("test", (group,), ()))
    assert (": better, p (Holm)" in page) is differs
    predictions = Predictions(("a",), np.array(["fear"]))
    members = [Member(row, {}, predictions, "") for row in (first, second)]
    assert letters(members, [pair], "all") == (["a", "b"] if differs else ["a", "a"])


def test_comparison_page_cuts_many_pairs_with_their_number() -> None:
    assert "The first 200 of 201" in comparison_page(comparison(pairs=201))


def test_of_many_runs_all_are_in_the_table_and_some_are_drawn() -> None:
    rows = tuple(filled.row(f"run{i}", 0.7 - 0.001 * i) for i in range(300))
    group = replace(filled.comparison().groups[1], runs=rows)
    page = comparison_page(Comparison("test", (group,), ()))
    assert page.count('<td class="name">') == 300
    assert "the first 40 of 300 runs" in page
    assert len(page) < 1_500_000


def test_comparison_page_of_runs_with_different_targets() -> None:
    first, second = comparison(pairs=0).groups[0].runs
    concordance: dict[str, dict[str, float | None]] = {
        "valence_ccc": {"value": 0.5, "low": 0.25, "high": 0.75},
        "arousal_ccc": {"value": None, "low": None, "high": None},
    }
    rows = (first, replace(second, metrics=concordance))
    pair = Pair("one", "two", "valence_ccc", 0.25, -0.125, 0.5, 0.5, 1.0, "paired bootstrap")
    seeds = Seeds("two", ("a", "b"), (1, 2), {"valence_ccc": {"mean": 0.5, "sd": 0.25}})
    group = Group("f" * 64, 30, rows, (pair,), (seeds,), (), 0.02)
    only = replace(group, runs=rows[1:], half_width=None)
    page = comparison_page(Comparison("test", (group, only), ()))
    check_page(page)
    for expected in ("90.00 [88.00, 92.00]", "0.500 [0.250, 0.750]", "0.500 ± 0.250"):
        assert expected in page
    assert "+0.250 [-0.125, +0.500]" in page
    both, alone = page.split("<h2")[1:]
    assert both.count('<th scope="col" class="number">valence CCC') == 2
    assert both.count('<figure class="chart">') == 2
    assert alone.count('<figure class="chart">') == 1
    assert "accuracy, %" in both
    assert "accuracy" not in alone


def test_the_front_holds_points_that_no_other_dominates() -> None:
    points = [(1.0, 0.5), (2.0, 0.6), (2.0, 0.55), (3.0, 0.6), (4.0, 0.9), (1.0, 0.5)]
    assert pareto_front(points) == {0, 1, 4, 5}
