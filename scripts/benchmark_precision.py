"""In which arithmetic a network is faster here: float32 or bfloat16, answering and training.

A network is built in either precision and sees the same images. Their calls alternate, so that a
machine whose speed drifts slows both. Prints the median images a second of each, the median ratio
of the pairs (above 1, bfloat16 is faster), and the lowest and highest ratio. `precision: auto`
follows from it for networks of depthwise convolutions (docs/performance.md).

    python scripts/benchmark_precision.py
    python scripts/benchmark_precision.py --networks efficientnetv2l --batch 8
"""

import argparse
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf
from benchmark_kernels import CLASSES, seconds, training_step

from fer_bench.config.model import Model
from fer_bench.device.precision import POLICIES
from fer_bench.models.build import build_model
from fer_bench.models.kernels import use_fast_kernels

PRECISIONS = ("float32", "bfloat16")
NETWORKS = "mobilenetv3small,efficientnetb3,resnet50"
Calls = dict[str, Callable[[], object]]


def calls(network: str, size: int, batch: int, precision: str) -> Calls:
    """What is timed of a network: the answer to a batch, and a training step of all its layers."""
    keras.mixed_precision.set_global_policy(POLICIES[precision])
    keras.utils.set_random_seed(0)
    model = build_model(Model(backbone=network), size, CLASSES)
    use_fast_kernels(model, "cpu")
    images = np.random.default_rng(0).uniform(0, 255, (batch, size, size, 3)).astype(np.float32)
    answer, inputs = tf.function(lambda x: model(x, training=False)), tf.constant(images)
    return {
        "answering": lambda: answer(inputs).numpy(),
        "training": training_step(model, size, batch),
    }


def compare(network: str, size: int, batch: int, pairs: int) -> Iterator[str]:
    """A line of a Markdown table for answering, and one for training."""
    by_precision = [calls(network, size, batch, precision) for precision in PRECISIONS]
    for what in by_precision[0]:
        turns = [each[what] for each in by_precision]
        for call in turns:  # traced
            call()
        times = np.array([[seconds(call) for call in turns] for _ in range(pairs)])
        rates, ratios = batch / np.median(times, axis=0), times[:, 0] / times[:, 1]
        yield (
            f"| {network} | {what} | {rates[0]:.3g} | {rates[1]:.3g} "
            f"| {np.median(ratios):.2f} [{ratios.min():.2f}, {ratios.max():.2f}] |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", default=NETWORKS, help="names, with commas between")
    parser.add_argument("--size", type=int, default=96, help="in pixels")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch")
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    print("| network | | float32, images/s | bfloat16, images/s | ratio [of the pairs] |")
    print("|---|---|---|---|---|")
    for network in arguments.networks.split(","):
        keras.utils.clear_session()
        for line in compare(network, arguments.size, arguments.batch, arguments.pairs):
            print(line, flush=True)


if __name__ == "__main__":
    main()
