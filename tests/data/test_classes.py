"""`dataset.classes`: choosing, merging and renaming classes, and what becomes of other names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import Face, folder, save
from messages import says
from PIL import Image
from pydantic import ValidationError
from typer.testing import Result

from fer_bench.config.dataset import Dataset
from fer_bench.config.messages import explain
from fer_bench.data.load import load_manifest, read_release
from fer_bench.data.manifest import SOFT, Manifest, regrouped
from fer_bench.errors import DataError
from fer_bench.evaluation import cross_dataset
from fer_bench.labels import EXPRESSIONS

Fer = Callable[..., Result]
MERGED = {"happiness": ["happy"], "other": ["contempt", "disgust"]}


def section(root: Path, **keys: Any) -> Dataset:
    return Dataset.model_validate({"name": "folder", "root": root} | keys)


def tree(root: Path, *names: str, number: int = 1) -> Path:
    for name in names:
        for index in range(number):
            save(Image.new("RGB", (8, 8)), root / name / f"{index}.png")
    return root


def refusal(**keys: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Dataset.model_validate({"name": "folder"} | keys)
    return explain(caught.value, Dataset)


# The key ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["sad", "happy"], {"happiness": ("happy",), "sadness": ("sad",)}),
        ({"joy": "happy", "rest": [0, "x"]}, {"joy": ("happy",), "rest": ("0", "x")}),
        # Expressions come first, in their one order; others as they are given.
        (
            {"b": ["fear"], "anger": [1], "a": ["sad"], "neutral": [2]},
            ["neutral", "anger", "b", "a"],
        ),
        (None, None),
    ],
)
def test_one_choice_has_one_spelling(written: Any, read: Any) -> None:
    classes = section(Path(), classes=written).classes
    assert (list(classes or ()) if isinstance(read, list) else classes) == read


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("happy", "must be a list of classes, or a mapping"),
        (["happy"], "must be two or more different classes, got happiness"),
        (["happy", "happiness"], "must be two or more different classes"),
        ({"a": ["happy"], "b": ["Happiness"]}, "the label 'happiness' cannot be in a and b"),
        ({"a": ["x", "X"], "b": ["y"]}, "the label 'x' cannot be in a twice"),
        ({"a": [], "b": ["y"]}, "a has no label"),
        ({"a": [True], "b": ["y"]}, "must be text, got True"),
        ({"a,b": ["x"], "b": ["y"]}, "the name of a class is up to 40 letters"),
    ],
)
def test_invalid_choices_of_classes(classes: Any, message: str) -> None:
    (line,) = refusal(classes=classes)
    assert line.startswith("classes: ")
    assert message in line


def test_contempt_and_classes_cannot_be_combined() -> None:
    (line,) = refusal(classes=["happy", "sad"], contempt="drop")
    assert "dataset.contempt: must be left out beside classes" in line


def test_the_classes_are_known_before_the_data_is_read() -> None:
    from fer_bench.models.summary import expected_classes

    fer2013 = Dataset(name="fer2013", root=Path())
    votes = fer2013.model_copy(update={"labels": "majority"})
    assert expected_classes(section(Path(), classes=MERGED)) == ("happiness", "other")
    assert expected_classes(votes) == EXPRESSIONS
    assert expected_classes(fer2013) == EXPRESSIONS[:7]


# Folders ---------------------------------------------------------------------------------------


def test_classes_are_chosen_merged_and_renamed(tmp_path: Path) -> None:
    names = ["1", "happy", "Contempt", "disgust", "sad", "drafts"]
    tree(tmp_path, *names)
    classes = {"happiness": ["happy", "1"], "other": ["contempt", "disgust"]}
    manifest = read_release(section(tmp_path, classes=classes))
    assert manifest.classes == ("happiness", "other")
    assert manifest.counts() == {"train": {"happiness": 2, "other": 2}}
    assert manifest.dropped == {"class not chosen": 2}
    assert set(manifest.samples["sample_id"]) == {
        f"{name}/0.png" for name in ("1", "happy", "Contempt", "disgust")
    }


@pytest.mark.parametrize("above", ["", "train/", "download/train/"])
def test_folders_of_numbers_and_of_other_languages(tmp_path: Path, above: str) -> None:
    tree(tmp_path, *(f"{above}{name}" for name in ("0", "1", "Überraschung")))
    classes = {"sadness": [0], "neutral": [1], "surprise": ["überraschung"]}
    manifest = read_release(section(tmp_path, classes=classes))
    assert manifest.counts() == {"train": {"neutral": 1, "sadness": 1, "surprise": 1}}


def test_a_folder_that_means_nothing_by_itself_can_be_given_a_meaning(tmp_path: Path) -> None:
    tree(tmp_path, "0", "1")
    with pytest.raises(DataError, match=r"unknown class folder '\w+/0'[\s\S]*dataset\.classes"):
        read_release(section(tmp_path))


def test_a_label_that_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    tree(tmp_path, "happy", "traurig", "7")
    classes = {"happiness": ["happy"], "sadness": ["traurich"]}
    with pytest.raises(DataError) as caught:
        read_release(section(tmp_path, classes=classes))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: dataset.classes: sadness takes 'traurich'")
    assert "there are happiness, 7, traurig" in message
    assert "Did you mean 'traurig'?" in message


def test_an_expression_that_one_dataset_lacks_may_stand_beside_one_that_it_has(
    tmp_path: Path,
) -> None:
    tree(tmp_path, "happy", "disgust")
    manifest = read_release(section(tmp_path, classes=MERGED))
    assert manifest.counts() == {"train": {"happiness": 1, "other": 1}}
    with pytest.raises(DataError, match="fear takes 'fear', which is no label here"):
        read_release(section(tmp_path, classes=["happy", "fear"]))


def test_training_must_have_what_another_split_has(tmp_path: Path) -> None:
    tree(tmp_path, "train/1", "train/2", "test/1", "test/2", "test/3", "train/drafts")
    with pytest.raises(DataError) as caught:
        read_release(section(tmp_path, classes={"a": [1], "b": [2], "c": [3]}))
    says(caught.value, tmp_path, " c,", "dataset.classes")
    # What is not chosen does not matter.
    manifest = read_release(section(tmp_path, classes={"a": [1], "b": [2, 3]}))
    assert manifest.counts() == {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 2}}


def test_the_choice_is_part_of_the_fingerprint(tmp_path: Path, faces: list[Face]) -> None:
    root = Path(folder.flat(tmp_path, faces).dataset["root"])
    choices: list[Any] = [None, ["happy", "sad"], MERGED, {"joy": ["happy"], "other": ["disgust"]}]
    found = {read_release(section(root, classes=classes)).fingerprint for classes in choices}
    assert len(found) == len(choices)


def test_codes_of_a_dataset_with_codes(tmp_path: Path, drawn_root: Path) -> None:
    # Any adapter, whose labels are expressions.
    keys: dict[str, Any] = {"name": "drawn", "root": drawn_root}
    manifest = read_release(Dataset.model_validate(keys | {"classes": MERGED}))
    assert manifest.classes == ("happiness", "other")
    with pytest.raises(DataError, match="no label here; there are neutral, happiness"):
        read_release(Dataset.model_validate(keys | {"classes": {"a": ["happy"], "b": ["3"]}}))


# Groups of classes -----------------------------------------------------------------------------

NAMES = ("a", "b", "c", "d")


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Hard labels, and soft ones that have most on them."""
    labels = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=12))
    samples = pd.DataFrame({"sample_id": map(str, range(len(labels))), "label": labels})
    samples = samples.assign(path=samples["sample_id"], split="train")
    if draw(st.booleans()):
        numbers = st.lists(st.integers(0, 5), min_size=4, max_size=4)
        votes = np.array([draw(numbers) for _ in labels], dtype=float)
        votes[np.arange(len(labels)), [NAMES.index(name) for name in labels]] += 6
        shares = votes / votes.sum(axis=1, keepdims=True)
        samples = samples.assign(**{SOFT + n: shares[:, i] for i, n in enumerate(NAMES)})
    return Manifest("x", "x", Path(), NAMES, 1, samples)


GROUPS = [{"p": ["a", "b"], "q": ["c"]}, {"c": ["c"], "a": ["a"]}, {"x": ["d", "a"], "b": ["b"]}]


@given(manifests(), st.sampled_from(GROUPS))
def test_every_sample_stays_or_is_counted_and_shares_stay_a_distribution(
    manifest: Manifest, groups: dict[str, list[str]]
) -> None:
    group_of = {name: group for group, names in groups.items() for name in names}
    if not set(manifest.samples["label"]) & set(group_of):
        return
    made = regrouped(manifest, groups, "left")
    assert made.classes == tuple(groups)
    assert len(made.samples) + made.dropped.get("left", 0) == len(manifest.samples)
    found = made.soft_labels("train")
    if found is None:
        by_id = manifest.samples.set_index("sample_id")["label"]
        expected = [group_of[by_id[name]] for name in made.samples["sample_id"]]
        assert made.samples["label"].tolist() == expected
        return
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    own = found[np.arange(len(found)), made.codes("train")]
    np.testing.assert_allclose(own, found.max(axis=1), rtol=1e-5)


def test_soft_labels_are_part_of_the_fingerprint_and_must_be_distributions(tmp_path: Path) -> None:
    def manifest(share: float, total: float = 1.0) -> Manifest:
        (tmp_path / "1").touch()
        samples = pd.DataFrame({"sample_id": ["1"], "path": "1", "split": "train", "label": "a"})
        shares = {"soft_a": share, "soft_b": total - share}
        return Manifest("x", "x", tmp_path, ("a", "b"), 1, samples.assign(**shares))

    assert manifest(0.8).fingerprint != manifest(0.7).fingerprint
    assert manifest(0.8).fingerprint == manifest(0.8).fingerprint
    for share, total in ((1.2, 1.0), (0.5, 0.9), (float("nan"), 1.0)):
        with pytest.raises(DataError, match="soft label of '1'"):
            manifest(share, total)


# Other names downstream ------------------------------------------------------------------------


def test_a_model_of_other_classes_is_measured_on_those_it_shares(tmp_path: Path) -> None:
    tree(tmp_path, "happy", "disgust", "neutral")
    manifest = read_release(section(tmp_path, classes=MERGED | {"calm": ["neutral"]}))
    shared = cross_dataset.shared_classes(("calm", "other", "fear"), manifest)
    assert shared == ("calm", "other")
    restricted = cross_dataset.restricted(manifest, shared)
    assert restricted.classes == ("other", "calm")
    assert restricted.dropped["class unknown to the model"] == 1


def test_adopted_predictions_may_be_of_other_classes(
    tmp_path: Path, fer: Fer, write_config: Callable[..., Path], tiny: dict[str, Any]
) -> None:
    classes = {"smile": ["happy"], "rest": ["sad", "fear"]}
    dataset = tiny["dataset"] | {"classes": classes}
    config = write_config(tiny | {"dataset": dataset})
    rows = load_manifest(Dataset.model_validate(dataset)).split("test")
    frame = pd.DataFrame({"sample_id": rows["sample_id"], "p_rest": 0.4, "p_smile": 0.6})
    frame.assign(label=rows["label"]).to_csv(tmp_path / "theirs.csv", index=False)
    given_ = ("adopt", "theirs", tmp_path / "theirs.csv", "--data", config)
    result = fer(*given_, "--outputs", tmp_path / "outputs")
    assert result.exit_code == 0, result.output
    (path,) = (tmp_path / "outputs").glob("*/metrics/test.json")
    metrics = json.loads(path.read_text())
    assert metrics["protocol"]["classes"] == ["smile", "rest"]
    assert metrics["accuracy"]["value"] == pytest.approx((rows["label"] == "smile").mean())
    wrong = frame.rename(columns={"p_rest": "p_rset"})
    wrong.to_csv(tmp_path / "wrong.csv", index=False)
    refused = fer("adopt", "w", tmp_path / "wrong.csv", "--data", config, "--outputs", tmp_path)
    assert refused.exit_code == 2
    assert "Did you mean 'rest'?" in refused.stderr


@pytest.mark.slow
def test_other_names_from_training_to_the_page(
    tmp_path: Path, fer: Fer, write_config: Callable[..., Path], tiny: dict[str, Any]
) -> None:
    classes = {"smile": ["happy"], "Übriges & Co": ["sad", "fear"], "neutral": ["neutral"]}
    outputs, dataset = tmp_path / "outputs", tiny["dataset"] | {"classes": classes}
    config = write_config(tiny | {"dataset": dataset}, "merged")
    trained = fer("train", config, "--outputs", outputs)
    assert trained.exit_code == 0, trained.output
    run = outputs / trained.stdout.strip().splitlines()[-1]
    for command in (("evaluate", run.name), ("report", run.name), ("compare", outputs)):
        extra = () if command[0] == "compare" else ("--outputs", outputs)
        result = fer(*command, *extra)
        assert result.exit_code == 0, result.output
    record, metrics = (
        json.loads((run / name).read_text()) for name in ("run.json", "metrics/test.json")
    )
    names = ["neutral", "smile", "Übriges & Co"]
    assert record["dataset"]["classes"] == names
    assert metrics["protocol"]["class_labels"] == record["dataset"]["class_labels"]
    assert record["dataset"]["class_labels"]["Übriges & Co"] == ["sad", "fear"]
    predictions = pd.read_csv(run / "predictions/test.csv")
    assert [name for name in map(str, predictions) if name.startswith("p_")] == [
        f"p_{n}" for n in names
    ]
    assert set(predictions["label"]) == set(names)
    pages = [path.read_text(encoding="utf-8") for path in run.rglob("*.html")]
    assert any("Übriges &amp; Co" in page for page in pages)
