"""Try damaged inputs: `make fuzz SEED=1 INPUTS=5000`. Prints what failed, and a table.

`python -m fuzz 1 5000` tries the inputs 1-0 to 1-4999, `python -m fuzz 1-7 1-9` two of them again.
"""

import collections
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from fuzz import damage, trial, world

Table = dict[str, collections.Counter[str]]


def fer(*arguments: object) -> Any:
    """Call a command in this process."""
    from typer.testing import CliRunner

    from fer_bench.cli import app

    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def main(seeds: Iterable[str]) -> int:
    """Try an input of every seed; returns how many failed."""
    table: Table = collections.defaultdict(collections.Counter)
    with tempfile.TemporaryDirectory() as folder:
        trials = trial.Trials(world.build(Path(folder), fer), fer)
        start, computed = time.monotonic(), time.process_time()
        for number, seed in enumerate(seeds):
            if number % 100 == 0:
                print(f"{number} inputs, {time.monotonic() - start:.0f} s", file=sys.stderr)
            done = trials.attempt(seed)
            table[done.target][done.verdict.split(":")[0]] += 1
            if not done.is_good:
                print(f"\n{done}", flush=True)
        seconds = time.monotonic() - start, time.process_time() - computed
    _show(table, *seconds)
    return sum(counts.total() - counts[trial.PROMISED] for counts in table.values())


def _show(table: Table, seconds: float, computed: float) -> None:
    number = sum(counts.total() for counts in table.values())
    print(
        f"\n{number} inputs, {seconds:.0f} s, {computed / max(number, 1):.2f} s of CPU an input\n"
    )
    for name, counts in sorted(table.items()):
        print(f"{name:26} {dict(counts)}")


if __name__ == "__main__":
    sys.exit(min(main(damage.seeds(sys.argv[1:])), 1))
