"""A call of every command, for tests of what all of them have to do."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
import yaml

from fer_bench.cli import app

# The arguments of each command, in a folder of `write_inputs`; `{run}` is the id of a run.
CALLS: dict[str, str] = {
    "train": "tiny.yaml --outputs outputs",
    "evaluate": "{run} --outputs outputs",
    "explain": "{run} --outputs outputs -n 4",
    "report": "{run} --outputs outputs",
    "compare": "outputs",
    "adopt": "mine answers.csv --outputs outputs --fresh",
    "check-table": "table.txt",
    "validate": "tiny.yaml",
    "schema": "",
    "doctor": "--seconds 0 --outputs outputs",
    "sweep": "suite.yaml --dry-run --outputs outputs",
    "sync": "--outputs outputs",
    "data prepare": "drawn --root new --force",
    "data stats": "tiny.yaml",
    "data audit": "tiny.yaml --quarantine q.csv --groups g.csv",
    "data show": "tiny.yaml --output sheet.png -n 4",
    "models": "",
    "models show": "tiny.yaml",
    "cache stats": "",
    "cache clear": "images",
}


def all_commands() -> set[str]:
    """The names of all commands that there are."""
    return set(_leaves(typer.main.get_command(app)))


def _leaves(command: Any, name: str = "") -> Iterator[str]:
    """The names of all commands below a group: `data stats`."""
    for child, sub in getattr(command, "commands", {}).items():
        yield from _leaves(sub, f"{name} {child}".strip())
    if not getattr(command, "commands", {}):
        yield name


def write_inputs(folder: Path, experiment: Mapping[str, Any]) -> None:
    """Write what the commands of `CALLS` read, but a run and the faces."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False))
    (folder / "suite.yaml").write_text("description: one\nruns: [tiny.yaml]\n")
    (folder / "table.txt").write_text(
        "precision recall f1-score support\n\nangry 0.50 0.50 0.50 2\nhappy 0.75 0.75 0.75 4\n\n"
        "accuracy 0.67 6\nmacro avg 0.62 0.62 0.62 6\nweighted avg 0.67 0.67 0.67 6\n"
    )
    rows = [f"f{i}.png,{'happy' if i % 2 else 'sad'},0.{i + 1},0.{9 - i}" for i in range(8)]
    (folder / "answers.csv").write_text("sample_id,label,p_happy,p_sad\n" + "\n".join(rows) + "\n")
