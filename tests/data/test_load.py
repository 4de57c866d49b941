"""From a release to the samples of an experiment: leaving out, merging, dividing, balancing."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from layouts import Face, folder, list_
from messages import says

from fer_bench.config.dataset import Dataset
from fer_bench.data.load import load_manifest, read_release
from fer_bench.data.manifest import Manifest
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS
from fer_bench.registry import DATASETS

SPLIT = {"train": 0.5, "validation": 0.25, "test": 0.25}


@pytest.fixture
def drawn(drawn_root: Path) -> dict[str, Any]:
    return {"name": "drawn", "root": str(drawn_root), "validation": 0.25}


def load(section: dict[str, Any], **keys: Any) -> Manifest:
    return load_manifest(Dataset.model_validate(section | keys))


def ids(manifest: Manifest, split: str) -> set[str]:
    return set(manifest.split(split)["sample_id"])


def csv(path: Path, **columns: list[str]) -> str:
    pd.DataFrame(columns).to_csv(path, index=False)
    return str(path)


def test_the_official_test_split_stays_as_it_is(drawn: dict[str, Any]) -> None:
    official = read_release(Dataset.model_validate(drawn))
    for keys in ({}, {"balance": "undersample"}, {"split_seed": 5}, {"expand": 400}):
        assert ids(load(drawn, **keys), "test") == ids(official, "test")


# exclude ---------------------------------------------------------------------------------------


def test_excluded_samples_are_gone_and_counted(drawn: dict[str, Any], tmp_path: Path) -> None:
    some = sorted(ids(load(drawn), "train"))[:3] + sorted(ids(load(drawn), "test"))[:1]
    listed = csv(tmp_path / "q.csv", sample_id=some, reason=["x"] * 4)
    manifest = load(drawn, exclude=listed)
    assert not set(manifest.samples["sample_id"]) & set(some)
    assert manifest.dropped == {"excluded": 4}
    assert len(manifest.samples) == 140
    assert manifest.fingerprint != load(drawn).fingerprint


def test_ids_of_another_dataset_are_refused(drawn: dict[str, Any], tmp_path: Path) -> None:
    listed = csv(tmp_path / "q.csv", sample_id=["train_00001", "train_00002"])
    with pytest.raises(DataError, match=r"2 of its 2 sample ids are not in dataset 'drawn': train"):
        load(drawn, exclude=listed)


@pytest.mark.parametrize("key", ["exclude", "groups"])
def test_a_missing_list_is_named(drawn: dict[str, Any], tmp_path: Path, key: str) -> None:
    with pytest.raises(DataError, match=r"'none\.csv' is missing"):
        load(drawn, **{key: str(tmp_path / "none.csv")})
    with pytest.raises(DataError, match=r"no such folder[\s\S]*none\.csv"):
        load(drawn, **{key: str(tmp_path / "nowhere" / "none.csv")})


# groups ----------------------------------------------------------------------------------------


def test_samples_of_one_group_are_never_divided(drawn: dict[str, Any], tmp_path: Path) -> None:
    train = read_release(Dataset.model_validate(drawn)).split("train")
    names = [f"{label}-{i % 5}" for i, label in enumerate(train["label"])]
    listed = csv(tmp_path / "g.csv", sample_id=train["sample_id"].tolist(), group=names)
    manifest = load(drawn, groups=listed)
    in_train = manifest.samples[manifest.samples["split"] != "test"]
    assert (in_train.groupby("group")["split"].nunique() == 1).all()
    assert ids(manifest, "validation") != ids(load(drawn), "validation")


def test_groups_of_a_file_join_those_of_the_release(faces: list[Face], tmp_path: Path) -> None:
    written = folder.people(tmp_path / "data", faces)
    released = DATASETS["folder"].read(Dataset.model_validate(written.dataset)).samples
    people = released.dropna(subset="group").groupby("group")["sample_id"].first()
    first, second = people.iloc[0], people.iloc[1]
    listed = csv(tmp_path / "g.csv", sample_id=[first, second], group=["twins", "twins"])
    samples = load(written.dataset, split=SPLIT, groups=listed).samples.set_index("sample_id")
    members = released.set_index("sample_id")["group"].isin(people.index[:2])
    assert samples.loc[members[members].index, "group"].nunique() == 1
    assert samples.loc[members[members].index, "split"].nunique() == 1


# contempt --------------------------------------------------------------------------------------


def test_contempt_can_be_left_out(drawn: dict[str, Any]) -> None:
    manifest = load(drawn, contempt="drop")
    assert manifest.classes == EXPRESSIONS[:7]
    assert manifest.dropped == {"contempt": 18}
    assert len(manifest.samples) == 126


def test_contempt_can_count_as_disgust(drawn: dict[str, Any]) -> None:
    manifest = load(drawn, contempt="disgust")
    assert manifest.classes == EXPRESSIONS[:7]
    assert manifest.counts()["test"]["disgust"] == 12
    assert len(manifest.samples) == 144


def test_a_dataset_without_contempt_has_none_to_leave_out(
    faces: list[Face], tmp_path: Path
) -> None:
    written = folder.flat(tmp_path, [face for face in faces if face.label != "contempt"])
    with pytest.raises(DataError, match="has no class contempt"):
        load(written.dataset, split=SPLIT, contempt="drop")


# absent classes --------------------------------------------------------------------------------


def test_a_class_without_any_image_is_left_out(drawn: dict[str, Any], tmp_path: Path) -> None:
    rows = read_release(Dataset.model_validate(drawn)).samples
    fear = rows[rows["label"] == "fear"]["sample_id"].tolist()
    manifest = load(drawn, exclude=csv(tmp_path / "q.csv", sample_id=fear))
    assert "fear" not in manifest.classes
    assert len(manifest.classes) == 7
    (problem,) = manifest.problems
    assert (problem.kind, problem.examples) == ("class_absent", ("fear",))


def test_one_class_alone_is_nothing_to_learn(drawn: dict[str, Any], tmp_path: Path) -> None:
    rows = read_release(Dataset.model_validate(drawn)).samples
    others = rows[rows["label"] != "fear"]["sample_id"].tolist()
    with pytest.raises(DataError, match="all images show fear"):
        load(drawn, exclude=csv(tmp_path / "q.csv", sample_id=others))


# splits ----------------------------------------------------------------------------------------


def test_a_dataset_without_splits_is_divided_as_asked(faces: list[Face], tmp_path: Path) -> None:
    written = folder.flat(tmp_path, faces)
    manifest = load(written.dataset, split=SPLIT)
    assert manifest.split_sizes() == {"train": 48, "validation": 24, "test": 24}
    for of in manifest.counts().values():
        assert len(set(of.values())) == 1
    other = load(written.dataset, split=SPLIT, split_seed=1)
    assert ids(other, "test") != ids(manifest, "test")


@pytest.mark.parametrize(
    ("writer", "keys", "message"),
    [
        (
            folder.flat,
            {"validation": 0.1},
            r"no test split; it has train \(96\)",
        ),
        (
            folder.split,
            {"split": SPLIT},
            r"has splits of its own \(train",
        ),
        (folder.split, {"validation": 0.1}, r"validation split of its own \(\d+ images\)"),
    ],
)
def test_splits_that_do_not_fit_the_release(
    writer: Any, keys: dict[str, Any], message: str, faces: list[Face], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        load(writer(tmp_path, faces).dataset, **keys)


def test_a_fraction_is_of_the_training_split_alone(drawn: dict[str, Any]) -> None:
    whole, part = load(drawn), load(drawn, fraction=0.25)
    for split in ("validation", "test"):
        assert ids(part, split) == ids(whole, split)
    assert ids(part, "train") < ids(whole, "train")
    counts, before = part.counts()["train"], whole.counts()["train"]
    assert all(abs(counts[name] - before[name] / 4) <= 0.5 for name in before)
    assert part.dropped["not_in_fraction"] == len(ids(whole, "train")) - len(ids(part, "train"))
    # Run ids of experiments without it stay as they are.
    assert "fraction" not in Dataset.model_validate(drawn).model_dump()


def test_a_list_that_lost_its_training_rows_is_named(tmp_path: Path, faces: list[Face]) -> None:
    section = list_.csv(tmp_path, faces).dataset | {"table": "labels.csv"}
    table = tmp_path / "labels.csv"
    rows = pd.read_csv(table)
    rows.assign(split="test").to_csv(table, index=False)
    with pytest.raises(DataError) as raised:
        load(section, validation=0.1)
    says(raised.value, table, "no training split", "test")


def test_a_release_without_a_validation_split_has_none_to_use(drawn: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="no validation split of its own"):
        load(drawn, validation="validation")


# balance and expansion -------------------------------------------------------------------------


@pytest.mark.parametrize(("per_class", "left"), [(None, 8), (5, 5), (7, 7), (50, 9)])
def test_undersampling_keeps_at_most_so_many(
    drawn: dict[str, Any], tmp_path: Path, per_class: int | None, left: int
) -> None:
    rows = load(drawn).split("train")
    fear = rows[rows["label"] == "fear"]["sample_id"].iloc[0]
    listed = csv(tmp_path / "q.csv", sample_id=[fear])
    keys = {"balance": "undersample", "per_class": per_class, "exclude": listed}
    counts = load(drawn, **keys).counts()
    assert max(counts["train"].values()) == left
    assert counts["train"]["fear"] == min(left, 8)
    assert sum(counts["test"].values()) == 48


def test_expanding_to_less_than_there_is_makes_no_sense(drawn: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        load(drawn, expand=71)
    says(caught.value, "dataset.expand", 71, 72)
    assert load(drawn, expand=72).split_sizes()["train"] == 72
