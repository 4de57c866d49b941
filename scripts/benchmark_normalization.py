"""How much faster a training step is with fused batch normalization than with Keras's own.

Both models have the same weights and see the same batch; steps alternate, so that a machine whose
speed drifts slows both. Prints the median time of each and the median ratio of the pairs.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fer_bench import loop
from fer_bench.config import Model
from fer_bench.device import POLICIES
from fer_bench.kernels import fused
from fer_bench.losses import Objective
from fer_bench.model import build_model


def training_step(model: Any, batch: tuple[Any, dict[str, Any]]) -> Callable[[], None]:
    """A call that makes one optimizer step and waits for it."""
    optimizer = keras.optimizers.AdamW(1e-3)
    optimizer.build(model.trainable_variables)
    totals = loop.Totals()
    objective = Objective(np.ones(7, np.float32))
    step = loop.build_train_step(tf.distribute.get_strategy(), model, optimizer, totals, objective)

    def once() -> None:
        step(*batch, np.int64(0))
        totals.read()

    once()
    return once


def seconds(call: Callable[[], None]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="cnn_compact")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", choices=POLICIES, default="bfloat16")
    parser.add_argument("--pairs", type=int, default=9)
    arguments = parser.parse_args()

    keras.mixed_precision.set_global_policy(POLICIES[arguments.precision])
    generator = np.random.default_rng(0)
    shape = (arguments.batch_size, arguments.size, arguments.size, 3)
    images = tf.constant(generator.uniform(0, 255, shape).astype(np.float32))
    codes = tf.constant(generator.integers(0, 7, arguments.batch_size), tf.int32)
    stock = build_model(Model(backbone=arguments.backbone), arguments.size, 7)
    calls = [
        training_step(model, (images, {"expression": codes})) for model in (stock, fused(stock))
    ]
    times = np.array([[seconds(call) for call in calls] for _ in range(arguments.pairs)])
    for name, median in zip(("stock", "fused"), np.median(times, axis=0), strict=True):
        print(f"{name}: {median * 1e3:.0f} ms a step, {arguments.batch_size / median:.0f} images/s")
    ratios = times[:, 0] / times[:, 1]
    print(
        f"fused is {np.median(ratios):.2f} times as fast "
        f"(pairs from {ratios.min():.2f} to {ratios.max():.2f}, n = {arguments.pairs})"
    )


if __name__ == "__main__":
    main()
