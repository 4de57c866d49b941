"""How long `fer compare` takes over many runs: the whole process, from start to printed table.

Writes made-up runs of one test set (by default 300 of 3,589 images and 7 classes, a hundred
experiments of three seeds) into a temporary folder, then starts the command as a user would.
Prints the median wall time and processor time, as a table and as JSON.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fer_bench.device.machine import usable_cores
from fer_bench.labels import EXPRESSIONS
from fer_bench.metrics.expression import METRICS
from fer_bench.metrics.measure import values
from fer_bench.runs.predictions import read_predictions

SEEDS = 3


def write_run(
    outputs: Path, number: int, labels: NDArray[np.int64], classes: Sequence[str]
) -> None:
    """One finished run whose skill depends on its experiment, with metrics but no model."""
    experiment, seed = divmod(number, SEEDS)
    name = f"network{experiment:03d}"
    generator = np.random.default_rng(number)
    logits = generator.normal(size=(len(labels), len(classes)))
    logits[np.arange(len(labels)), labels] += 1.0 + experiment / 100
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    folder = outputs / f"{name}-s{seed}-{number:08x}"
    for part in ("predictions", "metrics"):
        (folder / part).mkdir(parents=True)
    lines = [",".join(["sample_id", "label", "predicted", *(f"p_{name}" for name in classes)])]
    for index, (label, row) in enumerate(zip(labels, probabilities, strict=True)):
        said = [f"test/{index:05d}.jpg", classes[label], classes[row.argmax()]]
        lines.append(",".join([*said, *(f"{value:.9g}" for value in row)]))
    (folder / "predictions" / "test.csv").write_text("\n".join(lines) + "\n")
    (folder / "metrics" / "test.json").write_text(json.dumps(made_up_metrics(folder), indent=2))
    config = {
        "name": name,
        "seed": seed,
        "dataset": {"name": "drawn", "validation": 0.1, "balance": "none"},
        "image": {"size": 48, "augment": {"flip": True, "rotation": 0.05}},
        "model": {"backbone": name, "weights": "none", "targets": ["expression"]},
        "stages": [{"name": "all", "train": "all", "epochs": 20, "learning_rate": 1e-3}] * 3,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    record = {
        "name": name,
        "seed": seed,
        "status": "finished",
        "dataset": {"name": "drawn", "classes": list(classes)},
        "model": {"backbone": name, "weights": "none", "parameters": 10_000 * number},
        "best": {"epoch": 3, "metric": "val_macro_f1", "value": 0.5},
    }
    (folder / "run.json").write_text(json.dumps(record, indent=2))


def made_up_metrics(folder: Path) -> dict[str, Any]:
    """True accuracy, macro F1 and fingerprint; as for the rest, only its size counts here."""
    saved = read_predictions(folder / "predictions" / "test.csv")
    found = dict.fromkeys(METRICS, 0.5) | values(saved, ("accuracy", "macro_f1"))
    cells = {
        name: {"value": value, "low": value - 0.01, "high": value + 0.01}
        for name, value in found.items()
    }
    return {"n": len(saved), **cells, "fingerprint": saved.fingerprint}


def seconds_of(command: Sequence[str]) -> tuple[float, float]:
    """Wall and processor time of a command."""
    before, start = processor_seconds(), time.perf_counter()
    wide = os.environ | {"COLUMNS": "160"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=wide)
    return time.perf_counter() - start, processor_seconds() - before


def processor_seconds() -> float:
    """What the children have used so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--images", type=int, default=3_589)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="write the runs here, and leave them")
    arguments = parser.parse_args()

    classes = EXPRESSIONS[:7]
    labels = np.random.default_rng(0).integers(0, len(classes), arguments.images)
    with tempfile.TemporaryDirectory() as temporary:
        outputs = arguments.keep or Path(temporary)
        if not any(outputs.glob("*/run.json")):
            for number in range(arguments.runs):
                write_run(outputs, number, labels, classes)
        command = [sys.executable, "-c", "from fer_bench.cli import main; main()"]
        command += ["compare", str(outputs)]
        times = [seconds_of(command) for _ in range(arguments.repeats)]
    wall, processor = (statistics.median(column) for column in zip(*times, strict=True))
    print("| runs | images | wall time, s | processor time, s | repeats |")
    print("|---:|---:|---:|---:|---:|")
    print(
        f"| {arguments.runs} | {arguments.images:,} | {wall:.2f} | {processor:.2f} "
        f"| {arguments.repeats} |"
    )
    document = {
        "runs": arguments.runs,
        "images": arguments.images,
        "wall_seconds": [round(one, 3) for one, _ in times],
        "processor_seconds": [round(one, 3) for _, one in times],
        "cores": usable_cores().number,
        "load": os.getloadavg()[0],
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
