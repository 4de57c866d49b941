"""How the time and memory of training grow with images, image size and trainable layers.

Varies one axis at a time from a base: the number of images (1, 2, 4 and 8 times `--images`), the
image size (`--sizes`, for every choice of trainable layers), and the trainable layers (`--free`).
Each point is a run of `fer train` on drawn faces in its own process, with `precision: auto` and an
empty cache. With resnet50 that is 19 runs; `--free last-45,all` makes 11 of them.

*epoch* is one pass of training over the images, without validation and saving: the median from the
second epoch on. If a trunk is frozen and its output cached, it covers only the layers after the
trunk. *pass* is the one pass of all training images through the frozen trunk, from the pace after
the first batch, so that tracing does not count. *bytes* are the size per image of the caches of
decoded images and of the output of the trunk. *RssAnon* is the peak memory of the process alone.

The fits: time = a + b times the images, where b is the time per image; and time proportional to a
power of the size, from a straight line through the logarithms. A power of 2 means that time grows
like the number of pixels; less, that something does not; more, that the processor's caches no
longer suffice. The prediction for `--wanted-images` at `--wanted-size` (by default those of
AffectNet) is the time per image at the largest measured size, times the images, times the growth in
size to the power for the same layers. It is an extrapolation on this machine, without decoding of
images that exceed the cache; only the bytes of the trunk are computed from the network itself.

    python scripts/cost_model.py --json cost.json
"""

import argparse
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from baselines.task import Stage
from benchmark_data import GIB, MemorySampler, configured, facts
from drawn_images import write_images
from measuring import (
    NONE,
    ChildError,
    answer_as_child,
    append_json,
    at_least,
    machine,
    machine_lines,
    parser_of,
    run_child,
    table,
)
from rich.console import Console

from fer_bench.device.precision import POLICIES
from fer_bench.device.selection import open_device
from fer_bench.labels import EXPRESSIONS
from fer_bench.models import freezing
from fer_bench.models.build import build_model
from fer_bench.report.terminal.progress import PlainDisplay
from fer_bench.storage.cache import entries
from fer_bench.training import frozen_features
from fer_bench.training.session import chosen_precision
from fer_bench.training.train import train

MULTIPLES = (1, 2, 4, 8)
CHANNELS = 3


@dataclass(frozen=True)
class Point:
    """One run: the number of images, their size in pixels, and the trainable layers."""

    images: int
    size: int
    free: str


@dataclass(frozen=True)
class Cost:
    """The cost of one run.

    Attributes:
        point: the run.
        epoch_seconds: the duration of every epoch from the second on.
        pass_seconds: the duration of the pass through the frozen trunk; None without one, or if all
            images were in one batch.
        image_bytes: size of the image cache per image.
        trunk_bytes: size of the trunk cache per image; None without one.
        peak_bytes: peak of anonymous memory.
    """

    point: Point
    epoch_seconds: Sequence[float]
    pass_seconds: float | None
    image_bytes: float
    trunk_bytes: float | None
    peak_bytes: int

    @property
    def epoch(self) -> float:
        """The median epoch in seconds."""
        return statistics.median(self.epoch_seconds)

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        point = self.point
        return (
            *(f"{point.images:,}", str(point.size), point.free, f"{self.epoch:.3g} s"),
            *(or_none(self.pass_seconds, "{:.3g} s"), f"{self.image_bytes:,.0f}"),
            *(or_none(self.trunk_bytes, "{:,.0f}"), f"{self.peak_bytes / GIB:.2f} GiB"),
        )


def or_none(value: float | None, template: str) -> str:
    """A value as text, if any."""
    return NONE if value is None else template.format(value)


# One run ----------------------------------------------------------------------------------------


class Clock(PlainDisplay):
    """A display that records the duration of epochs and of the pass through the trunk."""

    def __init__(self) -> None:
        super().__init__(Console(stderr=True))
        self.epoch_seconds: list[float] = []
        self.pass_marks: list[tuple[int, float]] = []  # images done, and when
        self.began = 0.0

    def progress(self, what: str, done: int, total: int) -> None:
        """Record the time after each batch of training images through the frozen layers."""
        super().progress(what, done, total)
        if what.startswith("frozen layers") and what.endswith("train images"):
            self.pass_marks.append((done, time.perf_counter()))

    def start_epoch(self, epoch: int, epochs: int, stage: str, steps: int) -> None:
        """Start the clock of the epoch."""
        super().start_epoch(epoch, epochs, stage, steps)
        self.began = time.perf_counter()

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Stop the clock after the last step."""
        if step == self.steps:
            self.epoch_seconds.append(time.perf_counter() - self.began)
        super().step(step, loss, accuracy, images_per_second)


def pass_seconds(marks: Sequence[tuple[int, float]]) -> float | None:
    """The duration of a pass, from (images done, when) after each batch.

    None without a pass, and if all images are in one batch, whose time includes tracing.
    """
    if len(marks) < 2:
        return None
    (first, began), (last, ended) = marks[0], marks[-1]
    return (ended - began) / (last - first) * last


def child_point(options: dict[str, Any]) -> dict[str, Any]:
    """Train one point; its cost."""
    config = configured(options, [Stage(options["free"], options["epochs"])])
    device, display, sampler = open_device(options["device"]), Clock(), MemorySampler()
    sampler.start()
    with tempfile.TemporaryDirectory() as outputs:
        train(config, Path(outputs), device, display)
    return {
        "epoch_seconds": display.epoch_seconds[1:],
        "pass_seconds": pass_seconds(display.pass_marks),
        "image_bytes": bytes_per_image("images"),
        "trunk_bytes": bytes_per_image("trunk"),
        "peak_bytes": sampler.stop()["anonymous"],
        "facts": facts(device, config),
    }


def bytes_per_image(kind: str) -> float | None:
    """The size of the cache entries of this kind per image; None without any."""
    found = entries({kind})
    images = sum(entry.note["images"] for entry in found)
    return sum(entry.bytes for entry in found) / images if images else None


def child_trunks(options: dict[str, Any]) -> dict[str, int | None]:
    """By choice of layers, bytes per image of the output of the trunk; None without a trunk."""
    device = open_device(options["device"])
    found: dict[str, int | None] = {}
    for free in options["free"]:
        config = configured(options, [Stage(free, 1)])
        keras.mixed_precision.set_global_policy(POLICIES[chosen_precision(config, device)])
        model = build_model(config.model, options["size"], len(EXPRESSIONS))
        end = freezing.set_trainable(model, config.stages[0], weights="none").trunk
        found[free] = frozen_features.row_bytes(model, end) if end else None
        keras.utils.clear_session()
    return found


# Fits -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prediction:
    """The predicted cost of many images at a large size.

    Attributes:
        free: the trainable layers.
        exponent: of the duration of an epoch as a power of the size.
        epoch_hours: an epoch, with the output of the trunk cached.
        pass_hours: the one pass through the trunk; None without one.
        trunk_gb: the trunk cache in 10^9 bytes; None without one.
    """

    free: str
    exponent: float
    epoch_hours: float
    pass_hours: float | None
    trunk_gb: float | None

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        return (
            *(self.free, f"{self.exponent:.2f}", f"{self.epoch_hours:.3g} h"),
            *(or_none(self.pass_hours, "{:.3g} h"), or_none(self.trunk_gb, "{:,.1f} GB")),
        )


def line_through(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The least-squares line y = a + b x as (a, b)."""
    x, y = np.array(points, np.float64).T
    slope, intercept = np.polyfit(x, y, 1)
    return float(intercept), float(slope)


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The power p in y ~ x^p, from a line through the logarithms of (x, y), all above 0."""
    return line_through([(float(np.log(x)), float(np.log(y))) for x, y in points])[1]


def predicted(
    costs: Sequence[Cost], free: str, row_bytes: int | None, images: int, size: int
) -> Prediction:
    """The cost of `images` at `size`, from the costs of these layers at several sizes."""
    ordered = sorted(costs, key=lambda cost: cost.point.size)
    epochs = [(cost.point, cost.epoch) for cost in ordered]
    passes = [(cost.point, cost.pass_seconds) for cost in ordered if cost.pass_seconds]
    return Prediction(
        free,
        exponent([(point.size, seconds) for point, seconds in epochs]),
        extrapolated(epochs, images, size) / 3600,
        extrapolated(passes, images, size) / 3600 if len(passes) > 1 else None,
        None if row_bytes is None else row_bytes * images / 1e9,
    )


def extrapolated(measured: Sequence[tuple[Point, float]], images: int, size: int) -> float:
    """Seconds for `images` at `size`, from the last measured point and the exponent of all."""
    last, seconds = measured[-1]
    power = exponent([(point.size, of_point) for point, of_point in measured])
    return seconds / last.images * images * float((size / last.size) ** power)


# The driver -------------------------------------------------------------------------------------


def points(arguments: argparse.Namespace) -> list[Point]:
    """The base with more and more images, and every size with every choice of layers."""
    base = Point(arguments.images, arguments.base_size, arguments.base_free)
    more = [Point(factor * base.images, base.size, base.free) for factor in MULTIPLES]
    grid = [Point(base.images, size, free) for free in arguments.free for size in arguments.sizes]
    return list(dict.fromkeys([*more, *grid]))


def options_of(arguments: argparse.Namespace, size: int, images: Path) -> dict[str, Any]:
    """The options of every child."""
    keys = ("network", "batch_size", "device", "seed", "max_gb")
    return {key: getattr(arguments, key) for key in keys} | {"size": size, "images": str(images)}


def measure(point: Point, arguments: argparse.Namespace) -> Cost:
    """Draw the images of a point, train, and remove them. Raises: ChildError."""
    with tempfile.TemporaryDirectory(prefix="fer-cost-model-") as folder:
        images = Path(folder, "images")
        numbers = {"train": point.images, "validation": arguments.batch_size}
        write_images(
            images, numbers, point.size, faces=arguments.faces, link=True, seed=arguments.seed
        )
        options = options_of(arguments, point.size, images)
        options |= {"free": point.free, "epochs": arguments.epochs}
        found = run_child(Path(__file__), "point", options, Path(folder, "cache"))
    del found["facts"]
    return Cost(point, **found)


def predictions(costs: Sequence[Cost], arguments: argparse.Namespace) -> list[Prediction]:
    """The cost of the wanted images with each choice of layers. Raises: ChildError."""
    images, size = arguments.wanted_images, arguments.wanted_size
    with tempfile.TemporaryDirectory() as cache:
        options = options_of(arguments, size, Path(cache)) | {"free": arguments.free}
        trunks = run_child(Path(__file__), "trunks", options, Path(cache))
    found = []
    for free in arguments.free:
        axis = {Point(arguments.images, each, free) for each in arguments.sizes}
        of_free = [cost for cost in costs if cost.point in axis]
        found.append(predicted(of_free, free, trunks[free], images, size))
    return found


def report(
    costs: Sequence[Cost],
    found: Sequence[Prediction],
    host: Mapping[str, Any],
    arguments: argparse.Namespace,
) -> str:
    """Both tables and the fits, below the facts on the machine."""
    images, size = arguments.wanted_images, arguments.wanted_size
    heading = ("images", "size", "free", "epoch", "pass")
    bytes_heading = ("image cache, bytes per image", "trunk cache, bytes per image", "RssAnon")
    return "\n".join(
        [
            machine_lines(host),
            f"- {arguments.network}, batches of {arguments.batch_size}",
            "",
            table((*heading, *bytes_heading), [cost.cells for cost in costs]),
            "",
            *fits(costs, arguments),
            "",
            f"{images:,} images at {size} px, by extrapolation on this machine:",
            "",
            table(
                ("free", "exponent", "hours per epoch", "hours of the pass", "trunk cache"),
                [prediction.cells for prediction in found],
            ),
            "",
            f"The image cache would take {images * size**2 * CHANNELS / 1e9:,.1f} GB. A cache "
            f"beyond `cache.max_gb` ({arguments.max_gb:g} GB here) is not kept: without the output "
            "of the trunk, every epoch also takes the hours of the pass; without the images, every "
            "epoch also decodes them, which these hours do not include.",
        ]
    )


def fits(costs: Sequence[Cost], arguments: argparse.Namespace) -> list[str]:
    """Time as a linear function of the number of images, in words."""
    size, free = arguments.base_size, arguments.base_free
    axis = [cost for cost in costs if (cost.point.size, cost.point.free) == (size, free)]
    fitted = {
        "epoch": [(cost.point.images, cost.epoch) for cost in axis],
        "pass": [(cost.point.images, cost.pass_seconds) for cost in axis if cost.pass_seconds],
    }
    lines = {what: line_through(pairs) for what, pairs in fitted.items() if len(pairs) > 1}
    return [
        f"- {what} at {size} px, {free} free: {start:.3f} s + {1000 * slope:.3f} ms per image"
        for what, (start, slope) in lines.items()
    ]


def free_layers(text: str) -> list[str]:
    """Comma-separated `head`, `all` or `last-<number>`. Raises: ArgumentTypeError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"head|all|last-\d+", part) for part in parts):
        raise argparse.ArgumentTypeError(f"must be head, all or last-<number>, got {text!r}")
    return parts


def sizes_of(text: str) -> list[int]:
    """Two or more comma-separated numbers. Raises: ArgumentTypeError."""
    sizes = sorted({at_least(1)(part.strip()) for part in text.split(",")})
    if len(sizes) < 2:
        raise argparse.ArgumentTypeError(f"must be two sizes or more, got {text}")
    return sizes


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--images", type=at_least(1), default=512, help="of the base")
    parser.add_argument("--sizes", type=sizes_of, default=[48, 64, 96, 128], help="in pixels")
    parser.add_argument("--free", type=free_layers, default=["head", "last-20", "last-45", "all"])
    parser.add_argument("--base-size", type=at_least(1), default=64)
    parser.add_argument("--base-free", default="last-45", help="for the axis of images")
    parser.add_argument("--epochs", type=at_least(2), default=3, help="the first does not count")
    parser.add_argument("--batch-size", type=at_least(1), default=32)
    parser.add_argument("--faces", type=at_least(1), default=64, help="different images")
    parser.add_argument("--max-gb", type=float, default=20.0, help="cache.max_gb")
    parser.add_argument("--wanted-images", type=at_least(1), default=287_651)
    parser.add_argument("--wanted-size", type=at_least(1), default=224)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="append a line of JSON")
    return parser


CHILDREN = {"point": child_point, "trunks": child_trunks}


def main() -> None:
    """Measure point by point, fit and print."""
    arguments = _parser().parse_args()
    host, costs = machine(), []
    try:
        for point in points(arguments):
            costs.append(cost := measure(point, arguments))
            print(" | ".join(cost.cells), flush=True)
        found = predictions(costs, arguments)
    except ChildError as error:
        sys.exit(f"no result: {error}")
    print(f"\n{report(costs, found, host, arguments)}")
    if arguments.json:
        document = {
            "network": arguments.network,
            "costs": [asdict(cost) for cost in costs],
            "predictions": [asdict(prediction) for prediction in found],
            "machine": host,
        }
        append_json(arguments.json, document)


if __name__ == "__main__" and not answer_as_child(CHILDREN):
    main()
