"""Try many damaged inputs: `make fuzz SEED=1 INPUTS=5000`. Prints what failed, and a table."""

import collections
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from fuzz import trial, world


def main(seed: str, inputs: int) -> int:
    """Returns how many inputs failed."""
    from typer.testing import CliRunner

    from fer_bench.cli import app

    def fer(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    verdicts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tried = world.build(Path(folder), fer)
        for number in range(inputs):
            done = trial.attempt(tried, fer, f"{seed}-{number}")
            verdicts[done.target][done.verdict.split(":")[0]] += 1
            if not done.is_good:
                print(f"\n{done.seed}  {done.what}\n  fer {done.command}\n  {done.verdict}")
                sys.stdout.flush()
    print(f"\n{inputs} inputs, seed {seed}, {time.monotonic() - start:.0f} s\n")
    for name, counts in sorted(verdicts.items()):
        print(f"{name:26} {dict(counts)}")
    return sum(n for counts in verdicts.values() for v, n in counts.items() if v != trial.PROMISED)


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1], int(sys.argv[2])), 1))
