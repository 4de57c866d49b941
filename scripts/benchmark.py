"""How fast fer-bench trains, against the plain script that one would write instead.

Every row trains one network on one set of images (files in folders), with the same batch size and
Adam at 1e-3: in fer-bench as `fer train` runs it, and in a plain Keras or PyTorch script
(`baselines/`). Each has its own process, and they work by turns on the same machine (A B, B A,
A B, ...), so that a machine whose speed drifts slows all. One turn of each makes a pair.

- A row of *an epoch* times single epochs: training, validation and, for fer-bench, all that is
  saved. Building, tracing and the first reading of the files fall into the first two epochs of a
  process, which do not count.
- A row of *a whole run* times everything from the first look at the data to the last epoch, in a
  new process each time; only imports are left out. With `--plain-epochs 3`, the plain Keras script
  trains only the first three epochs of each stage, and the others, which do the same work, count as
  long as the median of these but the first. fer-bench always trains them all.

How to read it: `images/s` are training images over wall time, the median of the pairs. The ratio
is fer-bench's speed over the plain script's, taken within each pair: its median, and in brackets
the least and the most of the pairs. Above 1, fer-bench is faster. fer-bench uses the arithmetic
that `precision: auto` chooses; that of the plain script is beside its name. A ratio holds for the
machine that it was measured on, while nothing else runs there.

    python scripts/benchmark.py --list
    python scripts/benchmark.py --rows vgg16_all,resnet50_all --torch-python other/bin/python
"""

import argparse
import datetime
import importlib.util
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from baselines import children
from baselines.children import ChildError, Measurement, Reading
from baselines.images import ImagesError, copy_images, draw_images
from baselines.outcomes import OURS, Outcome, append_json, markdown, outcomes_of
from baselines.rows import ROWS, Opponent, Row

from fer_bench.device.machine import cpu_model, usable_cores

NOT_SAID = "unknown"  # before a child has said it


class UsageError(Exception):
    """The command line asks for something that is not there."""


@dataclass(frozen=True)
class Context:
    """What holds for every row.

    Attributes:
        arguments: the command line.
        folder: a temporary folder.
        torch_python: the interpreter that has PyTorch; None where there is none.
        extra: opponents of every row beside its own.
    """

    arguments: argparse.Namespace
    folder: Path
    torch_python: str | None
    extra: tuple[Opponent, ...]

    def opponents(self, row: Row) -> tuple[list[Opponent], list[Opponent]]:
        """The plain scripts that can run here, and those that lack PyTorch."""
        own = {against.name for against in row.opponents}
        wanted = [*row.opponents, *(against for against in self.extra if against.name not in own)]
        missing = [
            against
            for against in wanted
            if against.framework == "torch" and self.torch_python is None
        ]
        return [against for against in wanted if against not in missing], missing


def main() -> None:
    """Measure and print."""
    parser = _parser()
    arguments = parser.parse_args()
    try:
        rows = chosen(arguments.rows)
        if arguments.list:
            print(listing(rows))
            return
        torch_python = find_torch(arguments.torch_python)
        extra = tuple(opponent(text) for text in arguments.against.split(",") if text)
    except UsageError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory(prefix="fer-benchmark-") as folder:
        context = Context(arguments, Path(folder), torch_python, extra)
        outcomes, machine, failures = measure_all(rows, context)
    text = markdown(outcomes, machine)
    print(f"\n{text}", end="")
    if arguments.markdown:
        arguments.markdown.write_text(text, encoding="utf-8")
    if failures:
        sys.exit(f"no result for: {', '.join(failures)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="print the rows and measure nothing")
    parser.add_argument("--rows", default="", help="names, with commas between; default: all")
    parser.add_argument("--pairs", type=at_least_one, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--images",
        type=Path,
        help="folder of train/<class>/ and validation/<class>/; default: drawn faces",
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--torch-python", help="interpreter with torch, torchvision and timm")
    parser.add_argument(
        "--against",
        default="",
        help="further plain scripts for every row, such as keras:mixed_bfloat16,torch:bfloat16",
    )
    parser.add_argument(
        "--keras-options", default="", help="for keras_fit.py: --no-cache --augment-in-model"
    )
    parser.add_argument(
        "--plain-epochs",
        type=partial(at_least_one, least=3),
        help="in rows of a whole run, how many epochs of each stage the Keras script trains; the "
        "others are taken to last as long as the median of these but the first",
    )
    parser.add_argument("--json", type=Path, help="append a line for each row and plain script")
    parser.add_argument("--markdown", type=Path, help="write the table here too")
    return parser


def at_least_one(text: str, least: int = 1) -> int:
    """A number of things, `least` or more. Raises: ArgumentTypeError."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be {least} or more, got {text}")
    return int(text)


def chosen(names: str) -> list[Row]:
    """The rows of these names, with commas between them; all where there is none.

    Raises:
        UsageError: there is no such row.
    """
    known = {row.name: row for row in ROWS}
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise UsageError(f"--rows: no row {', '.join(unknown)}; known: {', '.join(known)}")
    return [known[name] for name in wanted]


def listing(rows: Sequence[Row]) -> str:
    """A line for each row and plain script."""
    lines = [("row", "network", "against", "target", "what")]
    lines += [
        (row.name, row.network, against.name, f"{against.target:g}", row.what)
        for row in rows
        for against in row.opponents
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(padded)


def opponent(text: str) -> Opponent:
    """`keras:float32` as an opponent without a target. Raises: UsageError."""
    framework, _, precision = text.strip().partition(":")
    if framework not in ("keras", "torch") or not precision:
        raise UsageError(f"--against: expected keras:PRECISION or torch:PRECISION, got {text!r}")
    return Opponent(framework, precision)


def find_torch(named: str | None) -> str | None:
    """The interpreter for the PyTorch child: the one named, or this one if it has PyTorch.

    Raises:
        UsageError: the one named cannot import what the child needs.
    """
    if named is None:
        return sys.executable if importlib.util.find_spec("torch") else None
    try:
        test = [named, "-c", "import torch, torchvision, timm"]
        found = subprocess.run(test, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"--torch-python {named}: {error.strerror}") from error
    if found.returncode:
        reason = found.stderr.strip().splitlines()[-1:] or ["it ended without a word"]
        raise UsageError(
            f"--torch-python {named}: {reason[0]}; install the dependency group 'baselines' there"
        )
    # Made absolute, since children have another working folder; not resolved, since a virtual
    # environment is known by the name of its link.
    return os.path.abspath(named) if os.sep in named else named  # noqa: PTH100


def measure_all(
    rows: Sequence[Row], context: Context
) -> tuple[list[Outcome], dict[str, Any], list[str]]:
    """Measure row by row, printing each as soon as it is there.

    Returns the outcomes, what is known of the machine, and the names of rows that failed.
    """
    outcomes: list[Outcome] = []
    failures: list[str] = []
    machine = describe_machine(context.arguments)
    for row in rows:
        opponents, missing = context.opponents(row)
        for against in missing:
            print(f"{row.name}: {against.name} is left out: no PyTorch here (see --torch-python)")
        if not opponents:
            continue
        try:
            measured = measure_row(row, opponents, context)
        except (ChildError, ImagesError) as error:
            print(f"{row.name}: no result. {error}", flush=True)
            failures.append(row.name)
            continue
        _learn(machine, measured.facts)
        found = outcomes_of(row, opponents, measured)
        for outcome in found:
            print(outcome, flush=True)
            if context.arguments.json:
                append_json(context.arguments.json, outcome, measured, machine)
        outcomes += found
    return outcomes, machine, failures


def measure_row(row: Row, opponents: Sequence[Opponent], context: Context) -> Measurement:
    """Make the images, let all take turns, and remove the images."""
    arguments = context.arguments
    device, seed = arguments.device, arguments.seed
    with tempfile.TemporaryDirectory(dir=context.folder) as folder:
        images = Path(folder, "images")
        if arguments.images:
            copy_images(images, row, arguments.scale, arguments.images)
        else:
            draw_images(images, row, arguments.scale, seed)

        def flags(precision: str, measured_epochs: int | None = None) -> list[str]:
            task = row.task(
                images,
                precision,
                device=device,
                seed=seed,
                rounds=arguments.pairs + children.DISCARDED,
                measured_epochs=measured_epochs,
            )
            return task.flags()

        commands = {OURS: children.ours(*flags("auto"))}
        for against in opponents:
            is_keras = against.framework == "keras"
            python = sys.executable if is_keras else str(context.torch_python)
            options = shlex.split(arguments.keras_options) if is_keras else []
            settings = flags(against.precision, arguments.plain_epochs if is_keras else None)
            command = children.plain(against.framework, python, *settings, *options)
            commands[against.name] = command
        return children.measure(
            commands,
            arguments.pairs,
            whole=row.whole,
            environment=environment(device),
            on_round=lambda number, turns: _show(row, number, turns),
        )


def environment(device: str) -> dict[str, str]:
    """Variables of the children: which devices they see, and that they share a GPU's memory."""
    shared = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    return shared | ({"CUDA_VISIBLE_DEVICES": "-1"} if device == "cpu" else {})


def _show(row: Row, number: int, turns: Mapping[str, Reading]) -> None:
    times = ", ".join(f"{name} {turn.seconds:.2f} s" for name, turn in turns.items())
    warm_up = " (does not count)" if not row.whole and number <= children.DISCARDED else ""
    print(f"  {row.name}, round {number}: {times}{warm_up}", file=sys.stderr, flush=True)


def describe_machine(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a reader needs to know to judge the numbers; children add their devices and versions."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "cpu": cpu_model(),
        "cores": usable_cores().number,
        "device": NOT_SAID,
        "precision": NOT_SAID,
        "system": platform.platform(),
        "versions": {"python": platform.python_version()},
        "seed": arguments.seed,
        "pairs": arguments.pairs,
        "scale": arguments.scale,
        "images": str(arguments.images or "drawn faces"),
        "command": shlex.join(["python", "scripts/benchmark.py", *sys.argv[1:]]),
    }


def _learn(machine: dict[str, Any], facts: Mapping[str, Mapping[str, Any]]) -> None:
    machine["device"] = facts[OURS]["device"]
    machine["precision"] = facts[OURS]["precision"]
    for said in facts.values():
        machine["versions"] |= said["versions"]


if __name__ == "__main__":
    main()
