"""How fast this machine trains with each precision, with and without XLA; for `fer doctor`."""

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fer_bench.config.model import Model
from fer_bench.device import machine
from fer_bench.device import selection as devices
from fer_bench.device.inventory import (
    cache_folder_facts,
    choices,
    device_facts,
    on_machine,
    system,
)
from fer_bench.device.precision import POLICIES
from fer_bench.device.selection import Device
from fer_bench.models.build import build_model
from fer_bench.models.kernels import use_fast_kernels
from fer_bench.runs.record import versions
from fer_bench.training.losses import cross_entropy
from fer_bench.user_folders import can_write

NETWORK, SIZE, BATCH, CLASSES = "cnn_slides", 48, 64, 7
ROUNDS = 5
PREPARING = 0.6  # of the time; ways to train that are not compiled by then are left out
TRAINING = 0.85  # of the time; the rest is for matrix products and copies
MUCH_FASTER = 1.10
MATRIX, PRODUCTS = 1024, 10  # a chain, so that no product waits for a result to be read
COPIED_BYTES = 256 * 2**20
Report = Callable[[str], None]


def examine(device: Device, outputs: Path, seconds: float, report: Report) -> dict[str, Any]:
    """The document that `fer doctor --json` prints.

    Args:
        device: the device to measure.
        outputs: the folder for the runs.
        seconds: about how long to measure, 0 for not at all; the first steps with the choices of
            `auto` are measured in any case.
        report: called with the name of each step.
    """
    return {
        "versions": versions("fer-bench", "tensorflow", "keras", "numpy"),
        "system": system(),
        "device": device_facts(device),
        "choices": choices(device),
        "measured": measure(device, seconds, report) if seconds > 0 else None,
        "cache": cache_folder_facts(),
        "outputs": {"folder": str(outputs), "writable": can_write(outputs)},
    }


# Measuring -------------------------------------------------------------------------------------


@dataclass
class Timing:
    """One way to train, and its measurements.

    Attributes:
        precision: `float32`, `bfloat16` or `float16`.
        xla: whether XLA compiles the step.
        step: makes that many training steps and waits for them; None before it is built.
        first_seconds: time of the first step, with tracing and compiling.
        step_seconds: time of a later step.
        rates: images per second, one per round.
    """

    precision: str
    xla: bool
    step: Callable[[int], None] | None = None
    first_seconds: float = 0.0
    step_seconds: float = 0.0
    rates: list[float] = field(default_factory=list)


def measure(device: Device, seconds: float, report: Report) -> dict[str, Any]:
    """Speed of training (on one GPU), of matrix products and of copies, in about `seconds`."""
    chosen = (device.precision("auto"), device.compiles("auto"))
    timings = [Timing(*way) for way in ways(device)]
    # The choice of `auto` first; what is most unlike it last, since time may run out.
    timings.sort(key=lambda timing: (timing.xla != chosen[1], timing.precision != chosen[0]))
    _train(timings, seconds * TRAINING, report)
    training = [_row(timing, chosen) for timing in timings]
    report("matrix products and copies")
    rest = seconds * (1 - TRAINING)
    precisions = list(dict.fromkeys(timing.precision for timing in timings))
    return {
        "network": f"{NETWORK}, {SIZE} px, batches of {BATCH}",
        "training": training,
        "advice": advice(training),
        "matrix_product_gflops": {
            precision: _matrix_product(precision, rest / len(precisions) / 2)
            for precision in precisions
        },
        "copy_gb_per_second": _copy(rest / 2),
    }


def ways(device: Device) -> list[tuple[str, bool]]:
    """Every (precision, XLA) that this device can train with."""
    precisions = ["float32", "bfloat16"] if device.computes_bfloat16 else ["float32"]
    if device.kind == "gpu":  # one without bfloat16 has float16 at best, or neither
        fastest_first = ["bfloat16", "float16", "float32"]
        precisions = fastest_first[fastest_first.index(device.best_precision) :]
    return list(itertools.product(sorted(precisions, reverse=True), (False, True)))


def advice(training: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What to set instead of `auto`, if another way was more than 10 % faster.

    Args:
        training: rows of the document, with `images_per_second` None if not measured.
    """
    measured = [row for row in training if row["images_per_second"]]
    best = max(measured, key=lambda row: float(row["images_per_second"]))
    chosen = next(row for row in measured if row["chosen"])
    faster = best["images_per_second"] / chosen["images_per_second"]
    if faster <= MUCH_FASTER:
        return None
    changed = {key: best[key] for key in ("precision", "xla") if best[key] != chosen[key]}
    return {"set": [f"training.{key}={value}" for key, value in changed.items()], "times": faster}


def _row(timing: Timing, chosen: tuple[str, bool]) -> dict[str, Any]:
    return {
        "precision": timing.precision,
        "xla": on_machine(timing.xla),
        "images_per_second": round(statistics.median(timing.rates), 1) if timing.rates else None,
        "first_step_seconds": round(timing.first_seconds, 2) if timing.rates else None,
        "chosen": (timing.precision, timing.xla) == chosen,
        "note": None if timing.rates else "no time left for it: give more --seconds",
    }


def _train(timings: list[Timing], seconds: float, report: Report) -> None:
    """Time training steps, the ways in turn, so that all suffer alike from other load.

    The first of `timings` is measured in any case, the others as long as there is time.
    """
    start = time.monotonic()
    for timing in timings:
        if timing is timings[0] or time.monotonic() - start < PREPARING * seconds:
            report(f"compiling the training step: {timing.precision}, XLA {on_machine(timing.xla)}")
            _prepare(timing)
    ready = [timing for timing in timings if timing.step]
    share = max(seconds - (time.monotonic() - start), 0.0) / ROUNDS / len(ready)
    for number in range(ROUNDS):
        report(f"training, round {number + 1} of {ROUNDS}")
        for timing in ready:
            if number == 0 or time.monotonic() - start + timing.step_seconds < seconds:
                _time(timing, share)


def _prepare(timing: Timing) -> None:
    timing.step = build_step(timing.precision, xla=timing.xla)
    for name in ("first_seconds", "step_seconds"):
        began = time.monotonic()
        timing.step(1)
        setattr(timing, name, time.monotonic() - began)


def _time(timing: Timing, seconds: float) -> None:
    """Time as many steps as take about `seconds`, at least one."""
    assert timing.step  # only prepared timings are measured
    steps = max(1, int(seconds / max(timing.step_seconds, 1e-6)))
    began = time.monotonic()
    timing.step(steps)
    timing.rates.append(steps * BATCH / (time.monotonic() - began))


def build_step(precision: str, *, xla: bool) -> Callable[[int], None]:
    """A function that makes that many training steps on random images and waits for the last."""
    with _policy(precision):
        model = build_model(Model(backbone=NETWORK), SIZE, CLASSES)
        use_fast_kernels(model, "gpu" if tf.config.get_visible_devices("GPU") else "cpu")
        optimizer: Any = keras.optimizers.Adam()
        if precision == "float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(model.trainable_variables)
    generator = np.random.default_rng(0)
    images = tf.constant(generator.uniform(0, 255, (BATCH, SIZE, SIZE, 3)).astype(np.float32))
    codes = tf.constant(generator.integers(0, CLASSES, BATCH).astype(np.int32))

    @tf.function(jit_compile=xla)
    def step(images: Any, codes: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(cross_entropy(model(images, training=True), codes, 0.0))
            scaled = optimizer.scale_loss(loss)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(scaled, variables), variables)
        return loss

    def steps(count: int) -> None:
        loss = None
        for _ in range(count):
            loss = step(images, codes)
        if loss is not None:
            loss.numpy()  # waits for the device

    return steps


@contextlib.contextmanager
def _policy(precision: str) -> Iterator[None]:
    """Set the Keras policy for this precision, and restore the previous one at the end."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _matrix_product(precision: str, seconds: float) -> float:
    """Speed of products of square matrices, in GFLOP/s."""
    scale = MATRIX**-0.5  # keeps the size of the values over a chain of products
    left, right = (
        tf.cast(tf.random.stateless_normal((MATRIX, MATRIX), (0, seed)) * scale, precision)
        for seed in (1, 2)
    )

    @tf.function
    def products() -> Any:
        value = left
        for _ in range(PRODUCTS):
            value = tf.matmul(value, right)
        return value[0, 0]

    rate = _repeats_per_second(lambda: products().numpy(), seconds)
    return round(PRODUCTS * 2 * MATRIX**3 * rate / 1e9, 1)


def _copy(seconds: float) -> float:
    """Speed of copies in main memory, in GB/s (10⁹ bytes)."""
    available = machine.memory().available or devices.ASSUMED_MEMORY
    size = min(COPIED_BYTES, available // 8)
    source, target = np.ones(size, np.uint8), np.empty(size, np.uint8)
    rate = _repeats_per_second(lambda: np.copyto(target, source), seconds)
    return round(size * rate / 1e9, 1)


def _repeats_per_second(action: Callable[[], object], seconds: float) -> float:
    """How often `action` can be done per second: the median, after one time for warming up."""
    action()
    taken: list[float] = []
    end = time.monotonic() + seconds
    while not taken or time.monotonic() < end:
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return 1 / statistics.median(taken)
