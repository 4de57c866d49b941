"""`fer evaluate`: from a finished run to its saved predictions and their metrics."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from fer_bench.data import decoding
from fer_bench.data.audit import duplicates
from fer_bench.data.spec import DatasetSpec
from fer_bench.device.selection import Device
from fer_bench.display import Display
from fer_bench.errors import RunError
from fer_bench.evaluation import robustness
from fer_bench.evaluation.corruptions import Condition
from fer_bench.evaluation.protocol import Measurement
from fer_bench.evaluation.test_time_views import native_size
from fer_bench.evaluation.trained_model import Array, TrainedModel, open_trained_model
from fer_bench.labels import ATTRIBUTES
from fer_bench.metrics.calibration import temperature_report
from fer_bench.metrics.document import compute, headline
from fer_bench.metrics.predictions import Predictions
from fer_bench.metrics.subgroups import by_attribute
from fer_bench.models.build import OTHER_MODEL
from fer_bench.registry import DATASETS
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.predictions import predictions_frame, read_predictions, write_predictions
from fer_bench.storage.array_cache import Store
from fer_bench.storage.files import write_atomically, write_json
from fer_bench.storage.replacement import replaced_files
from fer_bench.timing import timed

# In larger datasets, only `fer data audit` looks for copies between the splits.
IMAGES_LOOKED_AT = 100_000


def evaluate(
    measurement: Measurement,
    device: Device,
    display: Display,
    conditions: Iterable[Condition] = (),
) -> dict[str, Any]:
    """Predict every image, save the predictions, and compute the metrics from them.

    The files of an earlier evaluation are replaced at the end, all together: if anything fails,
    they stay as they were.

    Args:
        measurement: a run, and what it is measured on.
        device: what computes.
        display: where progress is shown.
        conditions: corruptions to measure it under as well, see `corruptions.select`.

    Returns:
        The content of `metrics/<evaluation>.json`.

    Raises:
        RunError: the model cannot be read, is not the model of the run, or predicts values that are
            not finite; or there are conditions, and it predicts no expressions.
        DataError: an image cannot be read.
    """
    chosen = list(conditions)
    if chosen and "expression" not in measurement.trained.config.model.targets:
        raise robustness.no_expressions()
    model = open_trained_model(measurement.trained, device, display)
    for warning in measurement.manifest.warnings():
        display.message(f"warning: {warning}")
    place, name = measurement.trained.results, measurement.protocol.name
    with replaced_files(place.path) as folder:
        results = RunDirectory(folder)
        _save_predictions(model, measurement, results)
        predictions = read_predictions(results.predictions(name))
        metrics = _measure(model, measurement, results, predictions)
        write_json(results.metrics(name), metrics)
        if chosen:
            _save_robustness(model, measurement, results, predictions, chosen)
    return metrics


# Predictions -----------------------------------------------------------------------------------


def _save_predictions(model: TrainedModel, measurement: Measurement, results: RunDirectory) -> None:
    protocol, manifest, config = measurement.protocol, measurement.manifest, model.trained.config
    with timed("reading and decoding images"):
        images = decoding.open_split(
            manifest,
            protocol.split,
            native_size(protocol.views, config.image.size),
            partial(model.display.progress, f"decoding {protocol.split} images"),
            store=Store(config.cache.max_bytes, model.display.message),
            check=measurement.check,
        )
    with timed("predicting"):
        outputs = model.predict(images, protocol.views)
    rows = manifest.split(protocol.split)
    _check_finite(model, rows["sample_id"], outputs)
    classes, probabilities = model.trained.classes, outputs.get("expression")
    if probabilities is not None:
        classes, probabilities = measurement.answers(probabilities)
    frame = predictions_frame(rows, classes, probabilities, outputs.get("valence_arousal"))
    path = results.predictions(protocol.name)
    write_predictions(path, frame)


def _check_finite(model: TrainedModel, ids: "pd.Series[str]", outputs: dict[str, Array]) -> None:
    for name, output in outputs.items():
        wrong = np.flatnonzero(~np.isfinite(output).all(axis=1))
        if len(wrong):
            raise RunError(
                f"{model.trained.run.model}: its outputs ({name}) are not finite numbers for "
                f"{len(wrong):,} of {len(ids):,} images, first {ids.iloc[wrong[0]]!r}.\n"
                f"{OTHER_MODEL}"
            )


# Metrics ---------------------------------------------------------------------------------------


@timed("computing metrics")
def _measure(
    model: TrainedModel, measurement: Measurement, results: RunDirectory, predictions: Predictions
) -> dict[str, Any]:
    """The content of `metrics/<evaluation>.json`, from the saved predictions alone."""
    rows = measurement.manifest.split(measurement.protocol.split)
    document: dict[str, Any] = {**compute(predictions)}
    document |= _without_copies(model.display, measurement, predictions)
    document |= _temperature(model, measurement, results, predictions)
    document |= _subgroups(rows, predictions)
    document["protocol"] = measurement.record().to_json()
    document["warnings"] = _warnings(measurement)
    return document


def _without_copies(
    display: Display, measurement: Measurement, predictions: Predictions
) -> dict[str, Any]:
    """Every headline metric without the images that training has seen a copy of."""
    manifest, protocol = measurement.manifest, measurement.protocol
    may_have_copies = protocol.data is None and protocol.split != "train"
    if not may_have_copies or len(manifest.samples) > IMAGES_LOOKED_AT:
        return {}
    seen = duplicates.seen_in_training(
        manifest,
        protocol.split,
        None,
        partial(display.progress, "reading all images"),
        partial(display.progress, "comparing images"),
        measurement.verify,
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


def _temperature(
    model: TrainedModel, measurement: Measurement, results: RunDirectory, predictions: Predictions
) -> dict[str, Any]:
    """Calibration before and after temperature scaling, fitted on the validation split."""
    protocol = measurement.protocol
    if protocol.data is not None or protocol.split != "test" or predictions.expression is None:
        return {}
    if "validation" not in measurement.manifest.split_sizes():
        return {}
    fitted_on = measurement.of_split("validation")
    path = model.trained.results.predictions(fitted_on.protocol.name)
    if not path.exists():
        _save_predictions(model, fitted_on, results)
        path = results.predictions(fitted_on.protocol.name)
    return {"temperature": temperature_report(read_predictions(path), predictions)}


def _subgroups(rows: pd.DataFrame, predictions: Predictions) -> dict[str, Any]:
    """Metrics per subgroup, where the dataset says which people are in the images."""
    known = [name for name in ATTRIBUTES if name in rows]
    if not known or predictions.expression is None:
        return {}
    return {"subgroups": by_attribute(predictions, rows.set_index("sample_id")[known])}


def _warnings(measurement: Measurement) -> list[str]:
    """What a reader of these numbers must know."""
    config, protocol = measurement.trained.config, measurement.protocol
    found = []
    if config.selection == "test_split" and protocol.split == "test":
        found.append("the model was selected on the test split: its score there is too high")
    if protocol.data is not None:
        found += _overlap(config.dataset.name, measurement.manifest.name)
    elif len(measurement.manifest.samples) > IMAGES_LOOKED_AT:
        found.append("copies between the splits were not searched for; run fer data audit")
    return found


def _overlap(trained_on: str, measured_on: str) -> list[str]:
    """A warning if two datasets share images, or may share them."""
    if trained_on == measured_on:
        return [f"the model was trained on {trained_on} too; both folders may have the same images"]
    for one, other in ((trained_on, measured_on), (measured_on, trained_on)):
        spec: DatasetSpec = DATASETS[one]
        if other in spec.overlaps:
            return [
                f"contaminated: datasets {trained_on} and {measured_on} share images "
                f"({spec.overlaps[other]}): the model has seen some of these in training"
            ]
    return []


# Robustness ------------------------------------------------------------------------------------


@timed("evaluating corrupted images")
def _save_robustness(
    model: TrainedModel,
    measurement: Measurement,
    results: RunDirectory,
    predictions: Predictions,
    conditions: list[Condition],
) -> None:
    protocol, size = measurement.protocol, model.trained.config.image.size

    def probabilities(images: decoding.Split) -> Array:
        outputs = model.predict(images, protocol.views)
        return measurement.answers(outputs["expression"])[1]

    frame, document = robustness.measure(
        measurement.manifest,
        protocol.split,
        native_size(protocol.views, size),
        probabilities,
        conditions,
        predictions,
        partial(model.display.progress, "predicting corrupted images"),
    )
    path = results.corruptions(protocol.name)
    write_atomically(path.with_suffix(".csv"), frame.to_csv(index=False))
    write_json(path, document)
