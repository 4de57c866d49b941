"""The audit of printed tables: seven published ones, and any that a confusion matrix makes."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from messages import says
from printed_tables import CLASSES, REPORTS, SUPPORT
from sklearn.metrics import classification_report

from fer_bench.comparison.printed import (
    CELLS,
    Cell,
    PrintedTable,
    TableError,
    check,
    parse_printed,
    read_printed,
    solve,
)


def as_json(name: str) -> str:
    report = REPORTS[name]
    printed = [*report.averages[: report.printed], *[None] * (6 - report.printed)]
    cells = {cell: [float(text) for text in getattr(report, cell).split()] for cell in CELLS}
    return json.dumps(
        {
            "class_names": CLASSES,
            "support": SUPPORT,
            **cells,
            "accuracy": report.accuracy,
            "macro": dict(zip(CELLS, printed[::2], strict=True)),
            "weighted": dict(zip(CELLS, printed[1::2], strict=True)),
        }
    )


def as_text(name: str, decimals: int = 4, factor: int = 1, support: bool = True) -> str:
    """As `classification_report` prints it, as far as there are numbers."""
    report = REPORTS[name]
    columns = (report.precision, report.recall, report.f1)
    macro, weighted = report.averages[:2]
    width = max(map(len, [*CLASSES, "weighted avg"]))

    def shown(value: float | str) -> str:
        return f"{factor * float(value):>9.{decimals}f}"

    lines = [f"{'':>{width}} {'precision':>9} {'recall':>9} {'f1-score':>9} {'support':>9}", ""]
    for row, cells in enumerate(zip(CLASSES, *(line.split() for line in columns), strict=True)):
        lines.append(f"{cells[0]:>{width}} {' '.join(map(shown, cells[1:]))}")
        lines[-1] += f" {SUPPORT[row]:>9}" if support else ""
    lines += ["", f"{'accuracy':>{width}} {'':>9} {'':>9} {shown(report.accuracy)} {306:>9}"]
    lines += [f"{'macro avg':>{width}} {shown(macro)}"]
    lines += [f"{'weighted avg':>{width}} {shown(weighted)}"]
    return "\n".join(lines)


def as_csv(name: str) -> str:
    report = REPORTS[name]
    columns = (report.precision.split(), report.recall.split(), report.f1.split())
    rows = zip(CLASSES, *columns, SUPPORT, strict=True)
    body = [",".join(map(str, row)) for row in rows]
    return "\n".join(
        ["class,precision,recall,f1,support", *body, f"accuracy,,,{report.accuracy},306"]
    )


def counts(document: dict[str, Any], part: str) -> list[Any]:
    return [entry[part] for entry in document["classes"]]


# Published tables ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("write", [as_json, as_text, as_csv])
def test_the_counts_of_published_tables(name: str, write: Any) -> None:
    report = REPORTS[name]
    document = check(parse_printed(write(name)))
    assert document["n"] == 306
    assert counts(document, "true_positives") == list(report.true_positives)
    # No printed cell says how often a class without a true positive was predicted.
    both = zip(report.predicted, report.true_positives, strict=True)
    assert counts(document, "predicted") == [number if found else None for number, found in both]
    assert document["accuracy"]["correct"] == report.correct
    assert document["accuracy"]["recomputed"] == report.correct / 306
    assert document["consistent"] == (name != "t3")


@pytest.mark.parametrize("name", REPORTS)
def test_averages_follow_from_the_counts(name: str) -> None:
    report = REPORTS[name]
    document = check(parse_printed(as_json(name)))
    entries = [document[average][cell] for cell in CELLS for average in ("macro", "weighted")]
    for place, (average, entry) in enumerate(zip(report.averages, entries, strict=True)):
        assert entry["printed"] == (average if place < report.printed else None)
        assert entry["recomputed"] == pytest.approx(average, abs=5.1e-5)


def test_the_accuracy_that_cannot_be_right() -> None:
    document = check(parse_printed(as_text("t3")))
    (wrong,) = document["wrong"]
    assert (wrong["cell"], wrong["printed"]) == ("accuracy", 0.3481)
    assert wrong["recomputed"] == 105 / 306
    assert "the counts say 105/306 = 0.3431 (95% interval 0.2922 to 0.3980)" in wrong["text"]
    assert "It prints the same as macro precision." in wrong["text"]
    assert document["accuracy"]["low"] == pytest.approx(0.29218, abs=1e-5)
    assert document["accuracy"]["high"] == pytest.approx(0.39798, abs=1e-5)


def test_predictions_on_which_nothing_depends() -> None:
    document = check(parse_printed(as_json("t5")))
    assert document["notes"] == [
        "1 prediction falls on Angry, Happy, Sad or Surprise, which have no true positive: no "
        "printed cell depends on which"
    ]
    assert counts(document, "candidates") == [2, 1, 1, 2, 1, 2, 2]
    assert document["classes"][0]["ranges"]["predicted"] == [0, 1]


# Ways to print ---------------------------------------------------------------------------------


def test_percentages() -> None:
    document = check(parse_printed(as_text("t2", decimals=2, factor=100)))
    assert document["consistent"]
    assert document["accuracy"]["correct"] == 117
    assert counts(document, "true_positives") == list(REPORTS["t2"].true_positives)


def test_two_decimals_leave_several_counts() -> None:
    table = parse_printed(as_text("t2", 2))
    document = check(table)
    assert document["consistent"]
    assert max(counts(document, "candidates")) > 1
    assert document["accuracy"]["least"] <= 117 <= document["accuracy"]["most"]
    assert document["accuracy"]["low"] < 117 / 306 < document["accuracy"]["high"]
    true_positives, predicted = REPORTS["t2"].true_positives, REPORTS["t2"].predicted
    # The cells of this text were rounded twice, but none of them lands elsewhere by that.
    for found, support, right, number in zip(
        solve(table).counts, SUPPORT, true_positives, predicted, strict=True
    ):
        assert found.holds(support, right, number)


def test_supports_that_are_not_printed_are_found() -> None:
    document = check(parse_printed(as_text("t2", support=False)))
    assert counts(document, "support") == list(SUPPORT)
    assert counts(document, "predicted") == list(REPORTS["t2"].predicted)


def test_without_any_number_of_images_only_ratios_are_checked() -> None:
    text = as_text("t2", support=False).replace("306", "")
    document = check(parse_printed(text))
    assert document["n"] is None
    assert document["accuracy"]["recomputed"] is None
    assert document["consistent"]
    assert document["notes"] == ["the number of images is not printed, so accuracy is not checked"]
    assert not check(parse_printed(text.replace("0.3839", "0.4839")))["consistent"]


HAND_TYPED = """
Table 2: our model, 90 images

class 1   50%    50.00%  50%   30
class 2   50 %   50.00%  50%   30
the rest  50%    50.00%  -     30

micro avg 50 50 50 90
Accuracy  50.0
"""


def test_a_table_typed_by_hand() -> None:
    text = HAND_TYPED.replace("Table 2: our model, 90 images", "")
    table = parse_printed(text)
    assert [row.name for row in table.classes] == ["class 1", "class 2", "the rest"]
    assert [row.support for row in table.classes] == [30, 30, 30]
    assert table.classes[0].cells["precision"] == Cell("50%", 0.5, 0.005)
    assert table.classes[1].cells["recall"] == Cell("50.00%", 0.5, 0.5e-4)
    assert "f1" not in table.classes[2].cells
    assert table.accuracy == Cell("50.0", 0.5, pytest.approx(0.0005))  # type: ignore[arg-type]
    assert check(table)["consistent"]


def test_a_name_that_ends_in_a_number() -> None:
    text = "precision recall f1-score support\nclass 1 0.5 0.4 0.4444 10\nclass 2 0.5 0.6 0.5455\n"
    table = parse_printed(text)
    assert [(row.name, row.support) for row in table.classes] == [
        ("class 1", 10),
        ("class 2", None),
    ]


def test_what_pandas_writes() -> None:
    """`DataFrame(report).T.to_csv()`: supports as floats, the accuracy in every column."""
    text = (
        ",precision,recall,f1-score,support\n"
        "a,0.75,0.6,0.6666666666666666,5.0\n"
        "b,0.5,0.6666666666666666,0.5714285714285714,3.0\n"
        "accuracy,0.625,0.625,0.625,0.625\n"
        "macro avg,0.625,0.6333333333333333,0.6190476190476191,8.0\n"
    )
    document = check(parse_printed(text))
    assert (document["n"], document["accuracy"]["correct"]) == (8, 5)
    assert counts(document, "predicted") == [4, 4]
    assert document["consistent"]


# What cannot be right --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "cell", "says"),
    [
        ("0.5625", "0.5265", "Disgust precision", "printed as 0.5265; the counts say 27/48"),
        ("0.6923", "0.6723", "Disgust recall", "printed as 0.6723; the counts say 27/39"),
        ("0.6207", "0.6270", "Disgust f1", "F1 of Disgust is printed as 0.6270; the counts say"),
        ("      39", "      38", "Disgust support", "support of Disgust is printed as 38"),
        ("0.3839", "0.3893", "macro precision", "printed as 0.3893; the counts say 0.3839"),
        ("0.3824", "0.3823", "accuracy", "It is cut off there, not rounded."),
    ],
)
def test_one_wrong_cell_is_named(old: str, new: str, cell: str, says: str) -> None:
    document = check(parse_printed(as_text("t2").replace(old, new, 1)))
    assert [entry["cell"] for entry in document["wrong"]] == [cell]
    assert says in document["wrong"][0]["text"]
    assert counts(document, "predicted") == list(REPORTS["t2"].predicted)


def test_two_wrong_cells_in_a_row_are_found_through_the_other_rows() -> None:
    text = as_text("t2").replace("0.5625", "0.5655").replace("0.6207", "0.6277")
    document = check(parse_printed(text))
    assert [entry["cell"] for entry in document["wrong"]] == ["Disgust precision", "Disgust f1"]
    assert document["classes"][1]["candidates"] == 0
    assert document["classes"][1]["predicted"] == 48


def test_a_total_that_is_not_the_sum_of_its_classes() -> None:
    document = check(parse_printed(as_text("t2").replace("306", "316")))
    assert [entry["cell"] for entry in document["wrong"]] == ["support"]
    assert (document["wrong"][0]["printed"], document["n"]) == (316, 306)


def test_more_predictions_than_images() -> None:
    """With an accuracy these are all classes; without, images of others may be predicted as one."""
    text = "\n".join(f"{name} 0.2500 0.5000 0.3333 10" for name in "abc")
    (wrong,) = check(parse_printed(f"{text}\naccuracy 0.5000"))["wrong"]
    assert wrong["text"].startswith(
        "the rows need at least 60 predictions, and there are 30 images"
    )
    document = check(parse_printed(text))
    assert document["consistent"]
    assert document["accuracy"]["total"] is None
    note = "at least 30 of the 60 predictions are of images of other classes"
    assert document["notes"] == [note]


def test_predictions_of_a_class_that_is_not_printed() -> None:
    text = "a 1.0000 0.5000 0.6667 10\nb 1.0000 0.5000 0.6667 10\n"
    document = check(parse_printed(text))
    assert document["consistent"]
    assert document["notes"] == ["at least 10 of 20 predictions fell in no printed class"]


# What was printed in other ways ----------------------------------------------------------------

REPORT = """\
              precision    recall  f1-score   support

       angry       0.64      0.61      0.62        95
     disgust       0.22      0.91      0.36        11
        fear       0.70      0.73      0.71       102
       happy       0.85      0.67      0.75       177
         sad       0.68      0.71      0.69       124
    surprise       0.61      0.65      0.63        83
     neutral       0.75      0.72      0.73       123

    accuracy                           0.69       715
   macro avg       0.64      0.71      0.64       715
weighted avg       0.72      0.69      0.69       715
"""
WARNING = """\
/usr/lib/sklearn/metrics/_classification.py:1318: UndefinedMetricWarning: Precision is ill-defined \
and being set to 0.0 in labels with no predicted samples. Use `zero_division` parameter to control \
this behavior.
  _warn_prf(average, modifier, msg_start, len(result))
"""
PROGRESS = (
    "23/23 \u2501\u2501\u2501 12s 7ms/step - accuracy: 0.68 - precision: 0.61 - recall: 0.5\n"
)


def is_the_report(text: str) -> bool:
    document = check(parse_printed(text))
    assert document["wrong"] == []
    return bool((document["n"], document["accuracy"]["correct"]) == (715, 490))


@pytest.mark.parametrize("above", [WARNING, PROGRESS, WARNING + PROGRESS, PROGRESS * 3 + "\n"])
@pytest.mark.parametrize("below", ["", "\n" + PROGRESS, "Saved to report_17.txt in 3 s\n"])
def test_what_a_program_prints_around_a_report_is_no_part_of_it(above: str, below: str) -> None:
    assert is_the_report(above + REPORT + below)


def dictionary() -> dict[str, Any]:
    """The report as numbers: 95 angry faces, 58 of them found, 91 predicted; and so on."""
    classes = {
        "angry": (95, 58, 91),
        "disgust": (11, 10, 45),
        "fear": (102, 74, 105),
        "happy": (177, 118, 139),
        "sad": (124, 88, 130),
        "surprise": (83, 54, 88),
        "neutral": (123, 88, 117),
    }
    return {
        name: {
            "precision": found / predicted,
            "recall": found / support,
            "f1-score": 2 * found / (predicted + support),
            "support": float(support),
        }
        for name, (support, found, predicted) in classes.items()
    } | {"accuracy": 490 / 715, "macro avg": {"precision": 0.6365662600503299, "support": 715.0}}


def test_a_report_as_a_dictionary() -> None:
    assert is_the_report(json.dumps(dictionary()))
    assert is_the_report(WARNING + json.dumps(dictionary(), indent=2) + "\nSaved.")
    assert is_the_report(json.dumps(dictionary() | {"loss": 0.8, "options": {"digits": 4}}))
    assert is_the_report(f"Report:\n{dictionary()}")
    assert is_the_report(str(dictionary() | {"samples avg": {"precision": float("nan")}}))
    wrong = dictionary()
    wrong["fear"]["recall"] = 0.7354901960784313
    (entry,) = check(parse_printed(json.dumps(wrong)))["wrong"]
    assert entry["cell"] == "fear recall"


def test_a_report_as_a_table_of_pandas() -> None:
    frame = pd.DataFrame(dictionary())
    for table in (frame, frame.T):
        assert is_the_report(table.to_csv())
        assert is_the_report(WARNING + table.to_csv(sep=";"))
        assert is_the_report(table.to_csv(float_format="%.4f"))
        assert is_the_report(table.to_csv(float_format="%.4g"))
    assert is_the_report(frame.T.to_string())


def test_a_report_in_markdown() -> None:
    lines = [line.split() for line in REPORT.splitlines() if line.strip()]
    rows = [
        ["class", *lines[0]],
        [":--", *["--:"] * 4],
        *lines[1:8],
        ["accuracy", "", "", "0.69", "715"],
    ]
    rows += [["**macro avg**", *lines[9][2:]]]
    assert is_the_report("\n".join(f"| {' | '.join(row)} |" for row in rows))
    assert is_the_report("## Results of 3 runs\n" + "\n".join("|".join(row) for row in rows))


NEVER_PREDICTED = """\
              precision    recall  f1-score   support

       angry       0.47      0.67      0.55        95
     disgust       {}      0.00      0.00        11
        fear       0.70      0.73      0.71       102
       happy       0.85      0.67      0.75       177
         sad       0.68      0.71      0.69       124
    surprise       0.61      0.65      0.63        83
     neutral       0.75      0.72      0.73       123

    accuracy                           0.68       715
   macro avg       {}      0.59      0.58       715
weighted avg       {}      0.68      0.68       715
"""


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        (
            ("1.00", "0.72", "0.71"),
            "disgust is never predicted; its precision is what zero_division=1 puts there, and "
            "macro and weighted precision hold it (without: 0.5810, 0.6912)",
        ),
        (
            ("0.00", "0.58", "0.69"),
            "disgust is never predicted; its precision is what zero_division=0 puts there, and "
            "macro and weighted precision hold it (without: 0.6778, 0.7020)",
        ),
        (
            (" nan", "0.68", "0.70"),
            "disgust is never predicted; its precision is not defined (zero_division=nan), and "
            "macro and weighted precision leave it out (with 0 there: 0.5810, 0.6912)",
        ),
    ],
)
def test_what_stands_for_a_class_that_is_never_predicted(
    cells: tuple[str, str, str], note: str
) -> None:
    document = check(parse_printed(NEVER_PREDICTED.format(*cells)))
    assert document["wrong"] == []
    assert document["notes"] == [note]
    assert document["accuracy"]["correct"] == 486
    others = {"1.00": "0.00", "0.00": "1.00", " nan": "1.00"}
    mixed = NEVER_PREDICTED.format(others[cells[0]], *cells[1:])
    assert not check(parse_printed(mixed))["consistent"]


def test_the_average_of_old_versions() -> None:
    head = REPORT.partition("    accuracy")[0]
    table = f"{head} avg / total       0.72      0.69      0.69       715\n"
    document = check(parse_printed(table))
    assert (document["n"], document["wrong"]) == (715, [])
    assert document["weighted"]["precision"]["printed"] == 0.72
    wrong = check(parse_printed(table.replace("0.72      0.69", "0.74      0.69")))["wrong"]
    assert [entry["cell"] for entry in wrong] == ["weighted precision"]


def test_some_labels_have_a_micro_average() -> None:
    """Of classes a, b and c the report has a and b; images of c are predicted as both."""
    true, predicted = [*"aaaabbbbcccc"], [*"aaabbbbacaab"]
    text = classification_report(true, predicted, labels=["a", "b"], digits=4)
    document = check(parse_printed(text))
    assert document["wrong"] == []
    assert document["accuracy"]["recomputed"] is None
    assert document["notes"] == ["at least 3 of the 11 predictions are of images of other classes"]
    for row, printed, other in (("micro", "0.5455", "0.5555"), ("micro", "0.7500", "0.7600")):
        line = next(line for line in text.splitlines() if row in line)
        changed = text.replace(line, line.replace(printed, other))
        (entry,) = check(parse_printed(changed))["wrong"]
        assert entry["cell"].startswith("micro")
        assert printed in entry["text"]


# Laws ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """Labels, predictions, and how a report was made of them.

    Attributes:
        true: classes of n images, shape (n,), in [0, 5].
        predicted: the same for what is predicted.
        labels: those that are in the report.
        names: of these.
        zero_division: as scikit-learn's argument.
    """

    true: list[int]
    predicted: list[int]
    labels: list[int]
    names: list[str]
    zero_division: Any

    def report(self, **more: Any) -> Any:
        options = {"labels": self.labels, "target_names": self.names}
        options["zero_division"] = self.zero_division
        with warnings.catch_warnings():  # about what is not defined
            warnings.simplefilter("ignore")
            return classification_report(self.true, self.predicted, **options, **more)

    def counts(self) -> list[tuple[int, int, int]]:
        """Support, true positives and predictions of each class of the report."""
        pairs = list(zip(self.true, self.predicted, strict=True))
        return [
            (self.true.count(one), pairs.count((one, one)), self.predicted.count(one))
            for one in self.labels
        ]

    def old_text(self, digits: int) -> str:
        """The layout before scikit-learn 0.20, when 0 stood for what was not defined."""
        rows = [_ratios(*counts) for counts in self.counts()]
        supports = [support for support, _, _ in self.counts()]
        averages = np.average(rows, axis=0, weights=supports) if sum(supports) else [0.0] * 3
        width = max(len("avg / total"), *map(len, self.names))
        named = zip([*self.names, "avg / total"], [*rows, averages], strict=True)
        lines = [f"{'':>{width}}  precision    recall  f1-score   support", ""]
        for (name, shares), support in zip(named, [*supports, sum(supports)], strict=True):
            cells = "".join(f" {share:9.{digits}f}" for share in shares)
            lines.append(f"{name:>{width}} {cells} {support:9}")
        return "\n".join(lines)


def _ratios(support: int, found: int, predicted: int) -> list[float]:
    pairs = ((found, predicted), (found, support), (2 * found, predicted + support))
    return [above / below if below else 0.0 for above, below in pairs]


NAMES = ("class {}", "{}", "very happy {}", "{} - sad", "{}_fear", "é 1.5 {}")


@st.composite
def made(draw: st.DrawFn) -> Made:
    """Some classes are never predicted, or have no image, or are not in the report."""
    size = draw(st.integers(2, 5))
    weights = [draw(st.sampled_from([0, 0, 1, 5, 25])) for _ in range(size * size)]
    cells = [draw(st.integers(0, weight)) for weight in weights]
    assume(sum(cells))
    pairs = [divmod(at, size) for at, count in enumerate(cells) for _ in range(count)]
    labels = draw(st.lists(st.integers(0, size), min_size=2, unique=True))
    if draw(st.booleans()):
        labels = list(range(size))
    assume(any(true in labels for true, _ in pairs))  # else there is nothing to average
    return Made(
        [true for true, _ in pairs],
        [predicted for _, predicted in pairs],
        labels,
        [draw(st.sampled_from(NAMES)).format(label) for label in labels],
        draw(st.sampled_from([0, 1, np.nan, "warn"])),
    )


def _markdown(frame: pd.DataFrame, digits: int) -> str:
    lines = ["| class | precision | recall | f1-score | support |", "|:--|--:|--:|--:|--:|"]
    for name, row in frame.drop(index="accuracy", errors="ignore").iterrows():
        shares = " | ".join(f"{share:.{digits}f}" for share in row.iloc[:3])
        lines.append(f"| {name} | {shares} | {row['support']:.0f} |")
    return "\n".join(lines)


def _frame(one: Made) -> pd.DataFrame:
    return pd.DataFrame(one.report(output_dict=True))


FORMS: dict[str, Callable[[Made, int], str]] = {
    "text": lambda one, digits: one.report(digits=digits),
    "old text": lambda one, digits: one.old_text(digits),
    "JSON": lambda one, _: json.dumps(one.report(output_dict=True)),
    "CSV": lambda one, _: _frame(one).T.to_csv(),
    "CSV of columns": lambda one, _: _frame(one).to_csv(),
    "CSV of decimals": lambda one, digits: _frame(one).T.to_csv(float_format=f"%.{digits}f"),
    "CSV of digits": lambda one, digits: _frame(one).T.to_csv(float_format=f"%.{digits + 1}g"),
    "Markdown": lambda one, digits: _markdown(_frame(one).T, digits),
}


@given(made(), st.sampled_from(list(FORMS)), st.integers(2, 5))
def test_no_correct_report_is_called_wrong(one: Made, form: str, digits: int) -> None:
    table = parse_printed(FORMS[form](one, digits))
    document = check(table)
    assert document["wrong"] == []
    json.dumps(document, allow_nan=False)
    # These are the first assumptions that are tried, and they hold.
    if one.zero_division in (0, "warn") and {*one.true, *one.predicted} <= {*one.labels}:
        for counts, expected in zip(solve(table).counts, one.counts(), strict=True):
            assert counts.holds(*expected)


@given(made(), st.sampled_from(["text", "JSON", "CSV", "Markdown"]), st.data())
def test_a_changed_cell_of_a_report_is_found_or_other_counts_explain_it(
    one: Made, form: str, data: st.DataObject
) -> None:
    """One digit of one cell is another one, by more than rounding can do."""
    table = parse_printed(FORMS[form](one, 4))
    altered = _with_changed_cell(table, data.draw)
    document = check(altered)
    if document["consistent"]:
        unique = [
            (entry["support"], entry["true_positives"], entry["predicted"])
            for entry in document["classes"]
        ]
        assert unique != one.counts()


def test_more_right_answers_than_images_are_no_proportion() -> None:
    one = Made([0], [0], [0, 1], ["class 0", "class 1"], 1)
    lines = str(one.report(digits=2)).splitlines()
    wrong = [line.replace("1.00", "0.98", 1) if "macro" in line else line for line in lines]
    assert not check(parse_printed("\n".join(wrong)))["consistent"]


def _with_changed_cell(table: PrintedTable, draw: Callable[[Any], Any]) -> PrintedTable:
    """A table in which one cell is at least two steps of its last digit away from the true one."""
    groups: dict[Any, Any] = {
        "macro": table.macro,
        "weighted": table.weighted,
        "micro": table.micro,
    }
    groups |= {at: row.cells for at, row in enumerate(table.classes)}
    if table.accuracy:
        groups["accuracy"] = {"f1": table.accuracy}
    at = draw(st.sampled_from([name for name, cells in groups.items() if cells]))
    name = draw(st.sampled_from(sorted(groups[at])))
    half = max(groups[at][name].half_width, 0.5e-4)
    steps = draw(st.integers(2, 2_000)) * draw(st.sampled_from([-1, 1]))
    value = groups[at][name].value + 2 * half * steps
    if not 0 <= value <= 1:
        value = groups[at][name].value - 2 * half * steps
    assume(0 <= value <= 1)
    cells = {**groups[at], name: Cell(f"{value:.9f}", value, half)}
    if at == "accuracy":
        return replace(table, accuracy=cells["f1"])
    if isinstance(at, str):
        averages: dict[str, Any] = {at: cells}
        return replace(table, **averages)
    rows = [replace(row, cells=cells) if at == i else row for i, row in enumerate(table.classes)]
    return replace(table, classes=tuple(rows))


@st.composite
def confusions(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Of 2 to 5 classes, each with a sample."""
    size = draw(st.integers(2, 5))
    cells = draw(st.lists(st.integers(0, 25), min_size=size * size, max_size=size * size))
    matrix = np.array(cells).reshape(size, size)
    assume((matrix.sum(axis=1) > 0).all())
    return matrix


def report(confusion: np.ndarray[Any, Any], digits: int = 4) -> PrintedTable:
    true, predicted = (
        codes.repeat(confusion.ravel()) for codes in np.indices(confusion.shape).reshape(2, -1)
    )
    names = [f"class {code}" for code in range(len(confusion))]
    text = classification_report(
        true,
        predicted,
        labels=range(len(confusion)),
        target_names=names,
        digits=digits,
        zero_division=0,
    )
    return parse_printed(text)


def truth(confusion: np.ndarray[Any, Any]) -> list[tuple[int, int, int]]:
    """Support, true positives and predictions of each class."""
    columns = (confusion.sum(axis=1), confusion.diagonal(), confusion.sum(axis=0))
    return [(int(a), int(b), int(c)) for a, b, c in zip(*columns, strict=True)]


@given(confusions(), st.sampled_from([2, 3, 4]))
def test_true_counts_are_never_lost(confusion: np.ndarray[Any, Any], digits: int) -> None:
    table = report(confusion, digits)
    assert check(table)["wrong"] == []
    for found, expected in zip(solve(table).counts, truth(confusion), strict=True):
        assert found.holds(*expected)


@given(confusions(), st.data())
def test_a_changed_cell_is_flagged_or_other_counts_explain_it(
    confusion: np.ndarray[Any, Any], data: st.DataObject
) -> None:
    table = report(confusion)
    rows = ["accuracy", "macro", "weighted", *range(len(confusion))]
    row, cell = data.draw(st.sampled_from(rows)), data.draw(st.sampled_from(CELLS))
    steps = data.draw(st.integers(2, 2_000)) * data.draw(st.sampled_from([-1, 1]))

    def changed(cells: Any) -> dict[str, Cell]:
        value = cells[cell].value + steps * 1e-4
        assume(0 <= value <= 1)
        return {**cells, cell: Cell(f"{value:.4f}", value, 0.5e-4)}

    if isinstance(row, int):
        other = replace(table.classes[row], cells=changed(table.classes[row].cells))
        classes = tuple(other if at == row else one for at, one in enumerate(table.classes))
        altered = replace(table, classes=classes)
    elif row == "accuracy":
        assert table.accuracy is not None
        altered = replace(table, accuracy=changed({cell: table.accuracy})[cell])
    elif row == "macro":
        altered = replace(table, macro=changed(table.macro))
    else:
        altered = replace(table, weighted=changed(table.weighted))
    document = check(altered)
    if document["consistent"]:
        unique = [
            (entry["support"], entry["true_positives"], entry["predicted"])
            for entry in document["classes"]
        ]
        assert unique != truth(confusion)
    json.dumps(document, allow_nan=False)


# Files that cannot be parsed ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("hello", "no class"),
        ("Angry 0.5 0.5 0.5 9", "'Angry'"),
        ("a 0.1 0.2 0.3 4\nAngry 0,31 0,33 0,32 49", "line 2: 'Angry 0,31 0,33 0,32 49'"),
        ("a 0.1 0.2 0.3 4\n\nb 0.5 ± 0.1", "line 3: 'b 0.5 ± 0.1'"),
        ("a 0.1 0.2 0.3 4\nb 130 0.2 0.1 3", "line 2: '130'"),
        ("a 0.1 0.2 0.3 4\na 0.1 0.2 0.3 4", "class 'a'"),
        ("class,precision,recall\na,0.5,x\nb,1,1", "line 2: 'x'"),
        ("class,precision,recall\na,0.5,1,2", "line 2: 4 cells"),
        ("precision,recall,f1,support\n0.5,0.1,0.2,3", "line 1"),
        ("class,precision,support\na,0.5,3.5\nb,1,1", "line 2: support '3.5'"),
        ("{", "JSON"),
        ("{'a', 'b'}", "JSON"),
        ("{'a': print()}", "JSON"),
        ("{}", "'classes'"),
        ('{"classes": ["a", "b"], "recall": [1]}', "'recall'"),
        ('{"classes": ["a", "b"], "macro": 1}', "'macro'"),
    ],
)
def test_a_table_that_cannot_be_parsed_is_explained(text: str, part: str, tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TableError) as error:
        read_printed(path)
    says(error.value, path, part)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TableError) as error:
        read_printed(tmp_path / "none.txt")
    says(error.value, tmp_path / "none.txt", "No such file")
    (tmp_path / "latin.txt").write_bytes("a\xe9 0.1 0.2 0.3 4".encode("latin-1"))
    with pytest.raises(TableError) as error:
        read_printed(tmp_path / "latin.txt")
    says(error.value, tmp_path / "latin.txt", "UTF-8")
    (tmp_path / "zeros.txt").write_bytes(b"a 0.1 0.2 0.3 4\nb 0.1 \0\0\0 0.3 4")
    with pytest.raises(TableError) as error:
        read_printed(tmp_path / "zeros.txt")
    says(error.value, tmp_path / "zeros.txt", "line 2", "zero")
