"""How much faster the fast kernels are than those of Keras: BatchNorm, pixels, dropout, Adam.

The stock and the fast version have the same weights, see the same batch, and take turns. Prints the
median time of each, and the median ratio with its 95% interval (above 1, the fast kernels are
faster). Adam updates float32 variables in either precision.

    python scripts/benchmark_kernels.py --kernels dropout dropout_of_large_maps
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from measuring import paired_ratio, parser_of, print_heading, print_row, take_turns

from fer_bench.config.model import Model
from fer_bench.device.precision import POLICIES
from fer_bench.models.build import build_model
from fer_bench.models.kernels import use_fast_kernels
from fer_bench.training import steps
from fer_bench.training.losses import Objective
from fer_bench.training.optimizers import FusedAdam

CLASSES = 7
PRECISIONS = ("bfloat16", "float32")
Calls = tuple[Callable[[], None], Callable[[], None]]


def batch_norm() -> Calls:
    """Training steps of cnn_compact at 48 px with batches of 128: Keras, fused BatchNorm."""
    return _steps("cnn_compact", 48, 128, (None, "gpu"))  # on a GPU, only BatchNorm is replaced


def pixels() -> Calls:
    """Training steps of resnet50 at 64 px with batches of 32: fused BatchNorm, also products."""
    return _steps("resnet50", 64, 32, ("gpu", "cpu"))


def dropout() -> Calls:
    """Training steps of cnn_slides at 48 px with batches of 64: fused BatchNorm, also dropout."""
    return _steps("cnn_slides", 48, 64, ("gpu", "cpu"))  # without 1×1 convolutions


def dropout_of_large_maps() -> Calls:
    """Training steps of cnn_pisa_l2 at 180 px with batches of 32: dropout by bytes."""
    return _steps("cnn_pisa_l2", 180, 32, ("gpu", "cpu"))


def adam() -> Calls:
    """Updates of all variables of vgg16: Keras, fused Adam."""
    model = build_model(Model(backbone="vgg16"), 48, CLASSES)
    shapes = [variable.shape for variable in model.trainable_variables]
    return update(keras.optimizers.Adam(1e-3), shapes), update(FusedAdam(1e-3), shapes)


def _steps(backbone: str, size: int, batch: int, kernels: tuple[str | None, str]) -> Calls:
    """Steps of a model and of its copy with the same weights, each with the kernels of a device."""
    model = build_model(Model(backbone=backbone), size, CLASSES)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for each, device in zip((model, copy), kernels, strict=True):
        if device:
            use_fast_kernels(each, device)
    return training_step(model, size, batch), training_step(copy, size, batch)


def training_step(model: Any, size: int, batch: int) -> Callable[[], None]:
    """A call that makes one optimizer step and waits for it."""
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 255, (batch, size, size, 3)).astype(np.float32)
    inputs = tf.constant(images)
    targets = {"expression": tf.constant(generator.integers(0, CLASSES, batch), tf.int32)}
    optimizer = keras.optimizers.SGD(1e-3)
    optimizer.build(model.trainable_variables)
    totals = steps.Totals()
    objective = Objective(np.ones(CLASSES, np.float32))
    step = steps.build_train_step(tf.distribute.get_strategy(), model, optimizer, totals, objective)

    def once() -> None:
        step(inputs, targets, np.int64(0))
        totals.read()

    return once


def update(optimizer: Any, shapes: list[tuple[int, ...]]) -> Callable[[], None]:
    """A call that updates variables of these shapes once and waits for it."""
    generator = np.random.default_rng(0)
    values = [generator.normal(size=shape).astype(np.float32) for shape in shapes]
    variables, gradients = ([make(v) for v in values] for make in (keras.Variable, tf.constant))
    optimizer.build(variables)
    step = tf.function(lambda parts: optimizer.apply(parts, variables))

    def once() -> None:
        step(gradients)
        variables[-1].numpy()

    return once


def main() -> None:
    """Measure and print."""
    kernels = (batch_norm, pixels, dropout, dropout_of_large_maps, adam)
    known = {make.__name__: make for make in kernels}
    parser = parser_of(__doc__)
    parser.add_argument("--kernels", nargs="+", choices=[*known], default=[*known])
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    print_heading(("kernels", "precision", "stock, ms", "fast, ms", "ratio [95%]"))
    for precision in PRECISIONS:
        keras.mixed_precision.set_global_policy(POLICIES[precision])
        for name in arguments.kernels:
            keras.utils.clear_session()
            calls = dict(zip(("stock", "fast"), known[name](), strict=True))
            times = take_turns(calls, arguments.pairs)
            walls = [[1e3 * timing.wall for timing in timings] for timings in times.values()]
            medians = [f"{np.median(wall):.0f}" for wall in walls]
            print_row((name, precision, *medians, str(paired_ratio(*walls))))


if __name__ == "__main__":
    main()
