"""`fer evaluate`: from a finished run to its saved predictions and their metrics."""

import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from fer_bench import crossing, decoding, loop, pipeline, robustness, twins
from fer_bench.cache import Store
from fer_bench.calibration import temperature_report
from fer_bench.config import Experiment, load_experiment
from fer_bench.crossing import ClassRule
from fer_bench.datasets import DatasetSpec, load_manifest
from fer_bench.device import Device
from fer_bench.display import Display
from fer_bench.errors import RunError
from fer_bench.kernels import use_fast_kernels
from fer_bench.manifest import ATTRIBUTES, AXES, Manifest
from fer_bench.metrics import compute, headline
from fer_bench.predictions import PREDICTED_AXES, Predictions, read_predictions
from fer_bench.registry import DATASETS
from fer_bench.rundir import RunDirectory, write_atomically, write_json
from fer_bench.subgroups import by_attribute
from fer_bench.views import Views, native_size, windows

# Above this many images, copies are looked for only by `fer data audit`.
IMAGES_LOOKED_AT = 100_000
Condition = tuple[str, int | None]
Array = NDArray[Any]


@dataclass(frozen=True)
class Protocol:
    """What a model is measured on, and how it gets to see it.

    Attributes:
        split: the name of the split.
        data: the experiment whose dataset is used; None for that of the run itself.
        views: how often each image is shown.
        class_rule: how classes are treated that the model or another dataset lacks.
    """

    split: str = "test"
    data: Experiment | None = None
    views: Views = "none"
    class_rule: ClassRule = "mask_logits"

    @property
    def name(self) -> str:
        """The name of the evaluation's files: `test`, `test+flip`, `test@fer2013_csv`."""
        elsewhere = f"@{self.data.name}" if self.data else ""
        return f"{self.split}{elsewhere}{'' if self.views == 'none' else f'+{self.views}'}"


@dataclass(frozen=True)
class Subject:
    """A trained model, ready to be asked.

    Attributes:
        classes: what it tells apart, in the order of its logits.
        manifest: the dataset that it was trained on.
    """

    run: RunDirectory
    config: Experiment
    manifest: Manifest
    model: Any
    predict_step: Any
    device: Device
    display: Display

    @property
    def classes(self) -> tuple[str, ...]:
        """What it tells apart, in the order of its logits."""
        return self.manifest.classes


def evaluate(
    run: RunDirectory,
    protocol: Protocol,
    device: Device,
    display: Display,
    conditions: Iterable[Condition] = (),
) -> dict[str, Any]:
    """Predict every image, save the predictions, and compute the metrics from them.

    Args:
        run: a finished run.
        protocol: what it is measured on.
        device: what computes.
        display: where progress is shown.
        conditions: corruptions under which it is measured too, as `corruptions.select` gives them.

    Returns:
        The document that `metrics/<evaluation>.json` holds.

    Raises:
        RunError: the run is not finished or its model cannot be read.
        DataError: a dataset is missing, or is not the one the run was trained on.
    """
    subject = open_subject(run, device, display)
    manifest, answered = _measured_on(subject, protocol)
    for warning in manifest.warnings():
        display.message(f"warning: {warning}")
    _save_predictions(subject, protocol, manifest, answered)
    metrics = _measure(subject, protocol, manifest)
    write_json(run.metrics(protocol.name), metrics)
    if chosen := list(conditions):
        _save_robustness(subject, protocol, manifest, answered, chosen)
    return metrics


def open_subject(run: RunDirectory, device: Device, display: Display) -> Subject:
    """Load a finished run's model, and read the dataset that it was trained on.

    Raises:
        RunError: the run is not finished, was trained elsewhere, or its model cannot be read.
        DataError: the dataset is missing, or is not the one the run was trained on.
    """
    if run.status() != "finished":
        raise RunError(
            f"{run.run_id}: the run is not finished (status: {run.status()}).\n"
            f"Finish it with: fer train {run.config}"
        )
    if run.is_adopted():
        raise RunError(
            f"{run.run_id}: its predictions come from elsewhere, and there is no model to ask.\n"
            "Its metrics are in the run already; give more predictions with: fer adopt"
        )
    config = load_experiment(run.config)
    manifest = load_manifest(config.dataset)
    run.check_dataset(manifest.root, manifest.fingerprint)
    model = _load_model(run.model)
    use_fast_kernels(model, device.kind)
    step = loop.build_predict_step(device.strategy, model, config.model.targets)
    return Subject(run, config, manifest, model, step, device, display)


def _load_model(path: Path) -> Any:
    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path}: the model cannot be loaded ({str(error).splitlines()[0]}).\n"
            "Train the run again with --fresh."
        ) from error


# Predictions -----------------------------------------------------------------------------------

# The classes that may be answered, and their probabilities from those of all classes.
_Answer = Callable[[Array], tuple[tuple[str, ...], Array]]


def _measured_on(subject: Subject, protocol: Protocol) -> tuple[Manifest, _Answer]:
    """The dataset that is measured on, and what the model may answer there."""
    if protocol.data is None:
        return subject.manifest, lambda probabilities: (subject.classes, probabilities)
    manifest = load_manifest(protocol.data.dataset)
    shared = crossing.shared_classes(subject.classes, manifest)
    return crossing.restricted(manifest, shared), lambda probabilities: crossing.answers(
        probabilities, subject.classes, shared, protocol.class_rule
    )


def _save_predictions(
    subject: Subject, protocol: Protocol, manifest: Manifest, answered: _Answer
) -> None:
    images = decoding.open_split(
        manifest,
        protocol.split,
        native_size(protocol.views, subject.config.image.size),
        lambda done, total: subject.display.decoding(protocol.split, done, total),
        store=Store(subject.config.cache.max_bytes, subject.display.message),
    )
    outputs = predict(subject, images, protocol.views)
    classes, probabilities = subject.classes, outputs.get("expression")
    if probabilities is not None:
        classes, probabilities = answered(probabilities)
    frame = predictions_frame(
        manifest.split(protocol.split), classes, probabilities, outputs.get("valence_arousal")
    )
    path = subject.run.predictions(protocol.name)
    write_atomically(path, frame.to_csv(index=False, float_format="%.9g"))


def predict(subject: Subject, images: decoding.Split, views: Views = "none") -> dict[str, Array]:
    """By target, what a model says of each image, as the mean over its views.

    `expression`: probabilities, float64, shape (n, classes); `valence_arousal`: shape (n, 2).
    """
    sums: dict[str, Array] = {}
    functions = list(windows(views, subject.config.image.size))
    for window in functions:
        size = loop.prediction_batch(subject.model, subject.device.memory_bytes)
        batches = pipeline.evaluation_batches(images, size)
        shown = batches.map(window) if len(functions) > 1 else batches
        outputs = loop.predict(subject.device.strategy, subject.predict_step, shown)
        for name, output in outputs.items():
            values = output.astype(np.float64)
            values = softmax(values, axis=1) if name == "expression" else values
            sums[name] = sums.get(name, 0.0) + values
    return {name: total / len(functions) for name, total in sums.items()}


def predictions_frame(
    rows: pd.DataFrame,
    classes: tuple[str, ...],
    probabilities: Array | None,
    valence_arousal: Array | None,
) -> pd.DataFrame:
    """The table of `predictions/<evaluation>.csv`.

    Args:
        rows: the n samples of a split, as `Manifest.split` gives them.
        classes: the C answers.
        probabilities: of each answer, shape (n, C); None where expression is no target.
        valence_arousal: predicted, shape (n, 2); None where they are no target.
    """
    frame = rows[["sample_id", "label"]].copy()
    if probabilities is not None:
        frame["predicted"] = np.array(classes)[probabilities.argmax(axis=1)]
        for index, name in enumerate(classes):
            frame[f"p_{name}"] = probabilities[:, index]
    if valence_arousal is not None:
        for axis in AXES:
            frame[axis] = rows.get(axis, np.nan)
        for index, name in enumerate(PREDICTED_AXES):
            frame[name] = valence_arousal[:, index]
    return frame


# Metrics ---------------------------------------------------------------------------------------


def _measure(subject: Subject, protocol: Protocol, manifest: Manifest) -> dict[str, Any]:
    """The document of the metrics, from saved predictions alone."""
    predictions = read_predictions(subject.run.predictions(protocol.name))
    document = compute(predictions)
    document |= _without_twins(subject, protocol, predictions)
    document |= _temperature(subject, protocol, predictions)
    document |= _subgroups(manifest.split(protocol.split), predictions)
    document["protocol"] = {
        "dataset": manifest.name,
        "release": manifest.release,
        "dataset_fingerprint": manifest.fingerprint,
        "split": protocol.split,
        "classes": list(manifest.classes),
        "views": protocol.views,
        "class_rule": protocol.class_rule if protocol.data else None,
        "selection": subject.config.selection,
        "trunk_views": subject.config.cache.views,
    }
    document["warnings"] = _warnings(subject, protocol, manifest)
    return document


def _without_twins(
    subject: Subject, protocol: Protocol, predictions: Predictions
) -> dict[str, Any]:
    """Every headline metric without the images of which training has seen a copy."""
    manifest, display = subject.manifest, subject.display
    if protocol.data is not None or protocol.split == "train":
        return {}
    if len(manifest.samples) > IMAGES_LOOKED_AT:
        return {}
    seen = twins.seen_in_training(
        manifest,
        protocol.split,
        None,
        lambda done, total: display.decoding("dataset", done, total),
    )
    if not seen:
        return {}
    kept = predictions.select(np.array([name not in seen for name in predictions.sample_ids]))
    exact = sum(relation == "exact" for relation in seen.values())
    return {
        "without_twins": {
            "n": len(kept),
            "left_out": len(seen),
            "exact": exact,
            "near": len(seen) - exact,
            "relation": "exact or near copy in another split",
            **headline(kept),
        }
    }


def _temperature(subject: Subject, protocol: Protocol, predictions: Predictions) -> dict[str, Any]:
    """Calibration before and after one temperature, fitted where the model was not measured."""
    fitted_on = replace(protocol, split="validation")
    if protocol.data is not None or protocol.split != "test" or predictions.expression is None:
        return {}
    if "validation" not in subject.manifest.split_sizes():
        return {}
    if not subject.run.predictions(fitted_on.name).exists():
        manifest, answered = _measured_on(subject, fitted_on)
        _save_predictions(subject, fitted_on, manifest, answered)
    validation = read_predictions(subject.run.predictions(fitted_on.name))
    return {"temperature": temperature_report(validation, predictions)}


def _subgroups(rows: pd.DataFrame, predictions: Predictions) -> dict[str, Any]:
    known = [name for name in ATTRIBUTES if name in rows]
    if not known or predictions.expression is None:
        return {}
    return {"subgroups": by_attribute(predictions, rows.set_index("sample_id")[known])}


def _warnings(subject: Subject, protocol: Protocol, manifest: Manifest) -> list[str]:
    """What a reader of these numbers must know."""
    found = []
    if subject.config.selection == "test_split" and protocol.split == "test":
        found.append("the model was chosen on the test split: its score there is too high")
    if protocol.data is not None:
        trained_on = subject.manifest.name
        for one, other in ((trained_on, manifest.name), (manifest.name, trained_on)):
            spec: DatasetSpec = DATASETS[one]
            if other in spec.overlaps:
                found.append(
                    f"contaminated: datasets {trained_on} and {manifest.name} share images "
                    f"({spec.overlaps[other]}), so that the model has seen some of these"
                )
                break
        if trained_on == manifest.name:
            found.append(
                f"the model was trained on {trained_on} too; images may occur in both folders"
            )
    elif len(manifest.samples) > IMAGES_LOOKED_AT:
        found.append("copies between the splits were not looked for; fer data audit does")
    return found


# Robustness ------------------------------------------------------------------------------------


def _save_robustness(
    subject: Subject,
    protocol: Protocol,
    manifest: Manifest,
    answered: _Answer,
    conditions: list[Condition],
) -> None:
    run, name = subject.run, protocol.name

    def probabilities(images: decoding.Split) -> Array:
        return answered(predict(subject, images, protocol.views)["expression"])[1]

    frame, document = robustness.measure(
        manifest,
        protocol.split,
        native_size(protocol.views, subject.config.image.size),
        probabilities,
        conditions,
        read_predictions(run.predictions(name)),
        lambda done, total: subject.display.decoding("corrupted", done, total),
    )
    write_atomically(run.corruptions(name).with_suffix(".csv"), frame.to_csv(index=False))
    write_json(run.corruptions(name), document)
