"""How the time and memory of training grow with images, image size and free layers.

One axis at a time, from a base: the number of images (1, 2, 4 and 8 times `--images`), the image
size (`--sizes`, for every setting of the free layers), and what trains (`--free`: the head, the
last layers, all). Each point is a run of `fer train` on drawn faces in a process of its own, with
batches of 32, `precision: auto` and a temporary cache that is empty at first. With resnet50 that is
19 runs; `--free last-45,all` makes 11 of them.

How to read it: *epoch* is a pass of training over the images, without validation and saving, the
median from the second epoch on; where a trunk is frozen and kept, only the layers after it are in
it. *Pass* is the one pass of all training images through the frozen trunk, from the pace after the
first batch, so that tracing is not in it. *Bytes* are what the caches of decoded images and of the
trunk's output take for an image. *RssAnon* is the most memory that belonged to the process alone.

Two fits follow. Time = a + b times the images: b is the time for an image. Time is proportional to
the size to some power: the exponent of a straight line through the logarithms. 2 means that time
grows as the number of pixels does; less, that something does not; more, that the cache memory of
the processor no longer suffices. From both comes what as many images as AffectNet has would take at
`--wanted-size`: time for an image at the largest size measured, times the images, times the growth
in size to the power of the exponent of the same free layers. The bytes of the trunk there are those
of the network itself, not a fit. It is an extrapolation on this machine: the times beyond the
measured sizes are not measured, and decoding of images that do not fit into the cache is not in it.

    python scripts/cost_model.py --json cost.json
    python scripts/cost_model.py --network mobilenetv3small
"""

import argparse
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
from baselines.task import Stage, stage
from benchmark import at_least_one
from benchmark_data import (
    GIB,
    NONE,
    ChildError,
    Watch,
    answer_as_child,
    append_json,
    configured,
    facts,
    machine_lines,
    machine_of,
    run_child,
    table,
    write_images,
)
from rich.console import Console

from fer_bench.device.selection import POLICIES, open_device
from fer_bench.labels import EXPRESSIONS
from fer_bench.models import freezing
from fer_bench.models.build import build_model
from fer_bench.report.terminal.progress import PlainDisplay
from fer_bench.storage import cache as cache_module
from fer_bench.training import frozen_features
from fer_bench.training.session import chosen_precision
from fer_bench.training.train import train

MULTIPLES = (1, 2, 4, 8)
CHANNELS = 3


@dataclass(frozen=True)
class Point:
    """What one run trains: so many images of a size in pixels, and which layers are free."""

    images: int
    size: int
    free: str


@dataclass(frozen=True)
class Cost:
    """What one run took.

    Attributes:
        point: which run.
        epoch_seconds: of every epoch from the second on.
        pass_seconds: of the pass through the frozen trunk; None where nothing was kept, or all
            images were in one batch.
        image_bytes: of the image cache for an image.
        trunk_bytes: of the trunk cache for an image; None where nothing was kept.
        peak_bytes: the most anonymous memory.
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
        """A line of the table."""
        point = self.point
        return (
            *(f"{point.images:,}", str(point.size), point.free, f"{self.epoch:.3g} s"),
            NONE if self.pass_seconds is None else f"{self.pass_seconds:.3g} s",
            f"{self.image_bytes:,.0f}",
            NONE if self.trunk_bytes is None else f"{self.trunk_bytes:,.0f}",
            f"{self.peak_bytes / GIB:.2f} GiB",
        )


HEADING = (
    *("images", "size", "free", "epoch", "pass"),
    *("image cache, bytes an image", "trunk cache, bytes an image", "RssAnon"),
)


# One run ----------------------------------------------------------------------------------------


class Timing(PlainDisplay):
    """A display that keeps the times of epochs and of the pass through the trunk."""

    def __init__(self) -> None:
        super().__init__(Console(stderr=True))
        self.epochs_seconds: list[float] = []
        self.pass_marks: list[tuple[int, float]] = []  # images done, when
        self.began = 0.0

    def progress(self, what: str, done: int, total: int) -> None:
        """Note when so many training images are through the frozen layers."""
        super().progress(what, done, total)
        if what.startswith("frozen layers") and what.endswith("train images"):
            self.pass_marks.append((done, time.perf_counter()))

    def start_epoch(self, epoch: int, epochs: int, stage: str, steps: int) -> None:
        """Start the clock of the epoch."""
        super().start_epoch(epoch, epochs, stage, steps)
        self.began = time.perf_counter()

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Stop it with the last step."""
        if step == self.steps:
            self.epochs_seconds.append(time.perf_counter() - self.began)
        super().step(step, loss, accuracy, images_per_second)


def pass_seconds(marks: Sequence[tuple[int, float]]) -> float | None:
    """The seconds of a pass, from (images done, when) after each batch.

    None without a pass, and where all images are in one batch, whose time has tracing in it.
    """
    if len(marks) < 2:
        return None
    (first, began), (last, ended) = marks[0], marks[-1]
    return (ended - began) / (last - first) * last


def child_point(options: dict[str, Any]) -> dict[str, Any]:
    """A run, and what it took."""
    config = configured(options, stages=[stage(f"{options['free']}:{options['epochs']}")])
    device, display, watch = open_device(options["device"]), Timing(), Watch()
    watch.start()
    with tempfile.TemporaryDirectory() as outputs:
        train(config, Path(outputs), device, display)
    return {
        "epoch_seconds": display.epochs_seconds[1:],
        "pass_seconds": pass_seconds(display.pass_marks),
        "image_bytes": bytes_per_image("images"),
        "trunk_bytes": bytes_per_image("trunk"),
        "peak_bytes": watch.stop()["anonymous"],
        "facts": facts(device, config),
    }


def bytes_per_image(kind: str) -> float | None:
    """What the cache holds of this kind, over the images; None where it holds nothing."""
    entries = cache_module.entries({kind})
    images = sum(entry.note["images"] for entry in entries)
    return sum(entry.bytes for entry in entries) / images if images else None


def child_trunks(options: dict[str, Any]) -> dict[str, int | None]:
    """By setting of the free layers, bytes of the trunk's output for an image of `size`.

    None where no trunk is frozen.
    """
    device = open_device(options["device"])
    found: dict[str, int | None] = {}
    for free in options["free"]:
        config = configured(options, stages=[Stage(free, 1)])
        keras.mixed_precision.set_global_policy(POLICIES[chosen_precision(config, device)])
        model = build_model(config.model, options["size"], len(EXPRESSIONS))
        end = freezing.set_trainable(model, config.stages[0], weights="none").trunk
        found[free] = frozen_features.row_bytes(model, end) if end else None
        keras.utils.clear_session()
    return found


# Fits -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prediction:
    """What many images at a large size would take with some layers free.

    Attributes:
        free: which layers.
        exponent: of the time of an epoch in the size.
        epoch_hours: of an epoch; what is frozen is kept.
        pass_hours: of the one pass through what is frozen; None where nothing is.
        trunk_gb: of the trunk cache in 10^9 bytes; None where there is none.
    """

    free: str
    exponent: float
    epoch_hours: float
    pass_hours: float | None
    trunk_gb: float | None

    @property
    def cells(self) -> tuple[str, ...]:
        """A line of the table."""
        return (
            *(self.free, f"{self.exponent:.2f}", f"{self.epoch_hours:.3g} h"),
            NONE if self.pass_hours is None else f"{self.pass_hours:.3g} h",
            NONE if self.trunk_gb is None else f"{self.trunk_gb:,.1f} GB",
        )


PREDICTED = ("free", "exponent", "hours an epoch", "hours of the pass", "trunk cache")


def line_through(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(a, b) of the line y = a + b x that has the least squares."""
    x, y = np.array(points, np.float64).T
    slope, intercept = np.polyfit(x, y, 1)
    return float(intercept), float(slope)


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The power p in y ~ x^p, by a line through the logarithms of (x, y), all above 0."""
    return line_through([(float(np.log(x)), float(np.log(y))) for x, y in points])[1]


def predicted(
    costs: Sequence[Cost], free: str, row_bytes: int | None, images: int, size: int
) -> Prediction:
    """What `images` at `size` take, from the `costs` of these free layers at several sizes."""
    ordered = sorted(costs, key=lambda cost: cost.point.size)
    growth = exponent([(cost.point.size, cost.epoch) for cost in ordered])
    epochs = [(cost.point, cost.epoch) for cost in ordered]
    passes = [(cost.point, cost.pass_seconds) for cost in ordered if cost.pass_seconds]
    return Prediction(
        free,
        growth,
        extrapolated(epochs, images, size) / 3600,
        extrapolated(passes, images, size) / 3600 if len(passes) > 1 else None,
        None if row_bytes is None else row_bytes * images / 1e9,
    )


def extrapolated(measured: Sequence[tuple[Point, float]], images: int, size: int) -> float:
    """Seconds for `images` at `size`, from the last point measured and the exponent of all."""
    last, seconds = measured[-1]
    power = exponent([(point.size, of_point) for point, of_point in measured])
    return seconds / last.images * images * float((size / last.size) ** power)


# The driver -------------------------------------------------------------------------------------


def points(arguments: argparse.Namespace) -> list[Point]:
    """The base in more and more images, and every size with every setting of the free layers."""
    base = Point(arguments.images, arguments.base_size, arguments.base_free)
    more = [Point(factor * base.images, base.size, base.free) for factor in MULTIPLES]
    grid = [Point(base.images, size, free) for free in arguments.free for size in arguments.sizes]
    return list(dict.fromkeys([*more, *grid]))


def measure(point: Point, arguments: argparse.Namespace) -> Cost:
    """Draw the images of a point, train and remove them. Raises: ChildError."""
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


def options_of(arguments: argparse.Namespace, size: int, images: Path) -> dict[str, Any]:
    """What every child must know."""
    return {
        "network": arguments.network,
        "images": str(images),
        "size": size,
        "batch_size": arguments.batch_size,
        "device": arguments.device,
        "seed": arguments.seed,
        "max_gb": arguments.max_gb,
    }


def predictions(costs: Sequence[Cost], arguments: argparse.Namespace) -> list[Prediction]:
    """What the wanted images would take with each setting of the free layers."""
    images, size = arguments.wanted_images, arguments.wanted_size
    with tempfile.TemporaryDirectory() as cache:
        options = options_of(arguments, size, Path(cache)) | {"free": arguments.free}
        trunks = run_child(Path(__file__), "trunks", options, Path(cache))
    found = []
    for free in arguments.free:
        of_free = [
            cost
            for cost in costs
            if (cost.point.images, cost.point.free) == (arguments.images, free)
            and cost.point.size in arguments.sizes
        ]
        found.append(predicted(of_free, free, trunks[free], images, size))
    return found


def markdown(
    costs: Sequence[Cost],
    predicted_costs: Sequence[Prediction],
    machine: Mapping[str, Any],
    arguments: argparse.Namespace,
) -> str:
    """Both tables and the fits, below what is known of the machine."""
    images, size = arguments.wanted_images, arguments.wanted_size
    image_gb = images * size**2 * CHANNELS / 1e9
    lines = [
        *machine_lines(machine),
        f"- {arguments.network}, batches of {arguments.batch_size}",
        "",
        *table(HEADING, [cost.cells for cost in costs]),
        "",
        *fit_lines(costs, arguments),
        "",
        f"{images:,} images at {size} px, on this machine, by extrapolation:",
        "",
        *table(PREDICTED, [of.cells for of in predicted_costs]),
        "",
        f"The image cache would take {image_gb:,.1f} GB. What does not fit into `cache.max_gb` "
        f"({arguments.max_gb:g} GB here) is not kept: without the trunk's output every epoch takes "
        "the hours of the pass as well, without the images every epoch decodes them anew, which is "
        "not in these hours.",
    ]
    return "\n".join(lines) + "\n"


def fit_lines(costs: Sequence[Cost], arguments: argparse.Namespace) -> list[str]:
    """Time against the number of images, in words."""
    size, free = arguments.base_size, arguments.base_free
    axis = [cost for cost in costs if (cost.point.size, cost.point.free) == (size, free)]
    fitted = {
        "epoch": [(cost.point.images, cost.epoch) for cost in axis],
        "pass": [(cost.point.images, cost.pass_seconds) for cost in axis if cost.pass_seconds],
    }
    return [
        f"- {what} at {size} px, {free} free: {{:.3f}} s + {{:.3f}} ms an image".format(
            *_in_milliseconds(line_through(pairs))
        )
        for what, pairs in fitted.items()
        if len(pairs) > 1
    ]


def _in_milliseconds(line: tuple[float, float]) -> tuple[float, float]:
    return line[0], 1000 * line[1]


def free_layers(text: str) -> list[str]:
    """Settings with commas between them. Raises: ArgumentTypeError."""
    return [stage(f"{part.strip()}:1").train for part in text.split(",")]


def sizes_of(text: str) -> list[int]:
    """Two numbers or more, with commas between them. Raises: ArgumentTypeError."""
    sizes = sorted({at_least_one(part.strip()) for part in text.split(",")})
    if len(sizes) < 2:
        raise argparse.ArgumentTypeError(f"must be two sizes or more, got {text}")
    return sizes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--images", type=at_least_one, default=512, help="of the base")
    parser.add_argument("--sizes", type=sizes_of, default=[48, 64, 96, 128], help="in pixels")
    parser.add_argument("--free", type=free_layers, default=["head", "last-20", "last-45", "all"])
    parser.add_argument("--base-size", type=at_least_one, default=64)
    parser.add_argument("--base-free", default="last-45", help="of the axis of images")
    parser.add_argument("--epochs", type=_at_least_two, default=3)
    parser.add_argument("--batch-size", type=at_least_one, default=32)
    parser.add_argument("--faces", type=at_least_one, default=64, help="different images")
    parser.add_argument("--max-gb", type=float, default=20.0, help="cache.max_gb")
    parser.add_argument("--wanted-images", type=at_least_one, default=287_651)
    parser.add_argument("--wanted-size", type=at_least_one, default=224)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="append a line of JSON for this measurement")
    return parser


def _at_least_two(text: str) -> int:
    if at_least_one(text) < 2:
        raise argparse.ArgumentTypeError("must be 2 or more: the first epoch does not count")
    return int(text)


CHILDREN = {"point": child_point, "trunks": child_trunks}


def main() -> None:
    """Measure point by point, fit and print."""
    arguments = _parser().parse_args()
    machine, costs = machine_of(arguments), []
    try:
        for point in points(arguments):
            costs.append(cost := measure(point, arguments))
            print(" | ".join(cost.cells), flush=True)
        found = predictions(costs, arguments)
    except ChildError as error:
        sys.exit(f"no result: {error}")
    print(f"\n{markdown(costs, found, machine, arguments)}", end="")
    if arguments.json:
        document = {
            "network": arguments.network,
            "costs": [asdict(cost) for cost in costs],
            "predictions": [asdict(of) for of in found],
            "machine": machine,
        }
        append_json(arguments.json, document)


if __name__ == "__main__" and not answer_as_child(CHILDREN):
    main()
