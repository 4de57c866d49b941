"""`fer evaluate`: from a finished run to its saved predictions and their metrics."""

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from fer_bench import loop, pipeline
from fer_bench.config import load_experiment
from fer_bench.datasets import load_manifest
from fer_bench.device import Device
from fer_bench.display import Display
from fer_bench.errors import RunError
from fer_bench.manifest import AXES, Manifest
from fer_bench.metrics import compute
from fer_bench.predictions import PREDICTED_AXES, read_predictions
from fer_bench.rundir import RunDirectory, write_atomically, write_json


def evaluate(run: RunDirectory, split: str, device: Device, display: Display) -> dict[str, Any]:
    """Predict every image of `split`, save the predictions, and compute the metrics from them.

    Returns:
        The document that `metrics/<split>.json` holds.

    Raises:
        RunError: the run is not finished or its model cannot be read.
        DataError: the dataset is missing, or is not the one the run was trained on.
    """
    if run.status() != "finished":
        raise RunError(
            f"{run.run_id}: the run is not finished (status: {run.status()}).\n"
            f"Finish it with: fer train {run.config}"
        )
    config = load_experiment(run.config)
    manifest = load_manifest(config.dataset)
    run.check_dataset(manifest.root, manifest.fingerprint)
    model = _load_model(run.model)
    images = pipeline.open_split(
        manifest,
        split,
        config.image.size,
        lambda done, total: display.decoding(split, done, total),
    )
    predict_step = loop.build_predict_step(device.strategy, model, config.model.targets)
    batches = pipeline.evaluation_batches(images, config.training.batch_size)
    outputs = loop.predict(device.strategy, predict_step, batches)
    probabilities = valence_arousal = None
    if "expression" in outputs:
        probabilities = softmax(outputs["expression"].astype(np.float64), axis=1)
    if "valence_arousal" in outputs:
        valence_arousal = outputs["valence_arousal"].astype(np.float64)
    frame = predictions_frame(manifest, split, probabilities, valence_arousal)
    write_atomically(run.predictions(split), frame.to_csv(index=False, float_format="%.9g"))
    metrics = compute(read_predictions(run.predictions(split)))
    write_json(run.metrics(split), metrics)
    return metrics


def _load_model(path: Path) -> Any:
    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path}: the model cannot be loaded ({str(error).splitlines()[0]}).\n"
            "Train the run again with --fresh."
        ) from error


def predictions_frame(
    manifest: Manifest,
    split: str,
    probabilities: NDArray[np.float64] | None,
    valence_arousal: NDArray[np.float64] | None,
) -> pd.DataFrame:
    """The table of `predictions/<split>.csv`.

    Args:
        manifest: the dataset.
        split: the name of the split, of n samples.
        probabilities: shape (n, C), in the manifest's order; None where expression is no target.
        valence_arousal: predicted, shape (n, 2); None where they are no target.
    """
    rows = manifest.split(split)
    frame = rows[["sample_id", "label"]].copy()
    if probabilities is not None:
        frame["predicted"] = np.array(manifest.classes)[probabilities.argmax(axis=1)]
        for index, name in enumerate(manifest.classes):
            frame[f"p_{name}"] = probabilities[:, index]
    if valence_arousal is not None:
        for axis in AXES:
            frame[axis] = rows.get(axis, np.nan)
        for index, name in enumerate(PREDICTED_AXES):
            frame[name] = valence_arousal[:, index]
    return frame
