"""The commands.

TensorFlow is imported inside the commands that compute: `fer --help` must stay instant.
"""

import logging
import os
from collections.abc import Callable
from typing import Annotated

import typer

from fer_bench.cli import (
    adopt,
    cache,
    check_table,
    compare,
    data,
    doctor,
    evaluate,
    explain,
    models,
    report,
    sweep,
    sync,
    train,
    validate,
)
from fer_bench.cli.console import say
from fer_bench.cli.shell import Commands, Typer, notify


class _Notices(logging.Handler):
    """Prints what is logged like every other message."""

    def emit(self, record: logging.LogRecord) -> None:
        notify(self.format(record))


app = Typer(
    name="fer",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train, evaluate and compare facial-expression models, with numbers that can be trusted.",
)
commands: tuple[Callable[..., None], ...] = (
    *(train.train, evaluate.evaluate, explain.explain, report.report, compare.compare),
    *(adopt.adopt, check_table.check_table, validate.validate, validate.schema, doctor.doctor),
    *(sweep.sweep, sync.sync),
)
for command in commands:
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(cache.app, name="cache")


@app.callback(invoke_without_command=True)
def _start(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    # TensorFlow's C++ side reports its build options at import; only errors concern a user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_Notices()])
    logging.getLogger("fer_bench").setLevel(logging.INFO)
    if version:
        from fer_bench import __version__

        say(f"fer-bench {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the `fer` command."""
    app()
