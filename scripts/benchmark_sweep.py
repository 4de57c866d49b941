"""Whether a sweep on a CPU ends sooner with one run at a time, or with as many as it has cores.

The suite is one network on drawn faces with as many seeds as this process may use cores. It is
swept with one run at a time, which has all cores, and with all runs side by side, one core each;
the two take turns, each time in an empty outputs folder. A first sweep, which draws and decodes the
faces, does not count. The clock runs over the whole command: starting Python, training, evaluating,
comparing. Prints the median seconds of each, the median ratio of the pairs (above 1, side by side
is faster), and the lowest and highest ratio.

    python scripts/benchmark_sweep.py
    python scripts/benchmark_sweep.py --networks cnn_slides --pairs 5
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fer_bench.device.machine import usable_cores

BASE = Path(__file__).resolve().parents[1] / "configs" / "drawn_compact.yaml"
# Pixels and epochs of a run.
NETWORKS = {
    "cnn_slides": (48, 12),
    "cnn_compact": (48, 8),
    "mobilenetv3small": (64, 4),
    "vgg16": (48, 2),
}


def suite(network: str, size: int, epochs: int, seeds: int) -> dict[str, Any]:
    """A suite of one network, trained as `cnn_compact` is in the quickstart."""
    return {
        "description": f"{network}, to be timed.",
        "seeds": list(range(seeds)),
        "set": {
            "model": {"backbone": network},
            "image.size": size,
            "stages.0.epochs": epochs,
            "stages.0.warmup": 1,
        },
        "runs": [{"config": str(BASE), "name": network}],
    }


def sweep_seconds(path: Path, workers: int) -> float:
    """How long the sweep of a suite takes in an empty outputs folder."""
    with tempfile.TemporaryDirectory() as outputs:
        command = [sys.executable, "-m", "fer_bench", "sweep", str(path), "--outputs", outputs]
        began = time.perf_counter()
        subprocess.run(
            [*command, "--workers", str(workers)], check=True, capture_output=True, text=True
        )
        return time.perf_counter() - began


def compare(network: str, pairs: int, folder: Path) -> str:
    """A line of a Markdown table."""
    size, epochs = NETWORKS[network]
    cores = usable_cores().number
    path = folder / f"{network}.yaml"
    path.write_text(yaml.safe_dump(suite(network, size, epochs, cores)))
    sweep_seconds(path, cores)
    times = np.array(
        [[sweep_seconds(path, workers) for workers in (1, cores)] for _ in range(pairs)]
    )
    medians, ratios = np.median(times, axis=0), times[:, 0] / times[:, 1]
    return (
        f"| `{network}`, {size} px, {cores} runs of {epochs} epochs | {medians[0]:.0f} "
        f"| {medians[1]:.0f} | {np.median(ratios):.2f} [{ratios.min():.2f}, {ratios.max():.2f}] |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME"
    )
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    print("| suite | one at a time, s | side by side, s | ratio [of the pairs] |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for network in arguments.networks:
            print(compare(network, arguments.pairs, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
