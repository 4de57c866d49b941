"""`fer explain`: which images it takes, what it writes, and how it ends."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import says
from PIL import Image
from typer.testing import Result

from fer_bench.config.loading import load_experiment
from fer_bench.data.load import load_manifest
from fer_bench.evaluation.explain import choose_averaged, choose_correct, choose_mistakes
from fer_bench.evaluation.grad_cam import class_maps
from fer_bench.labels import EXPRESSIONS

Fer = Callable[..., Result]
FILES = {"correct.png", "mistakes.png", "mean_maps.png", "maps.npz", "explanations.json"}

# Which images ----------------------------------------------------------------------------------


def table(rows: list[tuple[int, int, float]]) -> pd.DataFrame:
    answers = pd.DataFrame(rows, columns=["label", "predicted", "probability"])
    answers.insert(0, "sample_id", [f"id{row}" for row in range(len(rows))])
    return answers


ANSWERS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([0.4, 0.5, 0.9, 0.99])),
    max_size=30,
).map(table)


@given(answers=ANSWERS, number=st.integers(0, 12))
def test_right_answers_are_spread_over_the_classes(answers: pd.DataFrame, number: int) -> None:
    chosen = choose_correct(answers, number)
    right = answers[answers["label"] == answers["predicted"]]
    assert set(chosen.index) <= set(right.index)
    assert len(chosen) == len(set(chosen.index)) == min(number, len(right))
    assert list(chosen["label"]) == sorted(chosen["label"])
    counts = {code: int((chosen["label"] == code).sum()) for code in set(right["label"])}
    for code, count in counts.items():
        of_class = right[right["label"] == code]["probability"]
        best = sorted(of_class, reverse=True)[:count]
        assert list(chosen[chosen["label"] == code]["probability"]) == best
        # A class with fewer has no more to give.
        assert count >= max(counts.values()) - 1 or count == len(of_class)


@given(answers=ANSWERS, number=st.integers(0, 12))
def test_mistakes_are_the_most_confident(answers: pd.DataFrame, number: int) -> None:
    chosen = choose_mistakes(answers, number)
    wrong = answers[answers["label"] != answers["predicted"]]
    assert set(chosen.index) <= set(wrong.index)
    expected = sorted(wrong["probability"], reverse=True)[:number]
    assert list(chosen["probability"]) == expected


@given(answers=ANSWERS, most=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_a_mean_is_over_so_many_right_answers(answers: pd.DataFrame, most: int, seed: int) -> None:
    chosen = choose_averaged(answers, most, seed)
    right = answers[answers["label"] == answers["predicted"]]
    assert set(chosen.index) <= set(right.index)
    assert len(chosen) == len(set(chosen.index))
    for code in range(4):
        available = int((right["label"] == code).sum())
        assert (chosen["label"] == code).sum() == min(available, most)
    assert list(choose_averaged(answers, most, seed).index) == list(chosen.index)


def test_the_confident_ones_are_not_preferred_in_a_mean() -> None:
    answers = table([(0, 0, row / 100) for row in range(100)])
    drawn = [choose_averaged(answers, 50, seed)["probability"].mean() for seed in range(40)]
    assert np.mean(drawn) == pytest.approx(0.495, abs=0.03)
    assert len(set(drawn)) > 30


# What is written -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def explained(
    trained_run: Path, fer: Fer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    """A copy of the trained run with its explanations of 10 examples, and what was printed."""
    outputs = tmp_path_factory.mktemp("explained")
    run = Path(shutil.copytree(trained_run, outputs / trained_run.name))
    result = fer("explain", run.name, "-n", 10, "--outputs", outputs, "--device", "cpu")
    assert result.exit_code == 0, result.output
    return run, result


@pytest.fixture
def copied_run(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / trained_run.name))


def document_of(run: Path, split: str = "test") -> dict[str, Any]:
    text = (run / "explanations" / split / "explanations.json").read_text()
    document: dict[str, Any] = json.loads(text)
    return document


def right_and_wrong(run: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    predictions = pd.read_csv(run / "predictions" / "test.csv")
    is_right = predictions["label"] == predictions["predicted"]
    return predictions[is_right], predictions[~is_right]


def test_the_files_and_the_output(explained: tuple[Path, Result]) -> None:
    run, result = explained
    folder = run / "explanations" / "test"
    assert {path.name for path in folder.iterdir()} == FILES
    for name in ("correct", "mistakes", "mean_maps"):
        with Image.open(folder / f"{name}.png") as image:
            assert min(image.size) > 150
        assert str(folder / f"{name}.png") in result.stderr
        assert f"{name}.png" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    says(result.stderr, "the output of re_lu", "3 × 3 places", "a map of so few places")


def test_the_document(explained: tuple[Path, Result]) -> None:
    run, _ = explained
    document, (right, wrong) = document_of(run), right_and_wrong(run)
    assert set(document) == {"layer", "split", "examples", "mean_maps"}
    assert document["split"] == "test"
    kinds = [example["kind"] for example in document["examples"]]
    assert kinds == ["correct"] * 5 + ["mistake"] * 5
    saved = pd.concat([right, wrong]).set_index("sample_id")
    for example in document["examples"]:
        row = saved.loc[example["sample_id"]]
        assert (example["label"], example["predicted"]) == (row["label"], row["predicted"])
        assert example["probability"] == pytest.approx(row[f"p_{row['predicted']}"], abs=1e-5)
    worst = wrong.filter(like="p_").max(axis=1).max()
    assert document["examples"][5]["probability"] == pytest.approx(worst, abs=1e-5)
    counts = right["label"].value_counts()
    assert document["mean_maps"] == {name: {"n": counts.get(name, 0)} for name in EXPRESSIONS}


def test_the_mean_maps_are_means_over_right_answers(explained: tuple[Path, Result]) -> None:
    run, _ = explained
    right, _ = right_and_wrong(run)
    model = keras.models.load_model(run / "model.keras", compile=False)
    manifest = load_manifest(load_experiment(run / "config.yaml").dataset)
    paths = manifest.split("test").set_index("sample_id")["path"][right["sample_id"]]
    images = np.stack(
        [np.asarray(Image.open(manifest.root / path).convert("RGB")) for path in paths]
    )
    codes = np.array([EXPRESSIONS.index(name) for name in right["label"]])
    maps = class_maps(model, images, codes)
    with np.load(run / "explanations" / "test" / "maps.npz") as saved:
        assert list(saved["classes"]) == list(EXPRESSIONS)
        assert saved["maps"].shape == (8, len(saved["rows"]), len(saved["columns"]))
        assert 0 < saved["columns"][0] < saved["columns"][-1] < len(images[0])
        for code, (n, mean) in enumerate(zip(saved["n"], saved["maps"], strict=True)):
            assert n == (codes == code).sum()
            expected = maps[codes == code].mean(axis=0) if n else np.zeros_like(mean)
            np.testing.assert_allclose(mean, expected, atol=1e-4)


@pytest.mark.slow
def test_again_with_other_numbers(explained: tuple[Path, Result], fer: Fer, tmp_path: Path) -> None:
    run = Path(shutil.copytree(explained[0], tmp_path / explained[0].name))
    folder = run / "explanations" / "test"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert fer("explain", run.name, "-n", 10, "--outputs", tmp_path).exit_code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    result = fer("explain", run.name, "-n", 1, "--outputs", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == document_of(run)
    assert len(document_of(run)["examples"]) == 1
    assert {path.name for path in folder.iterdir()} == FILES - {"mistakes.png"}


# What is refused -------------------------------------------------------------------------------


def refused(fer: Fer, run: Path, *arguments: object) -> str:
    result = fer("explain", run.name, "--outputs", run.parent, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert not (run / "explanations").exists()
    return " ".join(result.stderr.split())


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_run_that_is_not_finished(fer: Fer, copied_run: Path) -> None:
    rewrite(copied_run / "run.json", '"finished"', '"interrupted"')
    says(refused(fer, copied_run), copied_run.name, "(status: interrupted)", "fer train")


def test_an_adopted_run(fer: Fer, copied_run: Path) -> None:
    rewrite(copied_run / "run.json", '"weights": "none"', '"weights": "adopted"')
    (copied_run / "model.keras").unlink()
    says(refused(fer, copied_run), copied_run.name, "no model", "fer adopt")


def test_a_run_whose_model_is_lost(fer: Fer, copied_run: Path) -> None:
    (copied_run / "model.keras").unlink()
    says(refused(fer, copied_run), copied_run / "model.keras", "--fresh")


def test_a_split_that_was_not_evaluated(fer: Fer, copied_run: Path) -> None:
    advice = f"fer evaluate {copied_run.name} --split train --outputs"
    says(refused(fer, copied_run, "--split", "train"), "no predictions", advice)


def test_an_unknown_split(fer: Fer, copied_run: Path) -> None:
    says(refused(fer, copied_run, "--split", "tset"), "tset", "train, validation, test")


def test_predictions_of_other_images(fer: Fer, copied_run: Path) -> None:
    path = copied_run / "predictions" / "test.csv"
    frame = pd.read_csv(path)
    frame.loc[3, "sample_id"] = "elsewhere/1.png"
    frame.to_csv(path, index=False)
    says(refused(fer, copied_run), path, "'elsewhere/1.png'", "fer evaluate")


def test_predictions_without_expression(fer: Fer, copied_run: Path) -> None:
    path = copied_run / "predictions" / "test.csv"
    frame = pd.read_csv(path)[["sample_id", "label"]]
    frame[["valence", "arousal", "valence_predicted", "arousal_predicted"]] = 0.5
    frame.to_csv(path, index=False)
    says(refused(fer, copied_run), copied_run.name, "no expression", "model.targets")
