"""`fer explain`: where a finished run looks when it is right, when it is wrong, and by class."""

import io
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_bench.data import decoding, pipeline
from fer_bench.data.manifest import Manifest
from fer_bench.device.selection import Device
from fer_bench.display import Display
from fer_bench.errors import RunError
from fer_bench.evaluation.grad_cam import BATCH, class_maps, last_feature_map
from fer_bench.evaluation.protocol import TrainedRun
from fer_bench.evaluation.trained_model import TrainedModel, open_trained_model
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.predictions import read_predictions
from fer_bench.storage.files import write_atomically, write_json

# So many images at most make the mean map of a class.
MEAN_OF = 200
# With fewer places along a side, a map hardly tells one part of a face from another.
COARSE = 4

Images = NDArray[np.uint8]
Map = NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """An image, what the run said about it, and where it saw that.

    Attributes:
        sample_id: its name in the dataset.
        label: the true class.
        predicted: the class that the run predicted.
        probability: that of `predicted`, in [0, 1].
        image: as the network gets it, RGB, shape (size, size, 3).
        maps: by class, values in [0, 1], shape (h, w): that of the one class where the run was
            right; else that of the true class and then that of the predicted one.
    """

    sample_id: str
    label: str
    predicted: str
    probability: float
    image: Images
    maps: dict[str, Map]

    @property
    def kind(self) -> str:
        """`correct` or `mistake`."""
        return "correct" if self.label == self.predicted else "mistake"


@dataclass(frozen=True)
class MeanMap:
    """The mean of the maps of `n` images of one class, in [0, 1], shape (h, w); 0 without any."""

    name: str
    n: int
    map: Map


@dataclass(frozen=True)
class Explanation:
    """What `fer explain` found.

    Attributes:
        run_id: the run.
        split: whose images were used.
        folder: where the files are.
        document: the content of `explanations.json`.
        examples: right answers by class, then mistakes, the most confident first.
        mean_maps: one for each class, over images that were classified rightly.
    """

    run_id: str
    split: str
    folder: Path
    document: dict[str, Any]
    examples: tuple[Example, ...]
    mean_maps: tuple[MeanMap, ...]


def explain(
    trained: TrainedRun,
    manifest: Manifest,
    split: str,
    number: int,
    device: Device,
    display: Display,
) -> Explanation:
    """Compute Grad-CAM maps of at most `number` examples, and the mean map of each class.

    Half of the examples are right answers, the most confident of every class; the others are the
    most confident mistakes. The list of the examples and the mean maps are saved with the run.

    Args:
        trained: the run.
        manifest: its own dataset.
        split: the name of the split.
        number: of examples, at least 1.
        device: what computes.
        display: where progress is shown.

    Raises:
        RunError: the model cannot be read or does not predict the expression; or its predictions
            of `split` are missing or of other images.
        DataError: an image cannot be read.
    """
    run, classes = trained.run, trained.classes
    answers = read_answers(run, split, manifest)
    loaded = open_trained_model(trained, device, display)
    right = choose_right(answers, number - number // 2)
    wrong = choose_wrong(answers, number // 2)
    averaged = choose_averaged(answers, MEAN_OF, trained.config.seed)

    used = answers[answers.index.isin([*right.index, *wrong.index, *averaged.index])]
    images = _read_images(loaded, manifest, split, used["sample_id"])
    layer = last_feature_map(loaded.model)
    _announce(layer, display)
    found = _maps(loaded.model, images, [*_pairs(used["predicted"]), *_pairs(wrong["label"])])

    examples = _examples(pd.concat([right, wrong]), classes, images, found)
    mean_maps = _mean_maps(averaged, classes, found)
    document = {
        "layer": layer.name,
        "split": split,
        "examples": [_example_to_json(example) for example in examples],
        "mean_maps": {mean.name: {"n": mean.n} for mean in mean_maps},
    }
    folder = run.explanations(split)
    write_atomically(folder / "maps.npz", _archive(mean_maps))
    write_json(folder / "explanations.json", document)
    return Explanation(run.run_id, split, folder, document, examples, mean_maps)


# What is looked at ------------------------------------------------------------------------------


def read_answers(run: RunDirectory, split: str, manifest: Manifest) -> pd.DataFrame:
    """The saved predictions of a split, by sample id.

    Returns:
        Columns `sample_id`, `label` and `predicted` (codes in the order of `manifest.classes`) and
        `probability`, that of `predicted`.

    Raises:
        RunError: there are none, they are not about the expression, or about other images.
    """
    path = run.predictions(split)
    if not path.exists():
        raise RunError(
            f"{run.run_id}: there are no predictions of the {split} split.\n"
            f"{_make_them(run, split)}"
        )
    predictions = read_predictions(path)
    expression = predictions.expression
    if expression is None:
        raise RunError(
            f"{run.run_id}: the run predicts no expression, so that there is no class to explain.\n"
            "Train a run with expression among model.targets."
        )
    strangers = [
        *sorted(set(expression.classes) - set(manifest.classes)),
        *sorted(set(predictions.sample_ids) - set(manifest.split(split)["sample_id"])),
    ]
    if strangers:
        raise RunError(
            f"{path}: {strangers[0]!r} is not in the {split} split of {manifest.root}.\n"
            f"{_make_them(run, split)}"
        )
    codes = np.array([manifest.classes.index(name) for name in expression.classes])
    told = expression.predicted
    return pd.DataFrame(
        {
            "sample_id": predictions.sample_ids,
            "label": codes[expression.labels],
            "predicted": codes[told],
            "probability": expression.probabilities[np.arange(len(predictions)), told],
        }
    )


def _make_them(run: RunDirectory, split: str) -> str:
    return f"Make them with: fer evaluate {run.run_id} --split {split} --outputs {run.outputs}"


def choose_right(answers: pd.DataFrame, number: int) -> pd.DataFrame:
    """Up to `number` right answers: the most confident of each class, then the second, and so on.

    Those of one class follow each other, the most confident first.
    """
    right = _by_confidence(answers[answers["label"] == answers["predicted"]])
    rank = right.groupby("label").cumcount()
    chosen = right.loc[rank.sort_values(kind="stable").index[:number]]
    return _by_confidence(chosen).sort_values("label", kind="stable")


def choose_wrong(answers: pd.DataFrame, number: int) -> pd.DataFrame:
    """Up to `number` wrong answers, the most confident first."""
    wrong = answers[answers["label"] != answers["predicted"]]
    return _by_confidence(wrong).head(number)


def choose_averaged(answers: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """Up to `most` right answers of each class, drawn so that every one is as likely as another."""
    right = answers[answers["label"] == answers["predicted"]]
    drawn = [right.iloc[:0]]
    for code in sorted(set(right["label"].tolist())):
        of_class = right[right["label"] == code]
        order = np.random.default_rng([seed, code]).permutation(len(of_class))
        drawn.append(of_class.iloc[order[:most]])
    return pd.concat(drawn)


def _by_confidence(answers: pd.DataFrame) -> pd.DataFrame:
    return answers.sort_values("probability", ascending=False, kind="stable")


def _read_images(
    loaded: TrainedModel, manifest: Manifest, split: str, sample_ids: pd.Series
) -> dict[int, Images]:
    """The images of some samples as the network gets them, RGB, by the index of `sample_ids`."""
    rows = manifest.split(split).set_index("sample_id", drop=False).loc[sample_ids]
    opened = decoding.open_split(
        replace(manifest, samples=rows),
        split,
        loaded.trained.config.image.size,
        partial(loaded.display.progress, f"decoding {split} images"),
    )
    batches = pipeline.evaluation_batches(opened, BATCH).as_numpy_iterator()
    images = [image for batch in batches for image in batch.astype(np.uint8)]
    return dict(zip(sample_ids.index.tolist(), images, strict=True))


def _announce(layer: Any, display: Display) -> None:
    height, width = layer.output.shape[1:3]
    display.message(f"looking at the output of {layer.name}: {height} × {width} places")
    if min(height, width) < COARSE:
        display.message("so coarse a map hardly tells one part of a face from another")


# What is found ----------------------------------------------------------------------------------

# By row of the answers and code of the class that is asked for.
Asked = tuple[int, int]
Found = dict[Asked, Map]


def _pairs(codes: pd.Series) -> list[Asked]:
    return list(zip(codes.index.tolist(), codes.tolist(), strict=True))


def _maps(model: Any, images: dict[int, Images], asked: list[Asked]) -> Found:
    codes = np.array([code for _, code in asked])
    maps = class_maps(model, np.stack([images[row] for row, _ in asked]), codes)
    return dict(zip(asked, maps, strict=True))


def _examples(
    chosen: pd.DataFrame, classes: tuple[str, ...], images: dict[int, Images], found: Found
) -> tuple[Example, ...]:
    columns = (chosen.index.tolist(), *(chosen[name].tolist() for name in chosen))
    return tuple(
        Example(
            sample_id,
            classes[label],
            classes[predicted],
            probability,
            images[row],
            {classes[code]: found[row, code] for code in (label, predicted)},
        )
        for row, sample_id, label, predicted, probability in zip(*columns, strict=True)
    )


def _example_to_json(example: Example) -> dict[str, Any]:
    return {
        "sample_id": example.sample_id,
        "label": example.label,
        "predicted": example.predicted,
        "probability": round(example.probability, 6),
        "kind": example.kind,
    }


def _mean_maps(
    averaged: pd.DataFrame, classes: tuple[str, ...], found: Found
) -> tuple[MeanMap, ...]:
    height, width = next(iter(found.values())).shape
    means = []
    for code, name in enumerate(classes):
        rows = averaged.index[averaged["label"] == code].tolist()
        maps = np.reshape([found[row, code] for row in rows], (-1, height, width))
        mean = maps.sum(axis=0, dtype=np.float64) / max(len(maps), 1)
        means.append(MeanMap(name, len(maps), mean.astype(np.float32)))
    return tuple(means)


def _archive(mean_maps: tuple[MeanMap, ...]) -> bytes:
    """The mean maps as an `.npz` of `classes` (C,), `n` (C,) and `maps` (C, h, w)."""
    file = io.BytesIO()
    np.savez(
        file,
        classes=np.array([mean.name for mean in mean_maps]),
        n=np.array([mean.n for mean in mean_maps]),
        maps=np.stack([mean.map for mean in mean_maps]),
    )
    return file.getvalue()
