"""How long `fer compare` takes over many runs: the whole process, from start to printed table.

Writes made-up runs of one test set (by default 300 runs of 3,589 images and 7 classes: a hundred
experiments with three seeds) into a temporary folder and runs the command as a user would. Prints
the median wall time and processor time with their 95% intervals. To compare two versions of the
code, run both on the same folder (`--keep`) on the same idle machine.

    python scripts/benchmark_compare.py
    python scripts/benchmark_compare.py --runs 1000 --keep runs --json compare.json
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from measuring import (
    Timing,
    append_json,
    bootstrapped,
    machine,
    machine_lines,
    parser_of,
    table,
    timed,
)
from numpy.typing import NDArray

from fer_bench.labels import EXPRESSIONS
from fer_bench.metrics.expression import METRICS
from fer_bench.metrics.measure import values
from fer_bench.runs.predictions import read_predictions

SEEDS = 3
CLASSES = EXPRESSIONS[:7]


def write_run(outputs: Path, number: int, labels: NDArray[np.int64]) -> None:
    """One finished run, with metrics but no model; later experiments are more accurate."""
    experiment, seed = divmod(number, SEEDS)
    name = f"network{experiment:03d}"
    logits = np.random.default_rng(number).normal(size=(len(labels), len(CLASSES)))
    logits[np.arange(len(labels)), labels] += 1.0 + experiment / 100
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    folder = outputs / f"{name}-s{seed}-{number:08x}"
    for part in ("predictions", "metrics"):
        (folder / part).mkdir(parents=True)
    frame = pd.DataFrame(probabilities, columns=[f"p_{one}" for one in CLASSES])
    names = np.array(CLASSES)
    frame.insert(0, "predicted", names[probabilities.argmax(axis=1)])
    frame.insert(0, "label", names[labels])
    frame.insert(0, "sample_id", [f"test/{index:05d}.jpg" for index in range(len(labels))])
    path = folder / "predictions" / "test.csv"
    frame.to_csv(path, index=False, float_format="%.9g")
    saved = read_predictions(path)
    # Only accuracy, macro F1 and the fingerprint are real; of the others, only the size matters.
    found = dict.fromkeys(METRICS, 0.5) | values(saved, ("accuracy", "macro_f1"))
    metrics = {
        "n": len(saved),
        **{key: {"value": v, "low": v - 0.01, "high": v + 0.01} for key, v in found.items()},
        "fingerprint": saved.fingerprint,
    }
    (folder / "metrics" / "test.json").write_text(json.dumps(metrics, indent=2))
    model = {"backbone": name, "weights": "none"}
    config = {
        "name": name,
        "seed": seed,
        "dataset": {"name": "drawn", "validation": 0.1, "balance": "none"},
        "image": {"size": 48, "augment": {"flip": True, "rotation": 0.05}},
        "model": {**model, "targets": ["expression"]},
        "stages": [{"name": "all", "train": "all", "epochs": 20, "learning_rate": 1e-3}] * 3,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    record = {
        "name": name,
        "seed": seed,
        "status": "finished",
        "dataset": {"name": "drawn", "classes": list(CLASSES)},
        "model": {**model, "parameters": 10_000 * number},
        "best": {"epoch": 3, "metric": "val_macro_f1", "value": 0.5},
    }
    (folder / "run.json").write_text(json.dumps(record, indent=2))


def process_time(command: Sequence[str]) -> Timing:
    """Wall and processor time of a command."""
    wide = os.environ | {"COLUMNS": "160"}
    before = processor_seconds()
    wall = timed(
        lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=wide)
    ).wall
    return Timing(wall, processor_seconds() - before)


def processor_seconds() -> float:
    """The processor time of all child processes so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--images", type=int, default=3_589)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="folder of the runs; existing runs are reused")
    parser.add_argument("--json", type=Path, help="append a line of JSON")
    arguments = parser.parse_args()
    labels = np.random.default_rng(0).integers(0, len(CLASSES), arguments.images)
    host = machine()
    with tempfile.TemporaryDirectory() as temporary:
        outputs = arguments.keep or Path(temporary)
        if not any(outputs.glob("*/run.json")):
            for number in range(arguments.runs):
                write_run(outputs, number, labels)
        command = [sys.executable, "-m", "fer_bench", "compare", str(outputs)]
        times = np.array([process_time(command) for _ in range(arguments.repeats)])
    sizes = [f"{arguments.runs:,}", f"{arguments.images:,}"]
    cells = [str(bootstrapped(column)) for column in times.T]
    heading = ("runs", "images", "wall time, s [95%]", "processor time, s [95%]")
    print(f"{machine_lines(host)}\n\n{table(heading, [[*sizes, *cells]])}")
    if arguments.json:
        numbers = {"runs": arguments.runs, "images": arguments.images}
        seconds = {"wall_seconds": [*times[:, 0]], "processor_seconds": [*times[:, 1]]}
        append_json(arguments.json, numbers | seconds | {"machine": host})


if __name__ == "__main__":
    main()
