"""The cost of the data: how long training waits for it, how soon it is ready, how much memory.

The images are drawn faces in JPEG files in a temporary folder, read by the dataset `folder`. Each
measurement has its own process. `--list` prints the rows with their targets.

- *stall*: training from the cache of decoded images, compared with the same batches prepared as
  float32 tensors in memory; both use the same compiled step and take turns in one process. The
  ratio is the speed from the cache over that from memory, within each round: the median, and its
  95% interval. 1 means that training never waits. A second case augments (flip, rotation, zoom): it
  also prints the time that an image loses compared with memory, and the processor time of
  augmenting an image, summed over cores. A CPU does both, so that the time lost cannot be less than
  the processor time over the number of cores; if it is more, training waits.
- *second_start*: seconds from the manifest to the first batch if the cache exists and the files are
  in the page cache of the system: the median of several processes, without imports, and without
  tracing the pipeline in TensorFlow. Its parts: reading the manifest, opening both splits, making
  the first batch.
- *peak_memory*: the peak memory of a run of `fer train` that is stopped after some steps. `VmHWM`
  is the peak of resident memory; it includes pages of mapped files, which the system can reclaim.
  `RssAnon`, sampled 20 times per second, belongs to the process alone. If the decoded images are
  mapped from the cache, the target applies to `RssAnon`, else to `VmHWM`. Many files are links to
  one image: only names, status and decoding matter here. Decoding 290,000 images takes minutes;
  keeping them (`--max-gb 60`) takes 44 GB of the temporary folder.

    python scripts/benchmark_data.py --rows stall,second_start --json data.json
    python scripts/benchmark_data.py --rows peak_memory --max-gb 20,60
"""

import argparse
import contextlib
import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from baselines.ours_fit import experiment
from baselines.task import Augment, Stage, Task
from drawn_images import scaled, write_images
from measuring import (
    NONE,
    ChildError,
    answer_as_child,
    append_json,
    at_least,
    bootstrapped,
    choice_of,
    in_turn,
    machine,
    machine_lines,
    paired_ratio,
    parser_of,
    progress,
    run_child,
    table,
    timed,
)
from rich.console import Console

from fer_bench.config.experiment import Experiment
from fer_bench.config.training import Cache
from fer_bench.data import decoding, pipeline
from fer_bench.data.load import load_manifest
from fer_bench.device.machine import usable_cores
from fer_bench.device.selection import open_device
from fer_bench.device.signals import Stop
from fer_bench.errors import Interrupted
from fer_bench.report.terminal.progress import PlainDisplay
from fer_bench.runs.directory import RunDirectory
from fer_bench.storage.array_cache import Store
from fer_bench.storage.cache import entries
from fer_bench.training.session import chosen_precision, open_session
from fer_bench.training.stage import StageRun, enter_stage
from fer_bench.training.steps import MOST_STEPS, distributed
from fer_bench.training.train import train

STATUS = Path("/proc/self/status")
SECONDS_BETWEEN_SAMPLES = 0.05
GIB = 2**30
MEMORY, CACHE, AUGMENTED = "memory", "cache", "augmented"
AUGMENT = Augment(flip=True, rotation=0.05, zoom=0.1)
ENDLESS = (Stage("all", 100_000),)  # a row stops training itself


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        name: the name in `--rows`.
        what: a short description.
        networks: the backbones.
        size: height and width of the images in pixels.
        batch_size: images per step.
        images: images per split.
        target: the value to reach, at least if `unit` is `ratio`, else at most.
        unit: the unit of the value.
    """

    name: str
    what: str
    networks: tuple[str, ...]
    size: int
    batch_size: int
    images: Mapping[str, int]
    target: float
    unit: str

    @property
    def sign(self) -> str:
        """Whether the target is a lower or an upper limit."""
        return "≥" if self.unit == "ratio" else "≤"


ROWS = (
    Row(
        "stall",
        "speed from the image cache over speed from memory",
        *(("cnn_slides", "cnn_compact"), 48, 64, {"train": 6_400, "validation": 64}),
        *(0.97, "ratio"),
    ),
    Row(
        "second_start",
        "data work of a start with the images in the cache",
        *(("cnn_compact",), 48, 64, {"train": 27_000, "validation": 3_000}),
        *(1.0, "s"),
    ),
    Row(
        "peak_memory",
        "peak memory of a run on as many images as AffectNet has",
        *(("mobilenetv3small",), 224, 32, {"train": 286_000, "validation": 4_000}),
        *(4.0, "GiB"),
    ),
)


@dataclass(frozen=True)
class Outcome:
    """One line of the table.

    Attributes:
        row: the row.
        case: the case of the row.
        value: the result.
        details: further results.
        readings: the measurements behind the value.
        has_target: whether the target of the row applies to this case.
    """

    row: Row
    case: str
    value: float
    details: str
    readings: Mapping[str, Any]
    has_target: bool = True

    @property
    def reached(self) -> bool | None:
        """Whether the value reaches the target; None without a target."""
        if not self.has_target:
            return None
        target = self.row.target
        return self.value >= target if self.row.sign == "≥" else self.value <= target

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        target = f"{self.row.sign} {self.row.target:g}" if self.has_target else NONE
        verdict = {None: NONE, True: "yes", False: "no"}[self.reached]
        unit = "" if self.row.unit == "ratio" else f" {self.row.unit}"
        return self.row.name, self.case, f"{self.value:.3g}{unit}", target, verdict, self.details


# Processes --------------------------------------------------------------------------------------


class MemorySampler(threading.Thread):
    """Samples the anonymous memory of this process; `peaks` are bytes by phase."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.phase = "start"
        self.peaks: dict[str, int] = {}
        self.over = threading.Event()

    def run(self) -> None:
        """Sample until `stop`."""
        self._sample()
        while not self.over.wait(SECONDS_BETWEEN_SAMPLES):
            self._sample()

    def stop(self) -> dict[str, Any]:
        """The peaks in bytes: `resident` and `anonymous` in total, and `phases` of anonymous."""
        self.over.set()
        self.join()
        self._sample()
        resident = memory_status()["VmHWM"]
        return {"resident": resident, "anonymous": max(self.peaks.values()), "phases": self.peaks}

    def _sample(self) -> None:
        phase = self.phase
        self.peaks[phase] = max(self.peaks.get(phase, 0), memory_status()["RssAnon"])


def memory_status() -> dict[str, int]:
    """The memory of this process in bytes, as reported by Linux: `VmHWM`, `RssAnon` and others."""
    lines = (line.split() for line in STATUS.read_text().splitlines() if line.endswith(" kB"))
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines}


def configured(options: Mapping[str, Any], stages: Sequence[Stage] = ENDLESS) -> Experiment:
    """The experiment of a child's options."""
    keys = ("network", "size", "batch_size", "device", "seed")
    task = Task(
        **{key: options[key] for key in keys},
        images=Path(options["images"]),
        stages=tuple(stages),
        precision="auto",
    )
    cache = Cache(max_gb=options["max_gb"])
    return experiment(task).model_copy(update={"cache": cache})


def facts(device: Any, config: Experiment) -> dict[str, str]:
    """The facts on the device of a child."""
    precision = chosen_precision(config, device)
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    return {"device": device.name, "precision": precision, **versions}


# Stall ------------------------------------------------------------------------------------------


def child_stall(options: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the steps of an epoch, by source of the batches and round, after a warm-up."""
    config = configured(options)
    device = open_device(options["device"])
    with tempfile.TemporaryDirectory() as outputs:
        run = RunDirectory(Path(outputs) / config.run_id)
        display = PlainDisplay(Console(stderr=True))
        session = open_session(config, run, device, display, Stop())
        stage_run = enter_stage(session)
    split, rounds = session.splits["train"], options["pairs"] + 1
    if not isinstance(split.pixels, np.memmap):
        raise ChildError("the decoded images are not in the cache; is there enough disk space?")
    augmented = with_augmentation(config)
    sources = {
        MEMORY: in_memory(pipeline.training_batches(split, config, 0)),
        CACHE: pipeline.training_batches(split, config, 0, epochs=rounds),
        AUGMENTED: pipeline.training_batches(split, augmented, 0, epochs=rounds),
    }
    steps = pipeline.steps_per_epoch(split, config)
    iterators = {name: iter(distributed(device, batches)) for name, batches in sources.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sources}
    for number in range(rounds):
        for name in in_turn(sources, number):
            seconds[name].append(epoch_seconds(stage_run, iterators[name], steps))
            session.totals.read()
    return {
        "images": steps * min(config.training.batch_size, len(split)),
        "seconds": {name: values[1:] for name, values in seconds.items()},
        "processor_seconds": augmenting_seconds(split, config, augmented, rounds),
        "cores": usable_cores().number,
        "facts": facts(device, config),
    }


def with_augmentation(config: Experiment) -> Experiment:
    """The same experiment with `AUGMENT`."""
    augment = config.image.augment.model_copy(update=asdict(AUGMENT))
    return config.model_copy(update={"image": config.image.model_copy(update={"augment": augment})})


def in_memory(batches: Any) -> Any:
    """The same batches, computed now and repeated forever."""
    parts = list(batches)
    images = tf.stack([images for images, _ in parts])
    targets = {name: tf.stack([of[name] for _, of in parts]) for name in parts[0][1]}
    prepared = tf.data.Dataset.from_tensor_slices((images, targets)).repeat()

    # The batch size is unknown to TensorFlow, as in the pipeline, so that both have the same type
    # and the step is traced only once.
    def loosened(*batch: Any) -> Any:
        return tf.nest.map_structure(
            lambda tensor: tf.raw_ops.PlaceholderWithDefault(
                input=tensor, shape=(None, *tensor.shape[1:])
            ),
            batch,
        )

    loose = prepared.map(loosened).prefetch(2)
    if loose.element_spec != batches.element_spec:
        raise ChildError(f"batches differ: {loose.element_spec}, {batches.element_spec}")
    return loose


def epoch_seconds(stage_run: StageRun, batches: Any, steps: int) -> float:
    """The duration of this many steps, in calls of several steps as in training."""
    began = time.perf_counter()
    for first in range(0, steps, MOST_STEPS):
        count = min(MOST_STEPS, steps - first)
        stage_run.train_steps(batches, np.full(count, 1e-3, np.float32), first)
    stage_run.optimizer.iterations.numpy()  # waits for the device
    return time.perf_counter() - began


def augmenting_seconds(
    split: decoding.Split, plain: Experiment, augmented: Experiment, rounds: int
) -> list[float]:
    """By round, the additional processor seconds of an epoch of data with augmentation."""

    def seconds(config: Experiment, number: int) -> float:
        batches = pipeline.training_batches(split, config, number)
        return timed(lambda: batches.reduce(np.int64(0), lambda done, *_: done + 1)).processor

    found = [seconds(augmented, number) - seconds(plain, number) for number in range(rounds)]
    return found[1:]


def stall_outcomes(row: Row, network: str, found: Mapping[str, Any]) -> Iterator[Outcome]:
    """The ratio without and with augmentation."""
    images, seconds = found["images"], found["seconds"]
    readings = {key: found[key] for key in ("images", "seconds", "processor_seconds")}
    for name, case in ((CACHE, "plain"), (AUGMENTED, "augmented")):
        ratio = paired_ratio(seconds[MEMORY], seconds[name])
        speeds = [images / statistics.median(seconds[source]) for source in (name, MEMORY)]
        details = f"{ratio}; {speeds[0]:.1f} images/s, from memory {speeds[1]:.1f}"
        if name == AUGMENTED:
            lost = np.median(np.subtract(seconds[name], seconds[MEMORY])) / images
            own = statistics.median(found["processor_seconds"]) / images
            details += (
                f"; {lost * 1e6:.1f} µs lost per image, augmentation takes {own * 1e6:.1f} µs of "
                f"processor time on {found['cores']} cores"
            )
        yield Outcome(row, f"{network}, {case}", ratio.median, details, readings, name == CACHE)


# Second start -----------------------------------------------------------------------------------

PARTS = ("manifest", "open", "first_batch")


def child_start(options: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each part of the data work up to the first batch, and of tracing."""
    config, device = configured(options), open_device(options["device"])
    tf.zeros(1).numpy()  # TensorFlow starts with its first operation
    store = Store(config.cache.max_bytes, lambda text: print(text, file=sys.stderr))
    marks = [time.perf_counter()]
    manifest = load_manifest(config.dataset)
    marks.append(time.perf_counter())
    splits = {
        name: decoding.open_split(
            manifest, name, config.image.size, progress("images decoded"), store=store
        )
        for name in ("train", config.selection_split)
    }
    marks.append(time.perf_counter())
    batches = pipeline.training_batches(splits["train"], config, 0)
    marks.append(time.perf_counter())
    next(iter(batches))
    marks.append(time.perf_counter())
    names = ("manifest", "open", "tracing", "first_batch")
    parts = (after - before for before, after in itertools.pairwise(marks))
    mapped = all(isinstance(split.pixels, np.memmap) for split in splits.values())
    return dict(zip(names, parts, strict=True)) | {"mapped": mapped, "facts": facts(device, config)}


def start_outcome(
    row: Row, first: Mapping[str, Any], later: Sequence[Mapping[str, Any]], files: int
) -> Outcome:
    """The median of the later starts."""
    total = bootstrapped([sum(start[part] for part in PARTS) for start in later])
    manifest, opening, batch, tracing = (
        f"{statistics.median(start[part] for start in later):.3f} s" for part in (*PARTS, "tracing")
    )
    details = (
        f"[{total.low:.3f}, {total.high:.3f}]; manifest {manifest}, open {opening}, first batch "
        f"{batch}; not counted: tracing {tracing}; the first start took "
        f"{sum(first[part] for part in PARTS):.1f} s"
    )
    readings = {"first": first, "later": later}
    return Outcome(row, f"{files:,} files", total.median, details, readings)


# Peak memory ------------------------------------------------------------------------------------


class StoppingDisplay(PlainDisplay):
    """A display that tells a sampler the phases, and stops training after some steps."""

    def __init__(self, sampler: MemorySampler, steps: int) -> None:
        super().__init__(Console(stderr=True))
        self.sampler, self.last, self.before, self.done = sampler, steps, 0, 0
        self.report = progress("images decoded")

    def progress(self, what: str, done: int, total: int) -> None:
        """Report the progress of decoding."""
        self.sampler.phase = what
        self.report(done, total)
        super().progress(what, done, total)

    def start_epoch(self, epoch: int, epochs: int, stage: str, steps: int) -> None:
        """Remember the steps of earlier epochs."""
        self.sampler.phase = "training"
        self.before = self.done
        super().start_epoch(epoch, epochs, stage, steps)

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Stop training after enough steps."""
        super().step(step, loss, accuracy, images_per_second)
        self.done = self.before + step
        if self.done >= self.last:
            raise Interrupted("enough steps")


def child_memory(options: dict[str, Any]) -> dict[str, Any]:
    """The peaks of a run that is stopped after some steps, and the size of the cached images."""
    config, device = configured(options), open_device(options["device"])
    sampler = MemorySampler()
    sampler.start()
    display = StoppingDisplay(sampler, options["steps"])
    with tempfile.TemporaryDirectory() as outputs, contextlib.suppress(Interrupted):
        train(config, Path(outputs), device, display)
    kept = sum(entry.bytes for entry in entries({"images"}))
    return sampler.stop() | {"kept": kept, "steps": display.done, "facts": facts(device, config)}


def memory_outcome(row: Row, found: Mapping[str, Any], files: int, max_gb: float) -> Outcome:
    """The peak that the target applies to, and the other one."""
    mapped = found["kept"] > 0
    by_phase = ", ".join(f"{name} {peak / GIB:.2f}" for name, peak in found["phases"].items())
    kept = f"images mapped, {found['kept'] / 1e9:.1f} GB" if mapped else "decoded in each epoch"
    details = (
        f"VmHWM {found['resident'] / GIB:.2f} GiB, RssAnon {found['anonymous'] / GIB:.2f} GiB "
        f"({by_phase}); {found['steps']} steps"
    )
    value = found["anonymous" if mapped else "resident"] / GIB
    case = f"{files:,} images, max_gb {max_gb:g}: {kept}"
    return Outcome(row, case, value, details, found)


# The driver -------------------------------------------------------------------------------------

CHILDREN = {"stall": child_stall, "second_start": child_start, "peak_memory": child_memory}


def measure(row: Row, arguments: argparse.Namespace, folder: Path) -> Iterator[Outcome]:
    """Write the images of a row into an empty folder and measure. Raises: ChildError."""
    only_memory = row.name == "peak_memory"
    scale = arguments.scale
    if only_memory and arguments.images:
        scale = arguments.images / sum(row.images.values())
    numbers = scaled(row.images, scale)
    files = sum(numbers.values())
    write_images(
        folder / "images",
        numbers,
        row.size,
        faces=arguments.faces,
        link=only_memory,
        seed=arguments.seed,
    )
    options = {key: getattr(arguments, key) for key in ("device", "seed", "pairs", "steps")}
    options |= {"images": str(folder / "images"), "size": row.size, "batch_size": row.batch_size}
    options |= {"network": row.networks[0], "max_gb": arguments.max_gb[0]}

    def child(number: int = 0, **changes: Any) -> Any:
        return run_child(Path(__file__), row.name, options | changes, folder / f"cache{number}")

    if row.name == "stall":
        for network in row.networks:
            yield from stall_outcomes(row, network, child(network=network))
    elif row.name == "second_start":
        first, *later = [child() for _ in range(arguments.starts + 1)]
        if not first["mapped"]:
            raise ChildError("the decoded images are not in the cache; is there enough disk space?")
        yield start_outcome(row, first, later, files)
    else:
        for number, max_gb in enumerate(arguments.max_gb):
            yield memory_outcome(row, child(number, max_gb=max_gb), files, max_gb)


def numbers_from_zero(text: str) -> list[float]:
    """Comma-separated numbers of at least 0. Raises: ArgumentTypeError."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0:
        raise argparse.ArgumentTypeError(f"must be numbers such as 20 or 20,60, got {text!r}")
    return numbers


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--list", action="store_true", help="print the rows and measure nothing")
    parser.add_argument("--rows", type=choice_of(ROWS), default="", help="names; default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of images")
    parser.add_argument("--faces", type=at_least(1), default=1_000, help="different images")
    parser.add_argument("--pairs", type=at_least(1), default=7, help="stall: rounds")
    parser.add_argument("--starts", type=at_least(1), default=5, help="second_start: processes")
    parser.add_argument("--steps", type=at_least(1), default=30, help="peak_memory: steps")
    parser.add_argument("--images", type=at_least(1), help="peak_memory: instead of --scale")
    parser.add_argument(
        "--max-gb", type=numbers_from_zero, default=[20.0], help="cache.max_gb; peak_memory: each"
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="append a line per line of the table")
    return parser


def main() -> None:
    """Measure row by row and print."""
    arguments = _parser().parse_args()
    if arguments.list:
        rows = [(row.name, f"{row.sign} {row.target:g} {row.unit}", row.what) for row in ROWS]
        print(table(("row", "target", "what"), rows))
        return
    host, cells, failures = machine(), [], []
    for row in arguments.rows:
        try:
            with tempfile.TemporaryDirectory(prefix="fer-benchmark-data-") as folder:
                for outcome in measure(row, arguments, Path(folder)):
                    print(" | ".join(outcome.cells), flush=True)
                    cells.append(outcome.cells)
                    if arguments.json:
                        keys = {"reached": outcome.reached, "machine": host}
                        append_json(arguments.json, asdict(outcome) | keys)
        except ChildError as error:
            print(f"{row.name}: no result. {error}", file=sys.stderr, flush=True)
            failures.append(row.name)
    heading = ("row", "case", "measured", "target", "reached", "details")
    print(f"\n{machine_lines(host)}\n\n{table(heading, cells)}")
    if failures:
        sys.exit(f"no result for: {', '.join(failures)}")


if __name__ == "__main__" and not answer_as_child(CHILDREN):
    main()
