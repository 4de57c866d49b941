"""A run and a comparison that have everything a page can show, made up without any image."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from fer_bench.compare import (
    Comparison,
    ExperimentPair,
    Group,
    LeftOut,
    NotComparable,
    Pair,
    Row,
    Seeds,
)
from fer_bench.metrics.document import compute
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.predictions import read_predictions

CLASSES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")
# A name that would run if it were not escaped.
HOSTILE = "<script>alert(1)</script>"
CORRUPTIONS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
Cell = Mapping[str, float | None]


def cell(value: float, half: float = 0.02) -> dict[str, float | None]:
    return {"value": value, "low": value - half, "high": value + half}


def write_run(path: Path, images: int = 350) -> RunDirectory:
    """A finished run with two evaluations and whatever can stand beside them.

    Its PNG figures are empty files that count as drawn: they are no part of the page.
    """
    run = RunDirectory(path)
    for folder in ("predictions", "metrics", "corruptions", "explanations/test"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    counts = {split: dict(zip(CLASSES, sizes, strict=True)) for split, sizes in _SIZES.items()}
    record = {
        "run_id": run.run_id,
        "name": "filled",
        "seed": 1,
        "status": "finished",
        "started": "2026-11-22T06:24:31+00:00",
        "device": "cpu: 2 cores",
        "dataset": {
            "name": HOSTILE,
            "release": "v1",
            "fingerprint": "ab" * 32,
            "classes": CLASSES,
            "counts": counts,
        },
        "model": {
            "backbone": "cnn_slides",
            "weights": "none",
            "parameters": 1_234_567,
            "trainable_parameters": [1000, 2000],
            "first_trainable_layer": ["logits", None],
        },
        "best": {"epoch": 17, "metric": "val_macro_f1", "value": 0.3},
        "seconds": 11.0,
        "images_per_second": 95.0,
        "versions": {"keras": "3.15.1"},
    }
    run.run_json.write_text(json.dumps(record))
    run.config.write_text("seed: 1\nselection: test_split\n")
    _history().to_csv(run.history, index=False)
    for name, seed in (("test", 0), ("test+flip", 1)):
        frame = _predictions(images, seed)
        frame.to_csv(run.predictions(name), index=False)
        document = compute(read_predictions(run.predictions(name)), resamples=50)
        run.metrics(name).write_text(json.dumps(_completed(document, name)))
    (path / "corruptions" / "test.json").write_text(json.dumps(robustness()))
    for sheet in ("mean_maps", "mistakes"):
        Image.new("RGB", (320, 90), "navy").save(path / "explanations" / "test" / f"{sheet}.png")
    _put_figures(run)
    explained = {"layer": "conv_5", "mean_maps": {name: {"n": 20} for name in CLASSES}}
    (path / "explanations" / "test" / "explanations.json").write_text(json.dumps(explained))
    return run


def _put_figures(run: RunDirectory) -> None:
    kinds = ("confusion_matrix_{}", "valence_arousal_{}", "robustness_{}", "learning_curves")
    run.figures.mkdir(exist_ok=True)
    for kind in kinds:
        for name in ("test", "test+flip"):
            path = run.figures / f"{kind.format(name)}.png"
            path.touch()
            os.utime(path, (time.time() + 3600,) * 2)


_SIZES = {
    "train": (4468, 6493, 4347, 2854, 3687, 392, 3595),
    "validation": (497, 722, 483, 317, 410, 44, 400),
    "test": (607, 895, 653, 415, 496, 56, 467),
}


def _history() -> pd.DataFrame:
    epoch = np.arange(1, 25)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "stage": np.array(["head", "last20", "last45"])[(epoch > 4) * 1 + (epoch > 6) * 1],
            "learning_rate": 1e-3 * 0.8**epoch,
            "loss": 1.9 * 0.93**epoch,
            "accuracy": 1 - 0.9**epoch,
            "val_loss": 0.8 + 0.93**epoch,
            "val_accuracy": 0.65 * (1 - 0.85**epoch),
            "val_macro_f1": 0.6 * (1 - 0.85**epoch),
            "images_per_second": 100.0,
            "seconds": 5.0,
        }
    )


def _predictions(images: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    labels = np.arange(images) % len(CLASSES)
    logits = random.normal(size=(images, len(CLASSES))) * 1.2
    logits[np.arange(images), labels] += 1.8
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = random.uniform(-1, 1, (images, 2))
    predicted = np.clip(0.7 * true + random.normal(0, 0.25, true.shape), -1, 1)
    axes = {"valence": true[:, 0], "arousal": true[:, 1]}
    axes |= {"valence_predicted": predicted[:, 0], "arousal_predicted": predicted[:, 1]}
    names = np.array(CLASSES)
    frame = {"sample_id": [f"{i:04d}" for i in range(images)], "label": names[labels]}
    frame["predicted"] = names[probabilities.argmax(axis=1)]
    frame |= {f"p_{name}": probabilities[:, i] for i, name in enumerate(CLASSES)}
    return pd.DataFrame(frame | axes)


def _completed(document: dict[str, Any], name: str) -> dict[str, Any]:
    """A metrics document with every key that may be absent."""
    headline = {key: entry for key, entry in document.items() if _is_cell(entry)}
    for entry in document["per_class"]:
        entry.setdefault("average_precision", 0.7)
        entry["intervals"] = {
            part: {"low": max(entry[part] - 0.06, 0), "high": min(entry[part] + 0.05, 1)}
            for part in ("precision", "recall", "f1", "auc")
        }
    calibrated = {key: cell(0.09, 0.01) for key in ("nll", "brier", "ece", "ece_adaptive")}
    return document | {
        "macro_recall": cell(0.6),
        "temperature": {
            "value": 0.7,
            "fitted_on": "validation",
            "n": 700,
            "before": calibrated,
            "after": calibrated,
        },
        "without_twins": {
            "n": document["n"] - 12,
            "left_out": 12,
            "relation": "exact or near copy in train",
            **headline,
        },
        "subgroups": [
            _subgroup("gender", {"female": 0.66, "male": 0.62, "unsure": 0.6}),
            _subgroup("age", {"0-3": 0.7, "4-19": 0.6, "20-39": 0.64, "40-69": 0.61}),
        ],
        "protocol": {
            "dataset": HOSTILE,
            "release": "v1",
            "dataset_fingerprint": "ab" * 32,
            "split": name.partition("+")[0],
            "classes": CLASSES,
            "views": "flip" if "flip" in name else "none",
            "class_rule": "mask_logits",
            "selection": "test_split",
        },
        "warnings": [f"contaminated: {HOSTILE} shares images with what it was trained on"],
    }


def _is_cell(entry: object) -> bool:
    return isinstance(entry, dict) and {"value", "low", "high"} <= entry.keys()


def _subgroup(attribute: str, groups: Mapping[str, float]) -> dict[str, Any]:
    return {
        "attribute": attribute,
        "least": 20,
        "groups": [
            {"name": name, "n": 200, "accuracy": cell(value), "macro_f1": cell(value - 0.05)}
            for name, value in groups.items()
        ],
        "suppressed": [{"name": "70+", "n": 7}],
        "worst": dict.fromkeys(
            ("accuracy", "macro_f1"), min(groups, key=lambda name: groups[name])
        ),
        "difference": {"accuracy": cell(0.05), "macro_f1": cell(0.06)},
        "ratio": {"accuracy": cell(0.95), "macro_f1": cell(0.93)},
    }


def robustness() -> dict[str, Any]:
    graded = [
        {
            "corruption": name,
            "family": family,
            "severity": severity,
            "accuracy": cell(0.66 - 0.02 * place - 0.07 * severity),
        }
        for family, names in CORRUPTIONS.items()
        for place, name in enumerate(names)
        for severity in range(1, 6)
    ]
    hidden = [
        {"corruption": part, "family": "occlusion", "severity": None, "accuracy": cell(0.5)}
        for part in ("eyes", "mouth")
    ]
    return {
        "n": 700,
        "complete": True,
        "clean": cell(0.65),
        "conditions": [*graded, *hidden],
        "mean_corruption_accuracy": cell(0.41),
        "relative_drop": cell(0.37),
        "by_corruption": {name: cell(0.4) for names in CORRUPTIONS.values() for name in names},
        "fingerprint": "f" * 64,
        "seed": 0,
    }


# A comparison ----------------------------------------------------------------------------------


def row(name: str, accuracy: float, **facts: Any) -> Row:
    known: dict[str, Any] = {
        "run_id": f"{name}-s42-0a1b2c3d",
        "name": name,
        "seed": 42,
        "status": "finished",
        "dataset": "opencv_emotion",
        "backbone": "cnn_compact",
        "weights": "none",
        "parameters": 1_582_567,
        "image_size": 48,
        "selection_metric": "val_macro_f1",
        "n": 3589,
        "metrics": {"accuracy": cell(accuracy, 0.015), "macro_f1": cell(accuracy - 0.04)},
        "images_per_second": 200.0,
        "seconds": 3398.2,
        "letter": "a",
    }
    return Row(**(known | facts))


def comparison() -> Comparison:
    """Two groups; the first with seeds, pairs, published numbers and a hostile name."""
    parameters = (1_582_567, 20_100_000, 23_900_000, 66_000, 118_000_000)
    rows = tuple(
        row(
            name,
            0.66 - 0.013 * place,
            parameters=parameters[place],
            images_per_second=60.0 + 90 * place,
            letter="ab"[place // 3],
            backbone=("cnn_compact", "vgg16", "resnet50", "cnn_pisa", "efficientnetv2l")[place],
        )
        for place, name in enumerate(
            ("compact", "transfer_last20", "transfer_head", HOSTILE, "transfer_all")
        )
    )
    adopted = row(
        "adopted",
        0.58,
        parameters=None,
        images_per_second=None,
        seconds=None,
        image_size=None,
        weights="adopted",
        selection="unknown",
        selection_metric=None,
        letter="",
    )
    rows = (*rows, adopted)
    pairs = tuple(
        Pair(
            rows[i].run_id,
            rows[j].run_id,
            metric,
            rows[i].value(metric) - rows[j].value(metric),
            -0.01,
            0.04,
            0.3 / (j - i) ** 3,
            min(1.0, 0.9 / (j - i) ** 3),
            "exact McNemar",
        )
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
        for metric in ("accuracy", "macro_f1")
    )
    spread = {"mean": 0.65, "sd": 0.004, "values": [0.648, 0.65, 0.652]}
    seeds = tuple(
        Seeds(name, ("a", "b", "c"), (42, 43, 44), {"accuracy": spread, "macro_f1": spread})
        for name in ("compact", "transfer_last20")
    )
    experiments = (
        ExperimentPair(
            *("compact", "transfer_last20", "accuracy", 0.013, 0.002, 0.024, 0.01, 0.02),
            "hierarchical bootstrap (seeds x images)",
            (3, 3),
        ),
    )
    published = (
        {
            "name": "compact",
            "source": "slides",
            "metric": "val_accuracy",
            "value": 0.6622,
            "caveat": "dataset not named; split sizes not printed",
            "n": None,
            "low": None,
            "high": None,
            "ours": None,
            "verdict": "cannot be compared",
            "reason": "measured on another split than the one in this table",
        },
        {
            "name": "compact",
            "source": "pisa",
            "metric": "accuracy",
            "value": 0.3431,
            "caveat": None,
            "n": 306,
            "low": 0.292,
            "high": 0.398,
            "ours": 0.65,
            "verdict": "better",
            "reason": "the interval of the difference leaves zero out",
        },
    )
    first = Group(
        test_fingerprint="5e" * 32,
        n=3589,
        runs=rows,
        pairs=pairs,
        seeds=seeds,
        published=published,
        half_width=0.0155,
        classes=CLASSES,
        experiments=experiments,
        smallest_difference=0.021,
    )
    second = Group(
        test_fingerprint="5e" * 32,
        n=3589,
        runs=(row("chosen", 0.7, selection="test_split", letter=""),),
        pairs=(),
        seeds=(),
        published=(),
        half_width=0.0155,
        classes=CLASSES,
        selection="test_split",
    )
    reason = "not comparable: the model was chosen on the test split"
    left_out = LeftOut("late", "not <finished> (status: running); go on with `fer train`")
    return Comparison("test", (first, second), (left_out,), (NotComparable((0, 1), reason),))
