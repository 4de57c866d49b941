"""How much faster the fast kernels are than those of Keras: BatchNorm, pixels, dropout, Adam.

Stock and fast have the same weights and see the same batch; their steps alternate, so that a
machine whose speed drifts slows both. Prints the median time of each, the median ratio of the
pairs, and the lowest and highest ratio. Adam updates float32 variables in either precision.

    python scripts/benchmark_kernels.py --kernels dropout dropout_of_large_maps
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

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
    stock, fast = built_twice("cnn_compact", 48)
    use_fast_kernels(fast, "gpu")  # there BatchNorm alone is another one
    return training_step(stock, 48, 128), training_step(fast, 48, 128)


def pixels() -> Calls:
    """Training steps of resnet50 at 64 px with batches of 32: fused BatchNorm, products as well."""
    slow, fast = built_twice("resnet50", 64)
    use_fast_kernels(slow, "gpu")
    use_fast_kernels(fast, "cpu")
    return training_step(slow, 64, 32), training_step(fast, 64, 32)


def dropout() -> Calls:
    """Training steps of cnn_slides at 48 px with batches of 64: dropout by bytes as well."""
    return _with_and_without_dropout("cnn_slides", 48, 64)


def dropout_of_large_maps() -> Calls:
    """Training steps of cnn_pisa_l2 at 180 px with batches of 32: dropout by bytes."""
    return _with_and_without_dropout("cnn_pisa_l2", 180, 32)


def _with_and_without_dropout(backbone: str, size: int, batch: int) -> Calls:
    slow, fast = built_twice(backbone, size)
    use_fast_kernels(slow, "gpu")  # the networks have no convolution of one pixel
    use_fast_kernels(fast, "cpu")
    return training_step(slow, size, batch), training_step(fast, size, batch)


def adam() -> Calls:
    """Updates of all variables of vgg16: Keras, fused Adam."""
    shapes = [
        v.shape for v in build_model(Model(backbone="vgg16"), 48, CLASSES).trainable_variables
    ]
    return update(keras.optimizers.Adam(1e-3), shapes), update(FusedAdam(1e-3), shapes)


def built_twice(backbone: str, size: int) -> tuple[Any, Any]:
    """A model and its copy, with the same weights."""
    model = build_model(Model(backbone=backbone), size, CLASSES)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return model, copy


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
    """A call that makes one update of variables of these shapes and waits for it."""
    generator = np.random.default_rng(0)
    values = [generator.normal(size=shape).astype(np.float32) for shape in shapes]
    variables, gradients = ([make(v) for v in values] for make in (keras.Variable, tf.constant))
    optimizer.build(variables)
    step = tf.function(lambda parts: optimizer.apply(parts, variables))

    def once() -> None:
        step(gradients)
        variables[-1].numpy()

    return once


def compare(calls: Calls, pairs: int) -> str:
    """Median seconds of each, their ratio and its range, in a line; after a pair to warm up."""
    for call in calls:
        call()
    times = np.array([[seconds(call) for call in calls] for _ in range(pairs)])
    (slow, fast), ratios = np.median(times, axis=0), times[:, 0] / times[:, 1]
    return (
        f"{slow * 1e3:7.0f} ms {fast * 1e3:7.0f} ms {np.median(ratios):6.2f} times as fast "
        f"({ratios.min():.2f} to {ratios.max():.2f}, {pairs} pairs)"
    )


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = (batch_norm, pixels, dropout, dropout_of_large_maps, adam)
    known = {make.__name__: make for make in every}
    parser.add_argument("--kernels", nargs="+", choices=[*known], default=[*known])
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    for precision in PRECISIONS:
        keras.mixed_precision.set_global_policy(POLICIES[precision])
        for name in arguments.kernels:
            keras.utils.clear_session()
            line = compare(known[name](), arguments.pairs)
            print(f"{name:21} {precision:8} {line}", flush=True)


if __name__ == "__main__":
    main()
