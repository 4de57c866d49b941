"""How fast fer-bench trains, compared with plain scripts.

Each row trains one network on one set of image files, with the same batch size and Adam at 1e-3: in
fer-bench as in `fer train`, and in a plain Keras or PyTorch script (`baselines/`). Each has its own
process. They take turns on the same machine (A B, B A, A B, ...), and one turn of each is a pair.

- A row of *an epoch* times single epochs: training, validation and, in fer-bench, saving. Building,
  tracing and the first reading of the files fall into the first two epochs of a process, which do
  not count.
- A row of *a whole run* times everything from the first access to the data to the last epoch, in
  new processes each time, without imports. With `--plain-epochs 3`, the plain Keras script trains
  only the first three epochs of each stage; the others, which do the same work, are assumed to take
  as long as the median of these without the first. fer-bench always trains all epochs.

`images/s` are training images over wall time, the median of the pairs. The ratio is the speed of
fer-bench over that of the plain script, within each pair: the median, and its 95% interval. Above
1, fer-bench is faster. fer-bench computes in the precision of `precision: auto`.

With `--class`, a better processor stands in for one of that class (`baselines/processors.py`). The
rows `free_…` compare with plain scripts that have the defaults of their library, and fer-bench's
kernels of oneDNN with those of Eigen.

    python scripts/benchmark.py --list
    python scripts/benchmark.py --class AVX2 --rows free_resnet50 --torch-python other/bin/python
    python scripts/benchmark.py --rows vgg16_all,resnet50_all --torch-python other/bin/python
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from baselines import children
from baselines.children import Measurement, Reading
from baselines.outcomes import HEADING, OURS, Outcome, outcomes_of
from baselines.processors import PROCESSORS
from baselines.rows import ROWS, Opponent, Row
from drawn_images import scaled, write_images
from measuring import (
    ChildError,
    append_json,
    at_least,
    choice_of,
    environment,
    machine,
    machine_lines,
    parser_of,
    table,
)

from fer_bench.device.machine import cpu_flags


def main() -> None:
    """Measure and print."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.list:
        print(listing(arguments.rows))
        return
    try:
        torch_python = find_torch(arguments.torch_python)
    except ValueError as error:
        parser.error(str(error))
    [arguments.processor] = arguments.processor
    if (flag := arguments.processor.flag) and flag not in cpu_flags():
        parser.error(f"--class {arguments.processor.name}: this processor has no {flag}")
    facts = machine() | {"class": arguments.processor.name}
    outcomes, failures = measure_all(arguments, torch_python, facts)
    print(f"\n{report_of(outcomes, facts, arguments)}")
    if failures:
        sys.exit(f"no result for: {', '.join(failures)}")


def measure_all(
    arguments: argparse.Namespace, torch_python: str | None, facts: dict[str, Any]
) -> tuple[list[Outcome], list[str]]:
    """Measure and print row by row; adds to `facts`. Returns the outcomes and the failed rows."""
    outcomes: list[Outcome] = []
    failures: list[str] = []
    for row in arguments.rows:
        opponents = runnable(row, torch_python)
        if not opponents:
            continue
        try:
            measured = measure_row(row, opponents, torch_python, arguments)
        except ChildError as error:
            print(f"{row.name}: no result. {error}", flush=True)
            failures.append(row.name)
            continue
        for name, report in measured.facts.items():
            facts["versions"] |= report["versions"]
            if name == OURS:
                facts |= {key: report[key] for key in ("device", "precision")}
        for outcome in outcomes_of(row, opponents, measured):
            print(" | ".join(outcome.cells), flush=True)
            outcomes.append(outcome)
            if arguments.json:
                append_json(arguments.json, outcome.to_json(measured, facts))
    return outcomes, failures


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--list", action="store_true", help="print the rows and measure nothing")
    parser.add_argument("--rows", type=choice_of(ROWS), default="", help="names; default: all")
    parser.add_argument("--pairs", type=at_least(1), default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument(
        "--class",
        dest="processor",
        type=choice_of(PROCESSORS),
        default="native",
        help=f"one of {', '.join(each.name for each in PROCESSORS)}",
    )
    parser.add_argument("--torch-python", help="interpreter with torch, torchvision and timm")
    parser.add_argument(
        "--plain-epochs",
        type=at_least(3),
        help="in rows of a whole run: epochs per stage that the plain Keras script trains",
    )
    parser.add_argument("--json", type=Path, help="append a line per row and plain script")
    return parser


def listing(rows: Sequence[Row]) -> str:
    """A table of the rows and their targets."""
    cells = [
        (row.name, row.task.network, against.name, f"{against.target:g}", row.what)
        for row in rows
        for against in row.opponents
    ]
    return table(("row", "network", "against", "target", "what"), cells)


def find_torch(named: str | None) -> str | None:
    """The interpreter of the PyTorch child: the given one, or this one if it has PyTorch.

    Raises:
        ValueError: the given one cannot import what the child needs.
    """
    if named is None:
        return sys.executable if importlib.util.find_spec("torch") else None
    try:
        test = [named, "-c", "import torch, torchvision, timm"]
        found = subprocess.run(test, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ValueError(f"--torch-python {named}: {error.strerror}") from error
    if found.returncode:
        reason = found.stderr.strip().splitlines()[-1:] or ["it ended without a message"]
        raise ValueError(
            f"--torch-python {named}: {reason[0]}; install the dependency group 'baselines' there"
        )
    # Absolute, because children run in another folder; not resolved, because a virtual environment
    # is identified by the name of its link.
    return os.path.abspath(named) if os.sep in named else named  # noqa: PTH100


def runnable(row: Row, torch_python: str | None) -> list[Opponent]:
    """The plain scripts of a row that can run here; reports those that lack PyTorch."""
    found = []
    for against in row.opponents:
        if against.framework == "torch" and torch_python is None:
            print(f"{row.name}: skipping {against.name}, no PyTorch here (see --torch-python)")
        else:
            found.append(against)
    return found


def measure_row(
    row: Row, opponents: Sequence[Opponent], torch_python: str | None, arguments: argparse.Namespace
) -> Measurement:
    """Draw the images, let all scripts take turns, and remove the images. Raises: ChildError."""
    with tempfile.TemporaryDirectory(prefix="fer-benchmark-") as folder:
        images = Path(folder, "images")
        numbers = scaled({"train": row.train, "validation": row.validation}, arguments.scale)
        write_images(images, numbers, row.task.size, grey=row.grey, seed=arguments.seed)

        def command(framework: str, precision: str) -> list[str]:
            task = row.task_of(
                images,
                precision,
                device=arguments.device,
                seed=arguments.seed,
                rounds=arguments.pairs + children.DISCARDED,
                measured_epochs=arguments.plain_epochs if framework == "keras" else None,
            )
            python = str(torch_python) if framework == "torch" else sys.executable
            return children.command(framework, python, task)

        commands = {OURS: command("ours", "auto")}
        commands |= {each.name: command(each.framework, each.precision) for each in opponents}
        frameworks = {OURS: "ours"} | {each.name: each.framework for each in opponents}
        shared, processor = environment(arguments.device), arguments.processor
        return children.measure(
            commands,
            arguments.pairs,
            whole=row.task.whole,
            environments={
                name: shared | processor.environment(framework)
                for name, framework in frameworks.items()
            },
            on_round=lambda number, turns: _report(row, number, turns),
        )


def _report(row: Row, number: int, turns: Mapping[str, Reading]) -> None:
    times = ", ".join(f"{name} {turn.seconds:.2f} s" for name, turn in turns.items())
    warm_up = not row.task.whole and number <= children.DISCARDED
    note = " (does not count)" if warm_up else ""
    print(f"  {row.name}, round {number}: {times}{note}", file=sys.stderr, flush=True)


def report_of(
    outcomes: Sequence[Outcome], facts: Mapping[str, Any], arguments: argparse.Namespace
) -> str:
    """The table of all rows, below the facts on the machine."""
    scale = "" if arguments.scale == 1 else f" ({arguments.scale:g} times the numbers below)"
    return "\n".join(
        [
            machine_lines(facts),
            f"- {OURS} on {facts.get('device', '?')}, in {facts.get('precision', '?')}; "
            f"class of the processor: {facts['class']}",
            f"- drawn faces{scale}; seed {arguments.seed}; {arguments.pairs} pairs",
            "",
            table(HEADING, [outcome.cells for outcome in outcomes]),
        ]
    )


if __name__ == "__main__":
    main()
