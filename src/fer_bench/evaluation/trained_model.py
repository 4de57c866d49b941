"""A finished run's model, loaded and ready to predict."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from fer_bench.data import decoding, pipeline
from fer_bench.device.selection import Device
from fer_bench.display import Display
from fer_bench.errors import RunError
from fer_bench.evaluation.protocol import TrainedRun
from fer_bench.evaluation.test_time_views import Views, windows
from fer_bench.models import inference
from fer_bench.models.build import OTHER_MODEL, load_model, named_outputs
from fer_bench.models.kernels import use_fast_kernels

Array = NDArray[Any]


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, ready to be asked."""

    trained: TrainedRun
    model: Any
    predict_step: Any
    device: Device
    display: Display


def open_trained_model(trained: TrainedRun, device: Device, display: Display) -> TrainedModel:
    """Load a finished run's model. Raises: RunError when it cannot be read, or is another one."""
    targets = trained.config.model.targets
    model = load_model(trained.run.model)
    _check_shapes(trained, model)
    use_fast_kernels(model, device.kind)
    step = inference.build_predict_step(device.strategy, model, targets)
    return TrainedModel(trained, model, step, device, display)


def _check_shapes(trained: TrainedRun, model: Any) -> None:
    """Make sure that a model takes and gives what its run says."""
    size, targets = trained.config.image.size, trained.config.model.targets
    widths = {"expression": len(trained.classes), "valence_arousal": 2}
    expected = {"input": (size, size, 3)} | {name: (widths[name],) for name in targets}
    outputs = named_outputs(model.output, targets)
    shapes = {"input": model.input_shape} | {name: one.shape for name, one in outputs.items()}
    found = {name: tuple(shape[1:]) for name, shape in shapes.items()}
    if found != expected:
        raise RunError(
            f"{trained.run.model}: is not the model of this run: it has {_shown(found)}; the run "
            f"needs {_shown(expected)}.\n{OTHER_MODEL}"
        )


def _shown(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """`input 48 x 48 x 3, expression 7`."""
    return ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in shapes.items())


def predict(
    loaded: TrainedModel, images: decoding.Split, views: Views = "none"
) -> dict[str, Array]:
    """By target, what a model says of each image, as the mean over its views.

    `expression`: probabilities, float64, shape (n, classes); `valence_arousal`: shape (n, 2).
    """
    sums: dict[str, Array] = {}
    functions = list(windows(views, loaded.trained.config.image.size))
    for window in functions:
        size = inference.prediction_batch(loaded.model, loaded.device.memory_bytes)
        batches = pipeline.evaluation_batches(images, size)
        shown = batches.map(window) if len(functions) > 1 else batches
        outputs = inference.predict(loaded.device.strategy, loaded.predict_step, shown)
        for name, output in outputs.items():
            values = output.astype(np.float64)
            values = softmax(values, axis=1) if name == "expression" else values
            sums[name] = sums.get(name, 0.0) + values
    return {name: total / len(functions) for name, total in sums.items()}
