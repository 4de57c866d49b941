"""Whether two runs ended alike: weights bit for bit, and the history but for the clock."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TIMES = ["images_per_second", "seconds"]  # columns of the history that depend on the clock


def record(run: Path) -> dict[str, Any]:
    """The content of `run.json`."""
    document: dict[str, Any] = json.loads((run / "run.json").read_text())
    return document


def assert_same_run(first: Path, second: Path) -> None:
    """Assert that the models, the histories and the records of two runs are the same."""
    import keras

    one, other = (pd.read_csv(run / "history.csv").drop(columns=TIMES) for run in (first, second))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    models = [
        keras.models.load_model(run / "model.keras", compile=False) for run in (first, second)
    ]
    for weights in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(*weights)
    for part in ("best", "model", "dataset", "stages", "status"):
        assert record(first)[part] == record(second)[part]
