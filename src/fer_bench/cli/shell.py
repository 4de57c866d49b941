"""How a command ends: the only place where an expected error becomes a message and an exit code.

Results go to standard output, progress and messages to standard error. Exit codes: 0 done, 2 an
error that the user can fix, 1 a bug (with its traceback), 130 stopped by the user, state saved.
"""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from fer_bench.cli.arguments import explain_option
from fer_bench.cli.console import STANDARD_OUTPUT, discard_output, messages, prepare_streams
from fer_bench.config.paths import expanded
from fer_bench.device.workers import Workers
from fer_bench.errors import ConfigError, FerError, Interrupted, WorkerLost
from fer_bench.spelling import visible
from fer_bench.timing import forget_times, times
from fer_bench.user_folders import has_temporary_folder

if TYPE_CHECKING:
    from fer_bench.device.kernels import Kernels

# The base class of the errors that Typer raises for arguments; it is not exported by name.
UsageError: Any = typer.BadParameter.__bases__[0]

# Errors of the file system that concern a path of the user, or the disk.
NOT_OUR_FAULT = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO),
    *(errno.EEXIST, errno.EISDIR, errno.ENOTDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP),
}
# Of a path in a message.
_LONGEST = 300
WRITE_ADVICE = "Give another path, or check its permissions and the free space on that disk."
NO_TEMPORARY_FOLDER = (
    "there is no folder for temporary files that can be written.\nName one in TMPDIR."
)
RESULTS_ADVICE = "The results could not be printed. Send them elsewhere; what is saved stays."


def _verbose(value: bool) -> None:
    if value:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
        logging.getLogger("fer_bench").setLevel(logging.DEBUG)


def _quiet(value: bool) -> None:
    messages.quiet = messages.quiet or value


def _loudness(
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            callback=_verbose,
            expose_value=False,
            help="Also show the messages of TensorFlow, and where the time went.",
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            callback=_quiet,
            expose_value=False,
            help="Show only results and errors.",
        ),
    ] = False,
) -> None:
    """The options that every command has."""


def _shared_options() -> list[Any]:
    alone = typer.Typer(add_completion=False)
    alone.command()(_loudness)
    return typer.main.get_command(alone).params


class Command(TyperCommand):
    """A command that expands `~` in paths, and suggests options for names that others use."""

    def __init__(self, *args: Any, params: list[Any] | None = None, **settings: Any) -> None:
        super().__init__(*args, params=[*(params or []), *_shared_options()], **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments. Raises: ConfigError for an option that should be a key."""
        typed = list(args)
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            takes_keys = any(parameter.name == "overrides" for parameter in self.params)
            if type(error).__name__ == "NoSuchOption" and takes_keys:
                advice = explain_option(error.option_name, typed)
                if advice:
                    raise ConfigError(advice) from error
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises: ConfigError for a path with a variable that is not set."""
        ctx.params = {name: _with_paths(name, value) for name, value in ctx.params.items()}
        forget_times()
        try:
            return super().invoke(ctx)
        finally:
            if logging.getLogger("fer_bench").isEnabledFor(logging.DEBUG):
                _report_times()


def _report_times() -> None:
    """Where the time of a command with `-v` went, as far as it is measured."""
    spent = times()
    for part, seconds in spent.items():
        notify(f"{seconds:8.1f} s  {part}")
    if spent:
        notify(f"{sum(spent.values()):8.1f} s  in all of these")


def _with_paths(name: str, value: Any) -> Any:
    """A parameter, with `~` and variables replaced if it is a path or a list of paths."""
    if isinstance(value, list | tuple):
        return type(value)(_with_paths(name, one) for one in value)
    if not isinstance(value, Path):
        return value
    try:
        return expanded(value)
    except ValueError as error:
        raise ConfigError(f"{_shown(value)}: {error}.") from error


class Typer(typer.Typer):
    """An application whose commands are all of the class `Command`."""

    def command(self, *args: Any, **settings: Any) -> Any:
        """Register a function as a command."""
        return super().command(*args, **{"cls": Command, **settings})


class Commands(TyperGroup):
    """A group of commands that ends expected errors with a message and their exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the arguments and run the command, on streams that take every character."""
        prepare_streams()
        messages.quiet = False
        return super().main(*args, **kwargs)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; `fer help train` is `fer train --help`."""
        if args and args[0] == "help" and "help" not in self.commands:
            args = [*args[1:], "--help"]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises: typer.Exit for an expected error; a bug is not caught."""
        try:
            return super().invoke(ctx)
        except WorkerLost as lost:
            _report_end("stopped", str(lost), "red")
            os._exit(2)  # TensorFlow would wait minutes for the lost worker before it exits
        except FerError as error:
            _report_end("error", str(error), "red")
            raise typer.Exit(2) from error
        except OSError as error:
            message = _explained(error)
            if not message:
                raise
            discard_output()
            _report_end("error", message, "red")
            raise typer.Exit(2) from error
        except (Interrupted, KeyboardInterrupt) as stop:
            _report_end("stopped", str(stop) or "by the user", "yellow")
            raise typer.Exit(130) from stop


def _explained(error: OSError) -> str:
    """A message for an error that the user can mend; empty for any other."""
    if error.errno in NOT_OUR_FAULT:
        advice = RESULTS_ADVICE if error.filename == STANDARD_OUTPUT else WRITE_ADVICE
        # Where a file takes the place of another, the second name is that of the user.
        path = error.filename2 or error.filename
        return f"{_shown(path)}: {error.strerror}.\n{advice}"
    return "" if has_temporary_folder() else NO_TEMPORARY_FOLDER


def _shown(path: Any) -> str:
    """The path of an error, shortened in the middle if it fills a screen."""
    text = str(path or "disk")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"


def mention(kind: str, path: Path) -> None:
    """One line on standard error about a file, never wrapped."""
    notify(f"{kind}: {path}")


def notify(text: str) -> None:
    """Print a message on standard error as it is, without markup and never wrapped."""
    messages.print(visible(text), soft_wrap=True, highlight=False, markup=False)


def _report_end(kind: str, text: str, colour: str) -> None:
    messages.quiet = False
    try:
        messages.print(f"[bold {colour}]{kind}:[/]", end=" ")
        notify(text)
    except OSError:  # nobody can read it; the exit code still tells
        discard_output()


def open_device(
    name: str,
    threads: int | None = None,
    workers: Workers | None = None,
    begun_with: "Kernels | None" = None,
) -> Any:
    """Choose a device; see `fer_bench.api.devices`."""
    if workers:
        where = workers.addresses[workers.index]
        notify(f"worker {workers.index} of {len(workers)} at {where}: waiting for the others")
    from fer_bench.api import devices

    return devices.open_device(name, threads, workers, begun_with=begun_with, message=notify)


@contextlib.contextmanager
def open_display() -> Iterator[Any]:
    """A display of progress on standard error, closed at the end."""
    from fer_bench.report.terminal import progress

    display = progress.open_display(messages)
    try:
        yield display
    finally:
        display.close()
