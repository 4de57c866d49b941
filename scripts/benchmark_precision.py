"""Whether a network is faster in float32 or in bfloat16 here, in inference and in training.

The network is built in both precisions, sees the same images, and the two take turns. Prints the
median images per second of each, and the median ratio with its 95% interval (above 1, bfloat16 is
faster). `precision: auto` of depthwise networks follows from it (docs/performance.md).

    python scripts/benchmark_precision.py
    python scripts/benchmark_precision.py --networks efficientnetv2l --batch 8
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from benchmark_kernels import CLASSES, training_step
from measuring import paired_ratio, parser_of, print_heading, print_row, take_turns

from fer_bench.config.model import Model
from fer_bench.device.precision import POLICIES
from fer_bench.models.build import build_model
from fer_bench.models.kernels import use_fast_kernels

PRECISIONS = ("float32", "bfloat16")
NETWORKS = "mobilenetv3small,efficientnetb3,resnet50"


def calls(network: str, size: int, batch: int, precision: str) -> dict[str, Callable[[], object]]:
    """The calls to time: inference of a batch, and a training step of all layers."""
    keras.mixed_precision.set_global_policy(POLICIES[precision])
    keras.utils.set_random_seed(0)
    model = build_model(Model(backbone=network), size, CLASSES)
    use_fast_kernels(model, "cpu")
    images = np.random.default_rng(0).uniform(0, 255, (batch, size, size, 3)).astype(np.float32)
    answer, inputs = tf.function(lambda x: model(x, training=False)), tf.constant(images)
    return {
        "inference": lambda: answer(inputs).numpy(),
        "training": training_step(model, size, batch),
    }


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--networks", default=NETWORKS, help="comma-separated names")
    parser.add_argument("--size", type=int, default=96, help="pixels")
    parser.add_argument("--batch", type=int, default=32, help="images per batch")
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    print_heading(("network", "", "float32, images/s", "bfloat16, images/s", "ratio [95%]"))
    for network in arguments.networks.split(","):
        keras.utils.clear_session()
        made = {
            precision: calls(network, arguments.size, arguments.batch, precision)
            for precision in PRECISIONS
        }
        for what in made["float32"]:
            turns = {precision: made[precision][what] for precision in PRECISIONS}
            times = take_turns(turns, arguments.pairs)
            walls = [[timing.wall for timing in timings] for timings in times.values()]
            rates = [f"{arguments.batch / np.median(wall):.3g}" for wall in walls]
            print_row((network, what, *rates, str(paired_ratio(*walls))))


if __name__ == "__main__":
    main()
