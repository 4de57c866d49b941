"""Training on soft labels, from the table of votes to the metrics, and beside majority labels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from layouts import Face
from layouts.fer2013 import VOTES, csv, write_votes
from typer.testing import Result

from fer_bench.config.dataset import Dataset
from fer_bench.data import decoding
from fer_bench.data.datasets.fer2013.ferplus import RULES
from fer_bench.data.load import load_manifest
from fer_bench.labels import EXPRESSIONS

pytestmark = pytest.mark.slow

Fer = Callable[..., Result]
WriteConfig = Callable[..., Path]


@pytest.fixture(scope="module")
def votes(tmp_path_factory: pytest.TempPathFactory, faces: list[Face]) -> Path:
    """`fer2013.csv` and `fer2013new.csv` of drawn faces; six votes of ten for what each shows."""
    root = tmp_path_factory.mktemp("ferplus")
    samples = csv(root, faces).samples.sort_values("sample_id", key=row_numbers)
    others = {name: VOTES[(VOTES.index(name) + 1) % 8] for name in EXPRESSIONS}
    rows = zip(samples["usage"], samples["label"], strict=True)
    write_votes(root / "fer2013new.csv", [(u, {name: 6, others[name]: 4}) for u, name in rows])
    return root


def row_numbers(ids: "pd.Series[str]") -> "pd.Series[int]":
    return ids.str.rpartition("_")[2].astype(int)


def document(tiny: dict[str, Any], root: Path, rule: str, **dataset: Any) -> dict[str, Any]:
    section = {"name": "fer2013", "root": str(root), "validation": "validation", "labels": rule}
    return tiny | {"dataset": section | dataset}


def train(fer: Fer, config: Path, outputs: Path) -> Path:
    trained = fer("train", config, "--outputs", outputs)
    assert trained.exit_code == 0, trained.output
    return outputs / trained.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("rule", RULES)
def test_it_trains_and_is_evaluated_on_hard_labels(
    rule: str,
    votes: Path,
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    tmp_path: Path,
) -> None:
    run = train(fer, write_config(document(tiny, votes, rule), rule), tmp_path)
    evaluated = fer("evaluate", run.name, "--outputs", tmp_path)
    assert evaluated.exit_code == 0, evaluated.output
    record, metrics = (
        json.loads((run / name).read_text()) for name in ("run.json", "metrics/test.json")
    )
    assert record["dataset"]["labels"] == metrics["protocol"]["labels"] == rule
    assert record["dataset"]["release"] == f"fer2013-csv-ferplus-{rule}-unrecognised"
    frame = pd.read_csv(run / "predictions/test.csv")
    assert not [name for name in frame if str(name).startswith("soft_")]
    labels = load_manifest(Dataset(**document(tiny, votes, rule)["dataset"])).split("test")
    pd.testing.assert_series_equal(frame["label"], labels["label"], check_dtype=False)
    history = pd.read_csv(run / "history.csv")
    assert np.isfinite(history["loss"]).all()
    assert history["accuracy"].between(0, 1).all()


def first_loss(run: Path) -> float:
    return float(pd.read_csv(run / "history.csv")["loss"].iloc[0])


def test_soft_targets_reach_the_loss(
    votes: Path, fer: Fer, write_config: WriteConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """What the history says is the loss of all images on their soft labels, from its definition."""
    still: dict[str, Any] = {
        "image": {"size": tiny["image"]["size"]},
        "training": {"batch_size": 64, "precision": "float32"},  # all images in one batch
        "model": {"backbone": "cnn_compact", "head": {"pooling": "avg"}},
        "stages": [{"name": "a", "train": "head", "epochs": 1, "learning_rate": 1e-12}],
    }
    runs = {
        rule: train(fer, write_config(document(tiny, votes, rule) | still, rule), tmp_path)
        for rule in RULES
    }
    for rule, run in runs.items():
        config = Dataset(**document(tiny, votes, rule)["dataset"])
        split = decoding.open_split(load_manifest(config), "train", still["image"]["size"])
        model = keras.models.load_model(run / "model.keras", compile=False)
        assert first_loss(run) == pytest.approx(loss_of(model, split, rule), rel=1e-3)
    found = {rule: first_loss(run) for rule, run in runs.items()}
    assert found["multi_target"] < found["majority"]
    assert len({round(loss, 5) for loss in found.values()}) == len(RULES)


def loss_of(model: Any, split: decoding.Split, rule: str) -> float:
    """The mean loss of all images, from its definition."""
    pixels = np.repeat(np.asarray(split.pixels, np.float32), 3, axis=-1)
    logits = model.predict(pixels, verbose=0).astype(np.float64)
    answers = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = logits.shape[1]
    shares = np.eye(classes)[split.codes] if split.soft_labels is None else split.soft_labels
    if rule == "multi_target":
        return float(-np.log((np.where(shares > 0, 1, 1e-3) * answers).max(axis=1)).mean())
    return float(-(shares * np.log(answers)).sum(axis=1).mean())


def test_a_frozen_trunk_that_is_kept_trains_the_same_on_soft_labels(
    votes: Path, fer: Fer, write_config: WriteConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    base = document(tiny, votes, "probability") | {"image": {"size": tiny["image"]["size"]}}
    base |= {"stages": tiny["stages"][:1]}
    histories = [
        pd.read_csv(
            train(fer, write_config(base | {"cache": {"trunk": trunk}}), tmp_path) / "history.csv"
        )
        for trunk in ("exact", "off")
    ]
    kept, computed = (history[["loss", "accuracy", "val_loss"]] for history in histories)
    pd.testing.assert_frame_equal(kept, computed, check_exact=False, rtol=1e-3)


@pytest.mark.parametrize("balance", ["class_weights", "oversample", "undersample"])
def test_balancing_goes_by_the_hard_label(
    balance: str,
    votes: Path,
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    tmp_path: Path,
) -> None:
    base = document(tiny, votes, "probability", balance=balance)
    base |= {"stages": tiny["stages"][:1], "training": tiny["training"] | {"label_smoothing": 0.1}}
    run = train(fer, write_config(base, balance), tmp_path)
    assert np.isfinite(pd.read_csv(run / "history.csv")["loss"]).all()
