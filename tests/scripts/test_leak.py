"""`scripts/leak.py`: rotated copies as files, and the effect of splitting them by file."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layouts import Face
from layouts.opencv_emotion import opencv_emotion
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import leak

from fer_bench.config.dataset import Dataset
from fer_bench.data.load import load_manifest
from fer_bench.runs.directory import RunDirectory
from fer_bench.sweep.suite import load_suite


@pytest.fixture
def copies(tmp_path: Path, faces: list[Face], monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The photograph of each copy, in the current folder."""
    layout = opencv_emotion(tmp_path / "faces", faces)
    monkeypatch.chdir(tmp_path)
    manifest = load_manifest(Dataset(**layout.dataset))
    for copies in (leak.FAR, leak.NEAR):
        count = leak.write(manifest, per_class=1_000, copies=copies)
        assert len(pd.read_csv(copies.photographs)) == count
    return pd.read_csv(leak.FAR.photographs)


def test_two_copies_of_each_photograph_but_one_of_the_large_classes(copies: pd.DataFrame) -> None:
    labels = copies["sample_id"].str.partition("/")[0]
    number = copies.groupby([labels, "group"]).size()
    assert (number[["happiness", "neutral"]] == 1).all()
    assert (number.drop(["happiness", "neutral"], level=0) == 2).all()
    folder = leak.FAR.folder
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    assert files == set(copies["sample_id"])


def test_copies_are_as_far_apart_as_they_say(copies: pd.DataFrame) -> None:
    name = next(name for name in copies["sample_id"] if name.endswith("_-20.png"))

    def difference(copies: leak.Copies) -> float:
        first, second = (name.replace("-20", f"{sign * copies.degrees:+d}") for sign in (1, -1))
        images = [
            np.asarray(Image.open(copies.folder / file), float)[16:32, 16:32]
            for file in (first, second)
        ]
        return float(np.abs(images[0] - images[1]).mean())

    assert 0 < 3 * difference(leak.NEAR) < difference(leak.FAR)


@pytest.mark.usefixtures("copies")
@pytest.mark.parametrize("trained", leak.TRAINED)
def test_only_the_division_differs(trained: str) -> None:
    copies, *names = leak.TRAINED[trained]
    runs = {run.experiment.name: run for run in load_suite(leak.SUITE).runs}
    photographs = pd.read_csv(copies.photographs).set_index("sample_id")["group"]
    divided, experiments = [], []
    for name in names:
        manifest = load_manifest(runs[name].experiment.dataset)
        assert manifest.root == copies.folder
        samples = manifest.samples
        assert set(samples["sample_id"]) == set(photographs.index)
        splits = samples.groupby(samples["sample_id"].map(photographs))["split"].nunique()
        divided.append(int((splits > 1).sum()))
        experiments.append(runs[name].experiment.model_dump())
    assert divided[0] > 0
    assert divided[1] == 0
    first, second = experiments
    assert first["dataset"].pop("groups") != second["dataset"].pop("groups")
    assert first.pop("name") != second.pop("name")
    assert first == second


def test_answers_know_which_images_have_a_copy_in_training(
    copies: pd.DataFrame, tmp_path: Path
) -> None:
    runs = load_suite(leak.SUITE).runs[:2]
    groups = dict(zip(copies["sample_id"], copies["group"], strict=True))
    manifest = load_manifest(runs[0].experiment.dataset)
    test = manifest.split("test").sort_values("sample_id")
    for run in runs:
        table = test[["sample_id", "label"]].assign(predicted=manifest.classes[0])
        for name in manifest.classes:
            table[f"p_{name}"] = float(name == manifest.classes[0])
        path = RunDirectory(tmp_path / run.run_id).predictions("test")
        path.parent.mkdir(parents=True)
        table.to_csv(path, index=False)
    answers = leak.answers(runs, tmp_path, groups)
    trained = {groups[name] for name in manifest.split("train")["sample_id"]}
    twice = copies["group"].value_counts() > 1
    assert answers.twofold.tolist() == [bool(twice[groups[name]]) for name in test["sample_id"]]
    assert answers.copied.tolist() == [groups[name] in trained for name in test["sample_id"]]
    assert answers.correct.tolist() == [(test["label"] == manifest.classes[0]).tolist()] * 2


def made_up(with_copies: float, memory: float, skill: float, seed: int) -> leak.Answers:
    """1,000 photographs of two images each, right on so many with a copy and so many without."""
    generator = np.random.default_rng(seed)
    copied = generator.uniform(size=2_000) < with_copies
    correct = generator.uniform(size=(3, 2_000)) < np.where(copied, memory, skill)
    return leak.Answers(correct, np.repeat(np.arange(1_000), 2), np.ones(2_000, bool), copied)


def test_the_leak_is_estimated() -> None:
    *_, sentence = leak.summary(made_up(0.5, 0.9, 0.5, 1), made_up(0.0, 0.9, 0.5, 2))
    low, high = (float(number) for number in sentence.partition("[")[2].split("]")[0].split(", "))
    assert low < 20 < high
    assert low > 10
    copied = float(sentence.partition("classify ")[2].partition("%")[0])
    assert 80 < copied < 100


@pytest.mark.slow
def test_without_a_leak_the_interval_holds_zero() -> None:
    *_, sentence = leak.summary(made_up(0.5, 0.6, 0.6, 1), made_up(0.0, 0.6, 0.6, 2))
    low, high = (float(number) for number in sentence.partition("[")[2].split("]")[0].split(", "))
    assert low < 0 < high


def test_there_are_no_results_before_all_runs_are_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["leak.py", "tell", "--outputs", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"(?s)error: .*: 19 of 19 runs.*fer sweep"):
        leak.main()
