"""The commands. Only here does an expected error become a message and an exit code.

Results go to standard output, progress and messages to standard error. Exit codes: 0 done, 2 the
user can fix it, 1 a bug (traceback kept), 130 stopped by the user with the state saved.
TensorFlow is imported inside the commands that compute: `fer --help` must stay instant.
"""

import contextlib
import errno
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from typer.core import TyperGroup

from fer_bench import __version__
from fer_bench.errors import ConfigError, FerError, Interrupted

messages = Console(stderr=True)

# What a file system says about a path that the user gave, or about itself.
NOT_OUR_FAULT = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOSPC, errno.EDQUOT),
    *(errno.EEXIST, errno.EISDIR, errno.ENOTDIR),
}
WRITE_ADVICE = "Give another path, or see to its rights and its free space."


class Commands(TyperGroup):
    """A group of commands that ends expected errors with a message and their exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises: typer.Exit for what is expected; a bug passes through."""
        try:
            return super().invoke(ctx)
        except FerError as error:
            _say("error", str(error), "red")
            raise typer.Exit(2) from error
        except OSError as error:
            if error.errno not in NOT_OUR_FAULT:
                raise
            _say("error", f"{error.filename or 'disk'}: {error.strerror}.\n{WRITE_ADVICE}", "red")
            raise typer.Exit(2) from error
        except (Interrupted, KeyboardInterrupt) as stop:
            _say("stopped", str(stop) or "by the user", "yellow")
            raise typer.Exit(130) from stop


def _mention(kind: str, path: Path) -> None:
    messages.print(f"{kind}: {path}", soft_wrap=True, highlight=False, markup=False)


def _say(kind: str, text: str, colour: str) -> None:
    messages.print(f"[bold {colour}]{kind}:[/]", end=" ")
    messages.print(text, soft_wrap=True, highlight=False, markup=False)


app = typer.Typer(
    name="fer",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, evaluate and compare facial-expression models, with numbers that can be trusted.",
)
data = typer.Typer(cls=Commands, no_args_is_help=True, help="Prepare datasets.")
app.add_typer(data, name="data")

ConfigFile = Annotated[Path, typer.Argument(help="YAML file of the experiment.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. training.batch_size=16."),
]
Outputs = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, gpu or gpu:<index>.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


@app.callback(invoke_without_command=True)
def _start(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    # TensorFlow's C++ side reports its build options at import; only errors concern a user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    handler = RichHandler(console=messages, show_time=False, show_path=False, show_level=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("fer_bench").setLevel(logging.INFO)
    if version:
        typer.echo(f"fer-bench {__version__}")
        raise typer.Exit


def _open_device(name: str) -> Any:
    """Import TensorFlow, without what it prints at import, and choose a device."""
    from fer_bench.display import native_messages_hidden

    with native_messages_hidden():
        from fer_bench.device import open_device

        return open_device(name)


@contextlib.contextmanager
def _open_display() -> Iterator[Any]:
    from fer_bench.display import open_display

    display = open_display(messages)
    try:
        yield display
    finally:
        display.close()


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    outputs: Outputs = Path("outputs"),
    device: DeviceName = "auto",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away what this run has reached.")
    ] = False,
) -> None:
    """Train an experiment, or go on where it was interrupted. Prints the run id."""
    from fer_bench.config import load_experiment

    experiment = load_experiment(config, overrides or [])
    chosen = _open_device(device)

    from fer_bench.train import train as train_run

    with _open_display() as display:
        run = train_run(experiment, outputs, chosen, display, fresh=fresh)
    typer.echo(run.run_id)


@app.command()
def evaluate(
    run_id: Annotated[str, typer.Argument(help="The run, as `fer train` printed it.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    outputs: Outputs = Path("outputs"),
    device: DeviceName = "auto",
    as_json: Json = False,
) -> None:
    """Predict a split with a trained model; save predictions, metrics, figures and a page."""
    from fer_bench.manifest import SPLITS
    from fer_bench.rundir import find_run

    run = find_run(outputs, run_id)
    if split not in SPLITS:
        raise ConfigError(f"--split {split}: expected {', '.join(SPLITS)}.")
    chosen = _open_device(device)

    from fer_bench.evaluate import evaluate as evaluate_run
    from fer_bench.report.page import write_run_report
    from fer_bench.report.tables import metrics_tables

    with _open_display() as display:
        metrics = evaluate_run(run, split, chosen, display)
    page = write_run_report(run)
    if as_json:
        typer.echo(json.dumps(metrics, indent=2))
        return
    Console().print(metrics_tables(metrics, f"{run.run_id}, {split} split"))
    _mention("page", page)


@app.command()
def compare(
    outputs: Annotated[Path, typer.Argument(help="Folder that holds the runs.")] = Path("outputs"),
    split: Annotated[str, typer.Option(help="Split whose metrics are compared.")] = "test",
    as_json: Json = False,
    csv: Annotated[Path | None, typer.Option(help="Write one row a run to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained page.")] = None,
) -> None:
    """Put runs side by side: intervals, paired tests, and which rows are comparable."""
    from fer_bench.compare import collect
    from fer_bench.rundir import write_atomically

    comparison = collect(outputs, split)
    if csv:
        write_atomically(csv, comparison.to_frame().to_csv(index=False))
    if html:
        from fer_bench.report.page import write_comparison

        write_comparison(comparison, html)
    if as_json:
        typer.echo(json.dumps(comparison.to_json(), indent=2))
        return
    from fer_bench.report.tables import comparison_tables

    console = Console()
    console.print(comparison_tables(comparison, console.width))
    for path in filter(None, (csv, html)):
        _mention("written", path)


@app.command()
def validate(
    configs: Annotated[list[Path], typer.Argument(help="YAML files of experiments.")],
    overrides: Overrides = None,
) -> None:
    """Check experiment files without data, and print the stages they stand for."""
    from fer_bench.config import load_experiment
    from fer_bench.report.plan import plan_table

    failed = []
    for path in configs:
        try:
            experiment = load_experiment(path, overrides or [])
        except ConfigError as error:
            failed.append(str(error))
        else:
            Console().print(plan_table(experiment))
    if failed:
        raise ConfigError("\n".join(failed))


@app.command()
def schema() -> None:
    """Print the JSON Schema of an experiment file, for editors."""
    from fer_bench.config import Experiment

    typer.echo(json.dumps(Experiment.model_json_schema(), indent=2))


@data.command()
def prepare(
    name: Annotated[str, typer.Argument(help="Registered name of the dataset.")],
    archive: Annotated[Path | None, typer.Argument(help="The archive as downloaded.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder to make; default data/<name>.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing folder.")] = False,
) -> None:
    """Make a dataset's folder from the archive as it was downloaded."""
    from fer_bench.datasets import DatasetSpec
    from fer_bench.registry import DATASETS

    spec: DatasetSpec = DATASETS[name]
    root = root or Path("data") / name
    if spec.prepare is None:
        raise ConfigError(f"dataset '{name}' needs no preparation; unpack it into {root}.")
    spec.prepare(root, archive, force)
    manifest = spec.read(root)
    sizes = ", ".join(f"{count:,} {split}" for split, count in manifest.split_sizes().items())
    typer.echo(f"{root}: {manifest.release}, {sizes} images in {len(manifest.classes)} classes")


def main() -> None:
    """Run the `fer` command."""
    app()
