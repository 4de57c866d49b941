"""What only a GPU can show. Every command runs in a process of its own, as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tensorflow as tf

from fer_bench.device import selection

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "drawn_compact.yaml"
GPUS = len(tf.config.list_physical_devices("GPU"))

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not GPUS, reason=f"no GPU. {selection.why_no_gpu()}"),
]

# Sums in another order differ in the last digits, and the convolutions of a GPU keep 10 bits of
# the factors (TF32); an epoch of training carries that on.
CLOSE = 0.02


def python(code: str, *arguments: object, gpus: str | None = None) -> Any:
    """Run `code` in a new interpreter, which sees only `gpus` (`0,1`) where they are given."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpus
    words = [sys.executable, "-c", code, *(str(argument) for argument in arguments)]
    return subprocess.run(words, check=False, env=environment, capture_output=True, text=True)


def fer(*arguments: object) -> Any:
    return python("from fer_bench.cli import main; main()", *arguments)


def experiment(root: Path, *settings: str) -> list[str]:
    """The drawn experiment over 96 faces for one epoch, as arguments."""
    chosen = (f"dataset.root={root}", "stages.0.epochs=1", "stages.0.warmup=0", *settings)
    return [str(CONFIG), *(word for setting in chosen for word in ("--set", setting))]


# The same numbers from every way to compute: nothing is drawn on the device, and BatchNorm, which
# would see only a part of the batch on each of several GPUs, is frozen.
PLAIN = (
    *("image.size=24", "image.augment={}", "model.head={pooling: avg, dropout: 0}"),
    *("training.precision=float32", "training.optimizer=adam", "training.batch_size=8"),
    *("training.weight_decay=0", "stages.0.freeze_batch_norm=true"),
    *("stages.0.epochs=3", "stages.0.learning_rate=0.0002"),
)


def losses(outputs: Path, result: Any) -> list[float]:
    """The losses of the one run in `outputs`, epoch by epoch."""
    assert result.returncode == 0, result.stderr
    (history,) = outputs.glob("*/history.csv")
    return list(pd.read_csv(history)["loss"])


def plain_losses(root: Path, outputs: Path, *settings: str) -> list[float]:
    """What one GPU makes of `PLAIN`: it learns, or else nothing could be compared."""
    arguments = experiment(root, *PLAIN, *settings)
    result = fer("train", *arguments, "--outputs", outputs, "--device", "gpu:0")
    first, *_, last = found = losses(outputs, result)
    assert last < 0.9 * first
    return found


def test_the_gpus_are_used() -> None:
    opened = fer("doctor", "--device", "gpu", "--seconds", 0, "--json")
    assert opened.returncode == 0, opened.stderr
    document = json.loads(opened.stdout)
    assert document["device"]["name"].startswith(f"{GPUS} x ")
    assert document["device"]["kind"] == "gpu"
    assert document["device"]["memory_is_assumed"] is False
    assert document["choices"]["xla"]["value"] == "on"


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_it_trains_and_evaluates_in_every_arithmetic(
    drawn_root: Path, tmp_path: Path, precision: str
) -> None:
    if precision == "bfloat16" and not has_bfloat16():
        pytest.skip("this GPU has no bfloat16: it needs compute capability 8.0")
    arguments = experiment(drawn_root, f"training.precision={precision}")
    trained = fer("train", *arguments, "--outputs", tmp_path, "--device", "gpu")
    assert trained.returncode == 0, trained.stderr
    run = tmp_path / trained.stdout.strip()
    document = json.loads((run / "run.json").read_text())
    assert document["precision"] == precision
    assert document["device"].startswith(f"{GPUS} x ")
    evaluated = fer("evaluate", run.name, "--outputs", tmp_path, "--device", "gpu", "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["n"] == 48


def has_bfloat16() -> bool:
    details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    return bool(details.get("compute_capability", (0, 0)) >= (8, 0))


def test_compiled_or_not_it_learns_the_same(drawn_root: Path, tmp_path: Path) -> None:
    compiled = plain_losses(drawn_root, tmp_path / "on", "training.xla=on")
    plain = plain_losses(drawn_root, tmp_path / "off", "training.xla=off")
    assert compiled == pytest.approx(plain, rel=CLOSE)


MIRRORED = """
import dataclasses, sys
from pathlib import Path
import tensorflow as tf
from rich.console import Console
from fer_bench.config.loading import load_experiment
from fer_bench.device.selection import open_device
from fer_bench.report.terminal.progress import PlainDisplay
from fer_bench.training.train import train

opened = open_device("gpu")
mirrored = dataclasses.replace(opened, strategy=tf.distribute.MirroredStrategy())
config = load_experiment(Path(sys.argv[2]), sys.argv[4::2])
train(config, Path(sys.argv[1]), mirrored, PlainDisplay(Console(stderr=True)))
print(mirrored.strategy.num_replicas_in_sync)
"""


@pytest.mark.parametrize("count", range(1, GPUS + 1))
def test_mirrored_gpus_learn_what_one_learns(drawn_root: Path, tmp_path: Path, count: int) -> None:
    one = plain_losses(drawn_root, tmp_path / "one")
    names = ",".join(str(index) for index in range(count))
    arguments = experiment(drawn_root, *PLAIN)
    result = python(MIRRORED, tmp_path / "mirrored", *arguments, gpus=names)
    assert losses(tmp_path / "mirrored", result) == pytest.approx(one, rel=CLOSE)
    assert result.stdout.split()[-1] == str(count)


def test_memory_is_taken_as_it_is_needed() -> None:
    code = (
        "import tensorflow as tf\n"
        "from fer_bench.device.selection import open_device\n"
        "open_device('gpu')\n"
        "gpus = tf.config.get_visible_devices('GPU')\n"
        "print([tf.config.experimental.get_memory_growth(gpu) for gpu in gpus])\n"
    )
    assert python(code).stdout.strip() == str([True] * GPUS)


def test_a_batch_that_no_gpu_holds_ends_with_what_to_try(drawn_root: Path, tmp_path: Path) -> None:
    # The first feature map alone is 4096 x 256 x 256 x 64 x 4 bytes = 64 GiB; each face is drawn
    # 42 times an epoch, since a batch is never larger than an epoch.
    settings = (
        *("model.backbone=vgg16", "model.weights=none", "training.precision=float32"),
        *("image.size=256", "image.augment={}", "training.batch_size=4096"),
        *("dataset.balance=oversample", "dataset.per_class=512"),
    )
    arguments = experiment(drawn_root, *settings)
    result = fer("train", *arguments, "--outputs", tmp_path, "--device", "gpu:0")
    assert result.returncode == 2, result.stderr
    assert "training.batch_size=2048" in result.stderr
    assert "Traceback" not in result.stderr
