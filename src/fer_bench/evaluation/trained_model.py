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
from fer_bench.timing import timed

Array = NDArray[Any]


@dataclass(frozen=True)
class TrainedModel:
    """A trained model on the device that computes.

    Attributes:
        trained: the run that it belongs to.
        network: the `keras.Model`.
        predict_step: predicts one batch, see `models.inference.build_predict_step`.
        device: what computes.
        display: where progress is shown.
    """

    trained: TrainedRun
    network: Any
    predict_step: Any
    device: Device
    display: Display

    def predict(self, images: decoding.Split, views: Views = "none") -> dict[str, Array]:
        """Its outputs for each image by target, averaged over the views of the image.

        `expression`: probabilities, float64, shape (n, classes); `valence_arousal`: shape (n, 2).
        """
        sums: dict[str, Array] = {}
        functions = list(windows(views, self.trained.config.image.size))
        size = inference.prediction_batch(self.network, self.device.memory_bytes)
        for window in functions:
            batches = pipeline.evaluation_batches(images, size)
            shown = batches.map(window) if len(functions) > 1 else batches
            outputs = inference.predict(self.device.strategy, self.predict_step, shown)
            for name, output in outputs.items():
                values = output.astype(np.float64)
                values = softmax(values, axis=1) if name == "expression" else values
                sums[name] = sums.get(name, 0.0) + values
        return {name: total / len(functions) for name, total in sums.items()}


@timed("reading the model")
def open_trained_model(trained: TrainedRun, device: Device, display: Display) -> TrainedModel:
    """Load a finished run's model.

    Raises:
        RunError: it cannot be read, or is the model of another run.
    """
    targets = trained.config.model.targets
    network = load_model(trained.run.model)
    _check_shapes(trained, network)
    use_fast_kernels(network, device.kind)
    step = inference.build_predict_step(device.strategy, network, targets)
    return TrainedModel(trained, network, step, device, display)


def _check_shapes(trained: TrainedRun, network: Any) -> None:
    """Make sure that the inputs and outputs of a network are those of its run."""
    size, targets = trained.config.image.size, trained.config.model.targets
    widths = {"expression": len(trained.classes), "valence_arousal": 2}
    expected = {"input": (size, size, 3)} | {name: (widths[name],) for name in targets}
    try:
        outputs = named_outputs(network.output, targets)
        shapes = {"input": network.input.shape} | {name: out.shape for name, out in outputs.items()}
        found = {name: tuple(shape[1:]) for name, shape in shapes.items()}
    except (AttributeError, TypeError):
        found = {}  # several inputs, a list of outputs, or a network without a graph
    if found != expected:
        raise RunError(
            f"{trained.run.model}: is not the model of this run: it has "
            f"{_shown(found) or 'other inputs or outputs'}; the run needs {_shown(expected)}.\n"
            f"{OTHER_MODEL}"
        )


def _shown(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """`input 48 x 48 x 3, expression 7`."""
    return ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in shapes.items())
