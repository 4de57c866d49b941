"""FERPlus: the rules of the release, its table, and what becomes of the samples of FER2013."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import problems
from layouts.fer2013 import VOTES, write_faces, write_votes
from messages import says

from fer_bench.config.dataset import Dataset
from fer_bench.data.datasets.fer2013.ferplus import (
    EMOTIONS,
    RULES,
    Label,
    NoLabelError,
    Rule,
    label,
)
from fer_bench.data.load import load_manifest, read_release
from fer_bench.data.manifest import Manifest
from fer_bench.errors import DataError

HAPPY, SAD, FEAR = {"happiness": 10}, {"sadness": 10}, {"fear": 10}


def votes_of(**votes: int) -> list[int]:
    return [votes.get(name, 0) for name in VOTES]


def shares(found: Label) -> dict[str, float]:
    pairs = zip(EMOTIONS, found.shares, strict=True)
    return {name: round(float(share), 4) for name, share in pairs if share}


@pytest.mark.parametrize(
    ("rule", "votes", "hard", "expected"),
    [
        ("majority", votes_of(fear=6, anger=4), "fear", {"fear": 1}),
        # Single votes are outliers, so that 5 of the 8 others are a majority.
        ("majority", votes_of(fear=5, anger=3, sadness=1, NF=1), "fear", {"fear": 1}),
        ("probability", votes_of(fear=6, anger=4), "fear", {"fear": 0.6, "anger": 0.4}),
        # Three quarters of the votes are enough.
        ("probability", votes_of(neutral=8, anger=2), "neutral", {"neutral": 1}),
        # Those with equal votes come together.
        (
            "probability",
            votes_of(neutral=4, anger=3, fear=3),
            "neutral",
            {"neutral": 0.4, "anger": 0.3, "fear": 0.3},
        ),
        # Unknown ends it, and its votes are no part of the distribution.
        (
            "probability",
            votes_of(sadness=6, unknown=2, fear=2),
            "sadness",
            {"sadness": 0.75, "fear": 0.25},
        ),
        ("probability", votes_of(sadness=6, unknown=3), "sadness", {"sadness": 1}),
        ("multi_target", votes_of(fear=6, anger=4), "fear", {"fear": 0.5, "anger": 0.5}),
        ("multi_target", votes_of(fear=6, anger=2, NF=2), "fear", {"fear": 1}),
    ],
)
def test_what_votes_make(
    rule: Rule, votes: Sequence[int], hard: str, expected: dict[str, float]
) -> None:
    found = label(votes, rule)
    assert found.hard == hard
    assert shares(found) == expected


@pytest.mark.parametrize(
    ("rule", "votes", "reason"),
    [
        ("majority", votes_of(fear=5, anger=5), "no majority of votes"),
        ("majority", votes_of(unknown=6, fear=4), "unknown"),
        ("majority", votes_of(NF=10), "not a face"),
        *((rule, votes_of(**dict.fromkeys(VOTES, 1)), "no majority of votes") for rule in RULES),
        ("probability", votes_of(unknown=6, fear=4), "unknown"),
        ("probability", votes_of(NF=9, fear=1), "not a face"),
        # Half of the votes for an expression and half for unknown are no majority.
        ("probability", votes_of(fear=5, unknown=5), "no majority of votes"),
        (
            "probability",
            votes_of(neutral=2, happiness=2, sadness=2, fear=2, anger=2),
            "votes for too many expressions",
        ),
        ("multi_target", votes_of(fear=4, anger=2, sadness=2, neutral=2), "no majority of votes"),
        ("multi_target", votes_of(unknown=6, fear=4), "unknown"),
    ],
)
def test_why_there_is_no_label(rule: Rule, votes: Sequence[int], reason: str) -> None:
    with pytest.raises(NoLabelError) as caught:
        label(votes, rule)
    assert str(caught.value) == reason


@given(st.lists(st.integers(0, 9), min_size=10, max_size=10), st.sampled_from(RULES))
def test_a_label_is_a_distribution_over_expressions_with_votes(
    votes: list[int], rule: Rule
) -> None:
    try:
        found = label(votes, rule)
    except NoLabelError:
        return
    assert sum(found.shares) == pytest.approx(1)
    assert all(votes[place] > 1 for place in np.flatnonzero(found.shares))
    assert votes[EMOTIONS.index(found.hard)] == max(votes[: len(EMOTIONS)])
    assert found.shares[EMOTIONS.index(found.hard)] == max(found.shares)


@given(st.lists(st.integers(0, 9), min_size=10, max_size=10))
def test_every_rule_gives_a_majority_the_same_class(votes: list[int]) -> None:
    try:
        found = label(votes, "majority")
    except NoLabelError:
        return
    for rule in RULES:
        assert label(votes, rule).hard == found.hard


# A table ---------------------------------------------------------------------------------------

# Part of the challenge, label in FER2013, votes.
ROWS: list[tuple[str, str, dict[str, int]]] = [
    ("Training", "happiness", {"happiness": 7, "neutral": 3}),
    ("Training", "anger", {"contempt": 6, "anger": 4}),
    ("Training", "sadness", {"sadness": 5, "fear": 5}),
    ("Training", "fear", {"NF": 10, "no name": 1}),
    ("Training", "fear", {"unknown": 7, "fear": 3}),
    ("Training", "fear", {"NF": 8, "fear": 2}),
    ("PublicTest", "happiness", HAPPY),
    ("PublicTest", "fear", {"contempt": 5, "fear": 5}),
    ("PublicTest", "anger", {"contempt": 9}),
    ("PrivateTest", "happiness", HAPPY),
    ("PrivateTest", "sadness", {"contempt": 8, "sadness": 2}),
]


def write(root: Path, rows: Sequence[tuple[str, str, dict[str, int]]] = ROWS) -> Path:
    write_faces(root / "fer2013.csv", [(usage, name) for usage, name, _ in rows])
    write_votes(root / "fer2013new.csv", [(usage, votes) for usage, _, votes in rows])
    return root


def read(root: Path, rule: str, **keys: Any) -> Manifest:
    section = {"name": "fer2013", "root": root, "labels": rule, "validation": "validation"}
    return read_release(Dataset.model_validate(section | keys))


def soft(manifest: Manifest, name: str) -> dict[str, float]:
    row = manifest.samples.set_index("sample_id").to_dict("index")[name]
    found = {label: float(row[f"soft_{label}"]) for label in manifest.classes}
    return {label: round(share, 4) for label, share in found.items() if share}


def test_every_row_is_counted_once_by_the_reason_it_is_left_out(tmp_path: Path) -> None:
    manifest = read(write(tmp_path), "majority")
    assert manifest.dropped == {
        "no majority of votes": 2,
        "no image name": 1,
        "unknown": 1,
        "not a face": 1,
    }
    assert len(manifest.samples) + sum(manifest.dropped.values()) == len(ROWS)
    assert manifest.classes == ("happiness", "contempt")
    assert not manifest.is_soft


def test_without_the_key_fer2013_is_what_it_was(tmp_path: Path) -> None:
    section = {"name": "fer2013", "root": write(tmp_path), "validation": "validation"}
    manifest = read_release(Dataset.model_validate(section))
    assert len(manifest.samples) == len(ROWS)
    assert "contempt" not in manifest.classes
    assert not manifest.is_soft


def test_training_gets_distributions_and_the_other_parts_the_majority(tmp_path: Path) -> None:
    manifest = read(write(tmp_path), "probability")
    by_id = manifest.samples.set_index("sample_id")
    assert by_id["label"].to_dict() == {
        "Training_0": "happiness",
        "Training_1": "contempt",
        "Training_2": "sadness",  # the first of two with equal votes
        "PublicTest_6": "happiness",
        "PublicTest_8": "contempt",
        "PrivateTest_9": "happiness",
        "PrivateTest_10": "contempt",
    }
    assert soft(manifest, "Training_0") == {"happiness": 0.7, "neutral": 0.3}
    assert soft(manifest, "Training_2") == {"sadness": 0.5, "fear": 0.5}
    assert soft(manifest, "PrivateTest_10") == {"contempt": 1}


def test_all_rules_are_measured_on_the_same_images(tmp_path: Path) -> None:
    write(tmp_path)
    found = [read(tmp_path, rule).split("test")[["sample_id", "label"]] for rule in RULES]
    assert all(one.equals(found[0]) for one in found)
    assert len({read(tmp_path, rule).fingerprint for rule in RULES}) == len(RULES)


def test_disagreements_are_reported(tmp_path: Path) -> None:
    manifest = read(write(tmp_path), "majority")
    found = problems(manifest)["label_disagreement"]
    assert found.count == 3
    assert found.examples[0] == "Training_1: anger is contempt"
    assert "votes_unrecognised" in problems(manifest)
    assert manifest.release == "fer2013-csv-ferplus-majority-unrecognised"


@pytest.mark.parametrize("place", ["FERPlus-master", "deep/er", "."])
def test_the_table_of_votes_may_be_elsewhere_below_the_root(tmp_path: Path, place: str) -> None:
    write(tmp_path)
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / "fer2013new.csv").rename(tmp_path / place / "FER2013new.csv")
    assert len(read(tmp_path, "majority").samples) == 6


def test_without_the_table_of_votes(tmp_path: Path) -> None:
    (write(tmp_path) / "fer2013new.csv").unlink()
    with pytest.raises(DataError) as caught:
        read(tmp_path, "probability")
    says(caught.value, "fer2013new.csv", "github.com/microsoft/FERPlus", "dataset.labels")


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (ROWS[:-1], ("10 rows", "FER2013 has 11")),
        ([ROWS[-1], *ROWS[:-1]], ("line 2", "'PrivateTest'", "'Training'")),
    ],
)
def test_a_table_of_other_rows_is_refused(
    tmp_path: Path, rows: Sequence[tuple[str, str, dict[str, int]]], parts: Sequence[str]
) -> None:
    write(tmp_path)
    write_votes(tmp_path / "fer2013new.csv", [(usage, votes) for usage, _, votes in rows])
    with pytest.raises(DataError) as caught:
        read(tmp_path, "majority")
    says(caught.value, "'fer2013new.csv'", *parts)


def test_an_invalid_vote_is_reported_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path) / "fer2013new.csv"
    path.write_text(path.read_text().replace(",7,", ",many,", 1))
    with pytest.raises(DataError, match=r"'fer2013new\.csv', line 2: happiness is 'many'"):
        read(tmp_path, "majority")


def test_a_row_of_the_table_that_cannot_be_used_keeps_the_others_in_their_place(
    tmp_path: Path,
) -> None:
    path = write(tmp_path) / "fer2013.csv"
    lines = path.read_text().splitlines()
    lines[1] = "9," + lines[1].partition(",")[2]  # an unknown emotion
    path.write_text("\n".join(lines))
    manifest = read(tmp_path, "majority")
    assert manifest.dropped["unknown emotion"] == 1
    assert manifest.samples.set_index("sample_id")["label"]["Training_1"] == "contempt"


def test_folders_of_images_have_no_rows_to_label(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("happy", "sad", "fear", "angry", "disgust", "neutral", "surprise"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            (folder / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"needs fer2013\.csv.*found folders of images"):
        read(tmp_path, "majority")


# Classes of soft labels ------------------------------------------------------------------------


def test_contempt_that_counts_as_disgust_takes_its_share_along(tmp_path: Path) -> None:
    rows = [*ROWS, ("Training", "anger", {"anger": 4, "contempt": 3, "disgust": 3})]
    manifest = read(write(tmp_path, rows), "probability", contempt="disgust")
    assert "contempt" not in manifest.classes
    assert soft(manifest, "Training_11") == {"disgust": 0.6, "anger": 0.4}
    # Together they have more than the class that had most votes alone.
    assert manifest.samples.set_index("sample_id")["label"]["Training_11"] == "disgust"


def test_classes_left_out_leave_the_rest_a_distribution(tmp_path: Path) -> None:
    classes = {"happiness": ["happy"], "contempt": ["contempt"]}
    manifest = read(write(tmp_path), "probability", classes=classes)
    assert manifest.classes == ("happiness", "contempt")
    assert soft(manifest, "Training_0") == {"happiness": 1}
    assert manifest.dropped["class not chosen"] == 1  # the sad one


def test_what_is_made_of_the_samples_later_keeps_their_soft_labels(tmp_path: Path) -> None:
    more = [("Training", "fear", {"fear": 6, "anger": 4}) for _ in range(20)]
    more += [("Training", "sadness", {"sadness": 6, "fear": 4}) for _ in range(30)]
    more += [("PrivateTest", "fear", FEAR), ("PrivateTest", "sadness", SAD)]
    section = {"name": "fer2013", "root": write(tmp_path, more), "labels": "probability"}
    config = Dataset.model_validate(section | {"validation": 0.2, "balance": "undersample"})
    manifest = load_manifest(config)
    counts = manifest.counts()["train"]
    assert counts["fear"] == counts["sadness"] == 16
    for name, hard in zip(manifest.samples["sample_id"], manifest.samples["label"], strict=True):
        if name.startswith("Training"):
            other = {"fear": "anger", "sadness": "fear"}[hard]
            assert soft(manifest, name) == {hard: 0.6, other: 0.4}
    assert manifest.classes == ("sadness", "fear", "anger")  # anger in soft labels alone
