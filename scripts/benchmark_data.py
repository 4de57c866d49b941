"""What the data costs: how long training waits for it, how soon it is there, how much memory.

Rows (`--list` prints them with their targets). The images are drawn faces in JPEG files, as the
dataset `folder` has them, in a temporary folder; every measurement has a process of its own.

- *stall*: training from the cache of decoded images, against the same batches prepared beforehand
  as float32 tensors in memory; all by the same compiled step, by turns in one process. The ratio is
  the speed from the cache over that from memory, taken within each round: its median, and in
  brackets the least and the most. 1 means that training never waits. A second case augments (flip,
  rotation, zoom): the ratio, the time by which an image takes longer than from memory, and beside
  it the processor time that augmenting an image takes by itself, summed over cores. On a CPU, which
  does both, the time lost cannot be less than the latter over the number of cores; where it is
  more, training waits.
- *second_start*: seconds from the manifest to the first batch when the cache is there already and
  the files are in the page cache of the system. The median of several processes, and where it goes:
  reading the manifest, opening both splits, making the first batch. Not in it: imports, and what
  TensorFlow takes to trace the pipeline.
- *peak_memory*: the most memory of a run of `fer train` that is stopped after some steps. `VmHWM`
  is the most that was resident, pages of mapped files included, which the system takes back when it
  needs them; `RssAnon`, sampled 20 times a second, is what belongs to the process alone. Where the
  decoded images are mapped from the cache, the target holds for `RssAnon`, else for `VmHWM`.
  Many files are links to one image: names, status and decoding are what counts here. Decoding
  290,000 images takes minutes; keeping them (`--max-gb 60`) takes 44 GB of the temporary folder.

A measurement holds for its machine, while nothing else runs there.

    python scripts/benchmark_data.py --rows stall,second_start --json data.json
    python scripts/benchmark_data.py --rows peak_memory --max-gb 20,60
"""

import argparse
import contextlib
import datetime
import io
import itertools
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from baselines.ours_fit import experiment
from baselines.task import Augment, Stage, Task
from benchmark import at_least_one, environment
from PIL import Image
from rich.console import Console

from fer_bench.config.experiment import Experiment
from fer_bench.config.training import Cache
from fer_bench.data import decoding, pipeline
from fer_bench.data.datasets.drawn.face import draw_face
from fer_bench.data.load import load_manifest
from fer_bench.device.machine import cpu_model, usable_cores
from fer_bench.device.selection import open_device
from fer_bench.device.signals import Stop
from fer_bench.errors import Interrupted
from fer_bench.labels import EXPRESSIONS
from fer_bench.report.terminal.progress import PlainDisplay
from fer_bench.runs.directory import RunDirectory
from fer_bench.storage.array_cache import Store
from fer_bench.storage.cache import VARIABLE, entries
from fer_bench.training.session import chosen_precision, open_session
from fer_bench.training.stage import StageRun, enter_stage
from fer_bench.training.steps import MOST_STEPS, distributed
from fer_bench.training.train import train

STATUS = Path("/proc/self/status")
SPLITS = ("train", "validation")
QUALITY = 85
SECONDS_BETWEEN_SAMPLES = 0.05
SECONDS_BETWEEN_LINES = 10.0
GIB = 2**30
NONE = "-"
MEMORY, CACHE, AUGMENTED = "memory", "cache", "augmented"
AUGMENT = Augment(flip=True, rotation=0.05, zoom=0.1)
LONG = (Stage("all", 100_000),)  # epochs without an end: a row stops training itself


class ChildError(Exception):
    """A process that measures did not come to an end."""


@dataclass(frozen=True)
class Row:
    """Something to measure.

    Attributes:
        name: as on the command line.
        what: one line about it.
        networks: backbones that are measured.
        size: height and width of the images in pixels.
        batch_size: images in a step.
        train: number of training images.
        validation: number of validation images.
        target: the value to reach.
        at_most: whether the target is a limit above; else below.
        unit: of the value.
    """

    name: str
    what: str
    networks: tuple[str, ...]
    size: int
    batch_size: int
    train: int
    validation: int
    target: float
    at_most: bool
    unit: str

    def numbers(self, scale: float, images: int | None = None) -> dict[str, int]:
        """Images in each split, at least one of each expression; `images` is their sum."""
        scale = images / (self.train + self.validation) if images else scale
        sizes = dict(zip(SPLITS, (self.train, self.validation), strict=True))
        return {split: max(len(EXPRESSIONS), round(scale * size)) for split, size in sizes.items()}


ROWS = (
    Row(
        name="stall",
        what="speed from the image cache over speed from memory",
        networks=("cnn_slides", "cnn_compact"),
        size=48,
        batch_size=64,
        train=6_400,
        validation=64,
        target=0.97,
        at_most=False,
        unit="ratio",
    ),
    Row(
        name="second_start",
        what="data work of a start whose images are in the cache",
        networks=("cnn_compact",),
        size=48,
        batch_size=64,
        train=27_000,
        validation=3_000,
        target=1.0,
        at_most=True,
        unit="s",
    ),
    Row(
        name="peak_memory",
        what="most memory of a run on as many images as AffectNet has",
        networks=("mobilenetv3small",),
        size=224,
        batch_size=32,
        train=286_000,
        validation=4_000,
        target=4.0,
        at_most=True,
        unit="GiB",
    ),
)


@dataclass(frozen=True)
class Outcome:
    """One line of the table.

    Attributes:
        row: the name of the row.
        case: what of it.
        value: what was measured.
        unit: of the value.
        target: the value to reach; None where there is none.
        at_most: whether the target is a limit above; else below.
        more: what else there is to say.
        readings: everything that the value was taken from.
    """

    row: str
    case: str
    value: float
    unit: str
    target: float | None
    at_most: bool
    more: str
    readings: Mapping[str, Any]

    @property
    def reached(self) -> bool | None:
        """Whether the value is on the right side of the target; None without a target."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    @property
    def cells(self) -> tuple[str, ...]:
        """Row, case, value, target, verdict, and the rest."""
        sign = "≤" if self.at_most else "≥"
        target = NONE if self.target is None else f"{sign} {self.target:g}"
        verdict = NONE if self.reached is None else "yes" if self.reached else "no"
        unit = "" if self.unit == "ratio" else f" {self.unit}"
        return self.row, self.case, f"{self.value:.3g}{unit}", target, verdict, self.more


# The images -------------------------------------------------------------------------------------


def write_images(
    root: Path, numbers: Mapping[str, int], size: int, *, faces: int, link: bool, seed: int = 0
) -> None:
    """Write `<root>/<split>/<class>/<number>.jpg`; beyond the first `faces`, images are repeated.

    Args:
        root: the folder to make.
        numbers: images in each split.
        size: height and width in pixels.
        faces: how many different faces, rounded up to a multiple of the number of expressions.
        link: whether a repeated image is a link to the first of its kind; else a file of its own.
        seed: which faces.
    """
    for split, label in itertools.product(numbers, EXPRESSIONS):
        (root / split / label).mkdir(parents=True)
    # The expressions take turns, and so do the faces: a repeated face keeps its class.
    faces = -(-faces // len(EXPRESSIONS)) * len(EXPRESSIONS)
    originals: list[tuple[Path, bytes]] = []
    total = sum(numbers.values())
    say = progress("images written")
    for index, split in enumerate(s for s, number in numbers.items() for _ in range(number)):
        path = root / split / EXPRESSIONS[index % len(EXPRESSIONS)] / f"{index:06d}.jpg"
        if index < faces:
            content = jpeg(draw_face(seed, index, size).image)
            originals.append((path, content))
            path.write_bytes(content)
        elif link:
            os.link(originals[index % faces][0], path)
        else:
            path.write_bytes(originals[index % faces][1])
        say(index + 1, total)


def jpeg(image: Any) -> bytes:
    """A uint8 image (h, w, 3) as a JPEG file."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=QUALITY)
    return content.getvalue()


def progress(what: str) -> Callable[[int, int], None]:
    """A function (done, total) that says so on standard error, not too often."""
    last = time.monotonic()

    def say(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"  {done:,} of {total:,} {what}", file=sys.stderr, flush=True)

    return say


# Processes --------------------------------------------------------------------------------------


def run_child(script: Path, name: str, options: Mapping[str, Any], cache: Path) -> Any:
    """What the child `name` of a script found, in a process and with a cache folder of its own.

    Raises:
        ChildError: it failed; what it said has gone to standard error.
    """
    command = [sys.executable, str(script), "--child", name, json.dumps(options)]
    variables = {**os.environ, **environment(options["device"]), VARIABLE: str(cache)}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env=variables, cwd=script.parent, check=False
    )
    if done.returncode:
        raise ChildError(f"the process for {name} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def answer_as_child(children: Mapping[str, Callable[[dict[str, Any]], Any]]) -> bool:
    """Do what a driver asked this process for, if one did: `--child NAME OPTIONS`."""
    if sys.argv[1:2] != ["--child"]:
        return False
    print(json.dumps(children[sys.argv[2]](json.loads(sys.argv[3]))), flush=True)
    return True


class Watch(threading.Thread):
    """Samples the anonymous memory of this process; `peaks` are bytes by phase."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.phase = "start"
        self.peaks: dict[str, int] = {}
        self.over = threading.Event()

    def run(self) -> None:
        """Sample until `stop`."""
        while True:
            self._sample()
            if self.over.wait(SECONDS_BETWEEN_SAMPLES):
                return

    def enter(self, phase: str) -> None:
        """What follows belongs to another phase."""
        self.phase = phase

    def stop(self) -> dict[str, Any]:
        """The peaks in bytes: `resident` and `anonymous` of the whole, `phases` of anonymous."""
        self.over.set()
        self.join()
        self._sample()
        resident = memory_status()["VmHWM"]
        return {
            "resident": resident,
            "anonymous": max(self.peaks.values()),
            "phases": self.peaks,
        }

    def _sample(self) -> None:
        phase = self.phase
        self.peaks[phase] = max(self.peaks.get(phase, 0), memory_status()["RssAnon"])


def memory_status() -> dict[str, int]:
    """What Linux says of the memory of this process, in bytes: `VmHWM`, `RssAnon` and others."""
    lines = (line.split() for line in STATUS.read_text().splitlines() if line.endswith(" kB"))
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines}


def configured(options: Mapping[str, Any], *, stages: Sequence[Stage] = LONG) -> Experiment:
    """The experiment that a child's options describe."""
    task = Task(
        network=options["network"],
        images=Path(options["images"]),
        size=options["size"],
        batch_size=options["batch_size"],
        stages=tuple(stages),
        precision="auto",
        device=options["device"],
        seed=options["seed"],
    )
    cache = Cache(max_gb=options["max_gb"])
    return experiment(task).model_copy(update={"cache": cache})


# Stall ------------------------------------------------------------------------------------------


def child_stall(options: dict[str, Any]) -> dict[str, Any]:
    """Seconds of an epoch's steps from each source of batches, by round, after one to warm up."""
    config = configured(options)
    display = PlainDisplay(Console(stderr=True))
    device = open_device(options["device"])
    with tempfile.TemporaryDirectory() as outputs:
        run = RunDirectory(Path(outputs) / config.run_id)
        session = open_session(config, run, device, display, Stop())
        stage_run = enter_stage(session)
    split, rounds = session.splits["train"], options["pairs"] + 1
    if not isinstance(split.pixels, np.memmap):
        raise ChildError("the decoded images are not in the cache; is there room for them?")
    plain = pipeline.training_batches(split, config, 0, epochs=rounds)
    augmented_config = with_augmentation(config)
    sources = {
        MEMORY: in_memory(pipeline.training_batches(split, config, 0)),
        CACHE: plain,
        AUGMENTED: pipeline.training_batches(split, augmented_config, 0, epochs=rounds),
    }
    steps = pipeline.steps_per_epoch(split, config)
    iterators = {name: iter(distributed(device, batches)) for name, batches in sources.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sources}
    for number in range(rounds):
        for name in list(sources)[:: 1 if number % 2 else -1]:
            seconds[name].append(epoch_seconds(stage_run, iterators[name], steps))
            session.totals.read()
    images = steps * min(config.training.batch_size, len(split))
    return {
        "images": images,
        "seconds": {name: values[1:] for name, values in seconds.items()},
        "processor_seconds": augmenting_seconds(split, config, augmented_config, rounds),
        "cores": usable_cores().number,
        "facts": facts(device, config),
    }


def facts(device: Any, config: Experiment) -> dict[str, str]:
    """What a child knows of where it computes."""
    precision = chosen_precision(config, device)
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    return {"device": device.name, "precision": precision, **versions}


def with_augmentation(config: Experiment) -> Experiment:
    """The same experiment with `AUGMENT`."""
    augment = config.image.augment.model_copy(update=asdict(AUGMENT))
    return config.model_copy(update={"image": config.image.model_copy(update={"augment": augment})})


def in_memory(batches: Any) -> Any:
    """These very batches, made now and repeated for ever."""
    parts = list(batches)
    images = tf.stack([images for images, _ in parts])
    targets = {name: tf.stack([of[name] for _, of in parts]) for name in parts[0][1]}
    prepared = tf.data.Dataset.from_tensor_slices((images, targets)).repeat()

    # Of a batch size unknown to TensorFlow, as in the pipeline: both are then of one type, for
    # which the step is traced once.
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
    """How long so many steps take, as training makes them."""
    began = time.perf_counter()
    for first in range(0, steps, MOST_STEPS):
        count = min(MOST_STEPS, steps - first)
        stage_run.train_steps(batches, np.full(count, 1e-3, np.float32), first)
    stage_run.optimizer.iterations.numpy()  # waits for the device
    return time.perf_counter() - began


def augmenting_seconds(
    split: decoding.Split, plain: Experiment, augmented: Experiment, rounds: int
) -> list[float]:
    """By round, the processor seconds by which an epoch of data takes longer with augmentation."""
    found = []
    for number in range(rounds):
        of_plain, of_augmented = (
            processor_seconds(pipeline.training_batches(split, config, number))
            for config in (plain, augmented)
        )
        found.append(of_augmented - of_plain)
    return found[1:]


def processor_seconds(batches: Any) -> float:
    """What all cores together take to make these batches."""
    count = np.int64(0)
    began = time.process_time()
    batches.reduce(count, lambda done, *_: done + 1)
    return time.process_time() - began


def stall_outcomes(row: Row, network: str, found: Mapping[str, Any]) -> list[Outcome]:
    """The ratio without and with augmentation."""
    images, seconds = found["images"], found["seconds"]
    readings = {key: found[key] for key in ("images", "seconds", "processor_seconds")}
    outcomes = []
    for name, target in ((CACHE, row.target), (AUGMENTED, None)):
        pairs = list(zip(seconds[MEMORY], seconds[name], strict=True))
        ratios = [memory / other for memory, other in pairs]
        speeds = [images / statistics.median(seconds[source]) for source in (name, MEMORY)]
        more = (
            f"[{min(ratios):.3f}, {max(ratios):.3f}]; "
            f"{speeds[0]:.1f} images/s, from memory {speeds[1]:.1f}"
        )
        if name == AUGMENTED:
            lost = statistics.median(other - memory for memory, other in pairs) / images
            own = statistics.median(found["processor_seconds"]) / images
            more += (
                f"; {lost * 1e6:.1f} µs lost an image, of its own processor time "
                f"{own * 1e6:.1f} µs over {found['cores']} cores"
            )
        case = f"{network}, {'augmented' if name == AUGMENTED else 'plain'}"
        value = statistics.median(ratios)
        outcomes.append(
            Outcome(row.name, case, value, row.unit, target, row.at_most, more, readings)
        )
    return outcomes


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
    manifest_seconds, opening, tracing, first_batch = (b - a for a, b in itertools.pairwise(marks))
    parts = dict(zip(PARTS, (manifest_seconds, opening, first_batch), strict=True))
    mapped = all(isinstance(split.pixels, np.memmap) for split in splits.values())
    return {**parts, "tracing": tracing, "mapped": mapped, "facts": facts(device, config)}


def start_outcome(
    row: Row, first: Mapping[str, Any], later: Sequence[Mapping[str, Any]], files: int
) -> Outcome:
    """The median of the later starts."""
    whole = [sum(start[part] for part in PARTS) for start in later]
    medians = {
        part: statistics.median(start[part] for start in later) for part in (*PARTS, "tracing")
    }
    more = (
        f"[{min(whole):.3f}, {max(whole):.3f}]; manifest {medians['manifest']:.3f} s, "
        f"open {medians['open']:.3f} s, first batch {medians['first_batch']:.3f} s; apart: "
        f"tracing {medians['tracing']:.3f} s; the first start: {sum(first[p] for p in PARTS):.1f} s"
    )
    readings = {"first": dict(first), "later": [dict(start) for start in later]}
    case = f"{files:,} files"
    value = statistics.median(whole)
    return Outcome(row.name, case, value, row.unit, row.target, row.at_most, more, readings)


# Peak memory ------------------------------------------------------------------------------------


class Watching(PlainDisplay):
    """A display that tells a `Watch` the phases, and stops training after so many steps."""

    def __init__(self, watch: Watch, steps: int) -> None:
        super().__init__(Console(stderr=True))
        self.watch, self.last, self.before = watch, steps, 0
        self.say = progress("images decoded")
        self.done = 0

    def progress(self, what: str, done: int, total: int) -> None:
        """Say how far decoding is."""
        self.watch.enter(what)
        self.say(done, total)
        super().progress(what, done, total)

    def start_epoch(self, epoch: int, epochs: int, stage: str, steps: int) -> None:
        """Remember the steps of earlier epochs."""
        self.watch.enter("training")
        self.before = self.done
        super().start_epoch(epoch, epochs, stage, steps)

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Leave training when it has made enough steps."""
        super().step(step, loss, accuracy, images_per_second)
        self.done = self.before + step
        if self.done >= self.last:
            raise Interrupted("enough steps are made")


def child_memory(options: dict[str, Any]) -> dict[str, Any]:
    """The peaks of a run that is stopped after so many steps, and whether its images were kept."""
    config, device = configured(options), open_device(options["device"])
    watch = Watch()
    watch.start()
    display = Watching(watch, options["steps"])
    with tempfile.TemporaryDirectory() as outputs, contextlib.suppress(Interrupted):
        train(config, Path(outputs), device, display)
    peaks = watch.stop()
    kept = sum(entry.bytes for entry in entries({"images"}))
    return {**peaks, "kept": kept, "steps": display.done, "facts": facts(device, config)}


def memory_outcome(row: Row, found: Mapping[str, Any], files: int, max_gb: float) -> Outcome:
    """The peak that the target holds for, and the other."""
    mapped = found["kept"] > 0
    by_phase = ", ".join(f"{name} {peak / GIB:.2f}" for name, peak in found["phases"].items())
    kept = f"images mapped, {found['kept'] / 1e9:.1f} GB" if mapped else "decoded each epoch"
    more = (
        f"VmHWM {found['resident'] / GIB:.2f} GiB, RssAnon {found['anonymous'] / GIB:.2f} GiB "
        f"({by_phase}); {found['steps']} steps"
    )
    value = found["anonymous" if mapped else "resident"] / GIB
    case = f"{files:,} images, max_gb {max_gb:g}: {kept}"
    return Outcome(row.name, case, value, row.unit, row.target, row.at_most, more, found)


# The driver -------------------------------------------------------------------------------------

CHILDREN = {"stall": child_stall, "second_start": child_start, "peak_memory": child_memory}


def measure(row: Row, arguments: argparse.Namespace, folder: Path) -> Iterator[Outcome]:
    """Write the images of a row into an empty folder and measure. Raises: ChildError."""
    images = folder / "images"
    only_memory = row.name == "peak_memory"
    numbers = row.numbers(arguments.scale, arguments.images if only_memory else None)
    files = sum(numbers.values())
    print(f"{row.name}: writing {files:,} images", file=sys.stderr, flush=True)
    write_images(
        images, numbers, row.size, faces=arguments.faces, link=only_memory, seed=arguments.seed
    )
    options = {
        "images": str(images),
        "size": row.size,
        "batch_size": row.batch_size,
        "network": row.networks[0],
        "device": arguments.device,
        "seed": arguments.seed,
        "max_gb": arguments.max_gb[0],
        "pairs": arguments.pairs,
        "steps": arguments.steps,
    }

    def child(number: int = 0, **changes: Any) -> Any:
        return run_child(Path(__file__), row.name, options | changes, folder / f"cache{number}")

    if row.name == "stall":
        for network in row.networks:
            yield from stall_outcomes(row, network, child(network=network))
    elif row.name == "second_start":
        first, *later = [child() for _ in range(arguments.starts + 1)]
        if not first["mapped"]:
            raise ChildError("the decoded images are not in the cache; is there room for them?")
        yield start_outcome(row, first, later, files)
    else:
        for number, max_gb in enumerate(arguments.max_gb):
            yield memory_outcome(row, child(number, max_gb=max_gb), files, max_gb)


def machine_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a reader needs to know to judge the numbers."""
    given = {key: str(value) for key, value in vars(arguments).items() if key != "list"}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "cpu": cpu_model(),
        "cores": usable_cores().number,
        "system": platform.platform(),
        "load": os.getloadavg()[0],
        "options": given,
        "command": shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }


def machine_lines(machine: Mapping[str, Any]) -> list[str]:
    """The same, as the list above a table."""
    return [
        f"- machine: {machine['cpu']}, {machine['cores']} cores usable, {machine['system']}",
        f"- load when it began: {machine['load']:.1f}; {machine['date']}",
        f"- `{machine['command']}`",
    ]


def table(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    rows = [heading, *lines]
    drawn = [f"| {' | '.join(row)} |" for row in rows]
    return [drawn[0], "|" + "---|" * len(heading), *drawn[1:]]


def markdown(outcomes: Sequence[Outcome], machine: Mapping[str, Any]) -> str:
    """The table of all outcomes, below what is known of the machine."""
    heading = ("row", "case", "measured", "target", "reached", "more")
    lines = [*machine_lines(machine), "", *table(heading, [of.cells for of in outcomes])]
    return "\n".join(lines) + "\n"


def append_json(path: Path, document: Mapping[str, Any]) -> None:
    """One more line of JSON."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(document) + "\n")


def chosen(names: str) -> list[Row]:
    """The rows of these names, with commas between them; all where there is none.

    Raises:
        ArgumentTypeError: there is no such row.
    """
    known = {row.name: row for row in ROWS}
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise argparse.ArgumentTypeError(f"no row {', '.join(unknown)}; known: {', '.join(known)}")
    return [known[name] for name in wanted]


def numbers_from_zero(text: str) -> list[float]:
    """Numbers from 0 on, with commas between them. Raises: ArgumentTypeError."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0:
        raise argparse.ArgumentTypeError(f"must be numbers such as 20 or 20,60, got {text!r}")
    return numbers


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="print the rows and measure nothing")
    parser.add_argument(
        "--rows", type=chosen, default="", help="names, with commas between; default: all"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of images")
    parser.add_argument("--faces", type=at_least_one, default=1_000, help="different images")
    parser.add_argument("--pairs", type=at_least_one, default=7, help="stall: rounds")
    parser.add_argument("--starts", type=at_least_one, default=5, help="second_start: processes")
    parser.add_argument("--steps", type=at_least_one, default=30, help="peak_memory: steps")
    parser.add_argument("--images", type=at_least_one, help="peak_memory: images, without --scale")
    parser.add_argument(
        "--max-gb", type=numbers_from_zero, default=[20.0], help="cache.max_gb; peak_memory: each"
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="append a line for each line of the table")
    return parser


def listing() -> str:
    """A line for each row."""
    lines = [
        f"{row.name:<14}{'≤' if row.at_most else '≥'} {row.target:g} {row.unit:<7}{row.what}"
        for row in ROWS
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure row by row and print."""
    arguments = _parser().parse_args()
    if arguments.list:
        print(listing())
        return
    machine, outcomes, failures = machine_of(arguments), [], []
    for row in arguments.rows:
        try:
            with tempfile.TemporaryDirectory(prefix="fer-benchmark-data-") as folder:
                for outcome in measure(row, arguments, Path(folder)):
                    print(" | ".join(outcome.cells), flush=True)
                    outcomes.append(outcome)
                    if arguments.json:
                        document = {**asdict(outcome), "reached": outcome.reached}
                        append_json(arguments.json, {**document, "machine": machine})
        except ChildError as error:
            print(f"{row.name}: no result. {error}", file=sys.stderr, flush=True)
            failures.append(row.name)
    print(f"\n{markdown(outcomes, machine)}", end="")
    if failures:
        sys.exit(f"no result for: {', '.join(failures)}")


if __name__ == "__main__" and not answer_as_child(CHILDREN):
    main()
