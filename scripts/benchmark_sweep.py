"""Whether a sweep on a CPU is faster with one run at a time, or with one run per core.

The suite is one network on drawn faces with one seed per usable core. It is swept with one run at a
time on all cores, and with all runs at once on one core each; the two take turns, each time in an
empty outputs folder. A first sweep, which draws and decodes the faces, does not count. The clock
covers the whole command: starting Python, training, evaluation, comparison. Prints the median
seconds of each, and the median ratio with its 95% interval (above 1, all runs at once are faster).

    python scripts/benchmark_sweep.py
    python scripts/benchmark_sweep.py --networks cnn_slides --pairs 5
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from measuring import paired_ratio, parser_of, print_heading, print_row, take_turns

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
    """A suite of one network, trained like `cnn_compact` in the quickstart."""
    return {
        "description": f"{network}, for a benchmark.",
        "seeds": list(range(seeds)),
        "set": {
            "model": {"backbone": network},
            "image.size": size,
            "stages.0.epochs": epochs,
            "stages.0.warmup": 1,
        },
        "runs": [{"config": str(BASE), "name": network}],
    }


def sweep(path: Path, workers: int) -> None:
    """Sweep a suite in an empty outputs folder."""
    with tempfile.TemporaryDirectory() as outputs:
        command = [sys.executable, "-m", "fer_bench", "sweep", str(path), "--outputs", outputs]
        subprocess.run([*command, "--workers", str(workers)], check=True, capture_output=True)


def compare(network: str, pairs: int, folder: Path) -> Sequence[str]:
    """A row of the table."""
    size, epochs = NETWORKS[network]
    cores = usable_cores().number
    path = folder / f"{network}.yaml"
    path.write_text(yaml.safe_dump(suite(network, size, epochs, cores)))
    sweep(path, cores)
    ways = {"one": partial(sweep, path, 1), "all": partial(sweep, path, cores)}
    times = take_turns(ways, pairs, warm_up=0)
    walls = [[timing.wall for timing in times[way]] for way in ways]
    medians = [f"{np.median(wall):.0f}" for wall in walls]
    what = f"`{network}`, {size} px, {cores} runs of {epochs} epochs"
    return what, *medians, str(paired_ratio(*walls))


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    print_heading(("suite", "one at a time, s", "all at once, s", "ratio [95%]"))
    with tempfile.TemporaryDirectory() as folder:
        for network in arguments.networks:
            print_row(compare(network, arguments.pairs, Path(folder)))


if __name__ == "__main__":
    main()
