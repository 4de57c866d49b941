"""What checkpoints and their digests cost: the share of the epochs in one run on drawn faces.

    python scripts/benchmark_checkpoint.py configs/drawn_compact.yaml --epochs 3

Prints the seconds of the epochs, of all checkpoints, and of SHA-256 within them; then how fast this
processor computes SHA-256.
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fer_bench import load_experiment, train
from fer_bench.training import checkpoint

GIGABYTE = 10**9


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """`function`, with the time of each call added to `seconds`."""

    def call(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds.append(time.perf_counter() - began)

    return call


class TimedDigest:
    """SHA-256, with the time that it takes."""

    def __init__(self, seconds: list[float]) -> None:
        digest = hashlib.sha256()
        self.update, self.hexdigest = timed(digest.update, seconds), digest.hexdigest


def gigabytes_per_second() -> float:
    """The speed of SHA-256, with 16 MiB at a time as when an array is written."""
    part, digest = bytes(16 * 2**20), hashlib.sha256()
    began = time.perf_counter()
    for _ in range(32):
        digest.update(part)
    return 32 * len(part) / (time.perf_counter() - began) / GIGABYTE


def main() -> None:
    """Train once, and print where the time went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    experiment = load_experiment(given.config, **{"stages.all.epochs": given.epochs})
    saves: list[float] = []
    digests: list[float] = []
    # In training, both names are looked up when a checkpoint is written.
    setattr(checkpoint, "save", timed(checkpoint.save, saves))  # noqa: B010
    setattr(checkpoint, "_new_digest", lambda: TimedDigest(digests))  # noqa: B010
    setattr(checkpoint, "_digest", timed(checkpoint._digest, digests))  # noqa: B010
    with tempfile.TemporaryDirectory() as outputs:
        train(experiment, outputs, device="cpu")
        rows = (Path(outputs) / experiment.run_id / "history.csv").read_text().splitlines()
    column = rows[0].split(",").index("seconds")
    epochs = sum(float(row.split(",")[column]) for row in rows[1:])
    print(f"{len(rows) - 1} epochs {epochs:.2f} s, {len(saves)} checkpoints {sum(saves):.3f} s")
    print(f"SHA-256 {sum(digests):.3f} s, {100 * sum(digests) / epochs:.2f} % of the epochs")
    print(f"SHA-256 {gigabytes_per_second():.2f} GB/s")


if __name__ == "__main__":
    main()
