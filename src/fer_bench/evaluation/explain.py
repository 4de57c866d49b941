"""`fer explain`: where a network looks when it is right, when it is wrong, and for each class."""

import io
from collections.abc import Callable
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
from fer_bench.evaluation.grad_cam import BATCH, class_maps, last_feature_map, on_image
from fer_bench.evaluation.protocol import TrainedRun
from fer_bench.evaluation.trained_model import open_trained_model
from fer_bench.models.receptive_field import centres
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.predictions import read_predictions
from fer_bench.storage.files import is_there, write_atomically, write_json

# The mean map of a class is over at most so many images.
MEAN_OF = 200
# With fewer places along a side, a map hardly distinguishes the parts of a face.
COARSE = 4

Images = NDArray[np.uint8]
Map = NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """An image, the prediction for it, and where the network saw that.

    Attributes:
        sample_id: its name in the dataset.
        label: the true class.
        predicted: the predicted class.
        probability: of the predicted class, in [0, 1].
        image: as the network gets it, RGB, shape (size, size, 3).
        maps: a map per class, in [0, 1], shape (size, size): of the true class and, where the
            prediction is wrong, then of the predicted class.
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
    """The mean map of `n` images of one class, in [0, 1], shape (size, size); 0 without images."""

    name: str
    n: int
    map: Map


@dataclass(frozen=True)
class Explanation:
    """What `fer explain` found.

    Attributes:
        run_id: the run.
        split: the split that the images are from.
        folder: where the files are.
        document: the content of `explanations.json`.
        examples: correct predictions by class, then mistakes, the most confident first.
        mean_maps: one per class, over correctly classified images.
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

    Half of the examples are correct predictions, the most confident of every class; the others are
    the most confident mistakes. The list of examples and the mean maps are saved with the run.

    Args:
        trained: the run.
        manifest: its own dataset.
        split: the name of the split.
        number: number of examples, at least 1.
        device: what computes.
        display: where progress is shown.

    Raises:
        RunError: the model cannot be read or does not predict expressions; or its predictions for
            `split` are missing or about other images.
        DataError: an image cannot be read.
    """
    run, classes = trained.results, trained.classes
    answers = read_answers(run, split, manifest)
    opened = open_trained_model(trained, device, display)
    correct = choose_correct(answers, number - number // 2)
    mistakes = choose_mistakes(answers, number // 2)
    averaged = choose_averaged(answers, MEAN_OF, trained.config.seed)

    used = answers[answers.index.isin([*correct.index, *mistakes.index, *averaged.index])]
    size = trained.config.image.size
    images = _read_images(manifest, split, size, used["sample_id"], display)
    layer = last_feature_map(opened.network)
    _announce(layer, display)
    explained = [*_pairs(used["predicted"]), *_pairs(mistakes["label"])]
    maps = _maps(opened.network, images, explained)
    rows, columns = centres(opened.network, layer)

    def place(map_: Map) -> Map:
        return on_image(map_, rows, columns, size)

    means = _means(averaged, classes, maps)
    examples = _examples(pd.concat([correct, mistakes]), classes, images, maps, place)
    document = {
        "layer": layer.name,
        "split": split,
        "examples": [_example_to_json(example) for example in examples],
        "mean_maps": {mean.name: {"n": mean.n} for mean in means},
    }
    folder = run.explanations(split)
    write_atomically(folder / "maps.npz", _archive(means, rows, columns))
    write_json(folder / "explanations.json", document)
    placed = tuple(replace(mean, map=place(mean.map)) for mean in means)
    return Explanation(run.run_id, split, folder, document, examples, placed)


# Which images ----------------------------------------------------------------------------------


def read_answers(run: RunDirectory, split: str, manifest: Manifest) -> pd.DataFrame:
    """The saved predictions for a split.

    Returns:
        One row per sample. Columns `sample_id`, `label` and `predicted` (codes in the order of
        `manifest.classes`) and `probability`, that of `predicted`.

    Raises:
        RunError: there are none, they contain no expressions, or they are about other images.
    """
    path = run.predictions(split)
    advice = f"Make them with: fer evaluate {run.run_id} --split {split} --outputs {run.outputs}"
    if not is_there(path):
        raise RunError(f"{run.run_id}: there are no predictions for the {split} split.\n{advice}")
    predictions = read_predictions(path)
    expression = predictions.expression
    if expression is None:
        raise RunError(
            f"{run.run_id}: the run predicts no expressions, so there is no class to explain.\n"
            "Train a run with expression in model.targets."
        )
    unknown = [
        *sorted(set(expression.classes) - set(manifest.classes)),
        *sorted(set(predictions.sample_ids) - set(manifest.split(split)["sample_id"])),
    ]
    if unknown:
        raise RunError(
            f"{path}: {unknown[0]!r} is not in the {split} split of {manifest.root}.\n{advice}"
        )
    codes = np.array([manifest.classes.index(name) for name in expression.classes])
    predicted = expression.predicted
    return pd.DataFrame(
        {
            "sample_id": predictions.sample_ids,
            "label": codes[expression.labels],
            "predicted": codes[predicted],
            "probability": expression.probabilities[np.arange(len(predictions)), predicted],
        }
    )


def choose_correct(answers: pd.DataFrame, number: int) -> pd.DataFrame:
    """Up to `number` correct predictions: the most confident of each class, then the second, ….

    Sorted by class, and within a class by falling confidence.
    """
    correct = _by_confidence(answers[answers["label"] == answers["predicted"]])
    rank = correct.groupby("label").cumcount()
    chosen = correct.loc[rank.sort_values(kind="stable").index[:number]]
    return _by_confidence(chosen).sort_values("label", kind="stable")


def choose_mistakes(answers: pd.DataFrame, number: int) -> pd.DataFrame:
    """Up to `number` wrong predictions, the most confident first."""
    return _by_confidence(answers[answers["label"] != answers["predicted"]]).head(number)


def choose_averaged(answers: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """Up to `most` correct predictions of each class, drawn uniformly."""
    correct = answers[answers["label"] == answers["predicted"]]
    drawn = [correct.iloc[:0]]
    for code in sorted(set(correct["label"].tolist())):
        of_class = correct[correct["label"] == code]
        order = np.random.default_rng([seed, code]).permutation(len(of_class))
        drawn.append(of_class.iloc[order[:most]])
    return pd.concat(drawn)


def _by_confidence(answers: pd.DataFrame) -> pd.DataFrame:
    return answers.sort_values("probability", ascending=False, kind="stable")


def _read_images(
    manifest: Manifest, split: str, size: int, sample_ids: pd.Series, display: Display
) -> dict[int, Images]:
    """The images of some samples as the network gets them, RGB, by the index of `sample_ids`."""
    rows = manifest.split(split).set_index("sample_id", drop=False).loc[sample_ids]
    opened = decoding.open_split(
        replace(manifest, samples=rows),
        split,
        size,
        partial(display.progress, f"decoding {split} images"),
    )
    batches = pipeline.evaluation_batches(opened, BATCH).as_numpy_iterator()
    images = [image for batch in batches for image in batch.astype(np.uint8)]
    return dict(zip(sample_ids.index.tolist(), images, strict=True))


def _announce(layer: Any, display: Display) -> None:
    height, width = layer.output.shape[1:3]
    display.message(f"explaining the output of {layer.name}: {height} × {width} places")
    if min(height, width) < COARSE:
        display.message("a map of so few places hardly distinguishes the parts of a face")


# Their maps ------------------------------------------------------------------------------------

# By row of the predictions, and code of the class that is explained.
Key = tuple[int, int]
Maps = dict[Key, Map]


def _pairs(codes: pd.Series) -> list[Key]:
    return list(zip(codes.index.tolist(), codes.tolist(), strict=True))


def _maps(network: Any, images: dict[int, Images], keys: list[Key]) -> Maps:
    codes = np.array([code for _, code in keys])
    maps = class_maps(network, np.stack([images[row] for row, _ in keys]), codes)
    return dict(zip(keys, maps, strict=True))


def _examples(
    chosen: pd.DataFrame,
    classes: tuple[str, ...],
    images: dict[int, Images],
    maps: Maps,
    place: Callable[[Map], Map],
) -> tuple[Example, ...]:
    columns = (chosen.index.tolist(), *(chosen[name].tolist() for name in chosen))
    return tuple(
        Example(
            sample_id,
            classes[label],
            classes[predicted],
            probability,
            images[row],
            {classes[code]: place(maps[row, code]) for code in (label, predicted)},
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


def _means(averaged: pd.DataFrame, classes: tuple[str, ...], maps: Maps) -> list[MeanMap]:
    """The mean map of each class, one value per place, shape (h, w)."""
    height, width = next(iter(maps.values())).shape
    means = []
    for code, name in enumerate(classes):
        rows = averaged.index[averaged["label"] == code].tolist()
        of_class = np.reshape([maps[row, code] for row in rows], (-1, height, width))
        mean = of_class.sum(axis=0, dtype=np.float64) / max(len(rows), 1)
        means.append(MeanMap(name, len(rows), mean.astype(np.float32)))
    return means


def _archive(
    means: list[MeanMap], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> bytes:
    """The mean maps as an `.npz`: `classes` (C,), `n` (C,) and `maps` (C, h, w).

    Also `rows` (h,) and `columns` (w,), the pixels of the image that the places look at.
    """
    file = io.BytesIO()
    np.savez(
        file,
        classes=np.array([mean.name for mean in means]),
        n=np.array([mean.n for mean in means]),
        maps=np.stack([mean.map for mean in means]),
        rows=rows,
        columns=columns,
    )
    return file.getvalue()
