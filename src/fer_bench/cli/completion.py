"""What the Tab key completes: run ids, configurations, splits and the keys of `--set`."""

from collections.abc import Iterator
from pathlib import Path

import typer

from fer_bench.labels import SPLITS


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """The ids of runs in the folder of the runs, and `latest`."""
    outputs = Path(ctx.params.get("outputs") or "outputs")
    ids = sorted(path.parent.name for path in outputs.glob("*/run.json"))
    return [name for name in (*ids, "latest") if name.startswith(incomplete)]


def configs(ctx: typer.Context, incomplete: str) -> list[str]:
    """YAML files and folders that begin as typed, and the ids of runs."""
    return [*sorted(_files(incomplete)), *runs(ctx, incomplete)]


def _files(incomplete: str) -> Iterator[str]:
    typed = Path(incomplete)
    folder = typed if incomplete.endswith("/") else typed.parent
    beginning = "" if incomplete.endswith("/") else typed.name
    for path in folder.glob(f"{beginning}*"):
        if path.is_dir() and not path.name.startswith("."):
            yield f"{path}/"
        elif path.suffix in (".yaml", ".yml"):
            yield str(path)


def keys(incomplete: str) -> list[str]:
    """The keys of an experiment, each with the `=` of its value."""
    from fer_bench.config.experiment import Experiment
    from fer_bench.config.habits import keys_of

    return [f"{key}=" for key in keys_of(Experiment) if key.startswith(incomplete)]


def splits(incomplete: str) -> list[str]:
    """The names of the splits."""
    return [name for name in SPLITS if name.startswith(incomplete)]
