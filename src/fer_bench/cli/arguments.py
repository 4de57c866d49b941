"""What was typed: files and runs as arguments, and options that people know from elsewhere."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fer_bench.config.yaml_files import read_yaml, what_folder_holds
from fer_bench.errors import ConfigError, FerError, RunError, WorkerLost
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.names import named_run, run_at

Item = TypeVar("Item")
Made = TypeVar("Made")

# What is no key of an experiment, and what there is instead.
_INSTEAD = {
    **dict.fromkeys(
        ("resume", "continue", "restart"),
        "`fer train` goes on by itself where the run was interrupted; --fresh begins anew",
    ),
    **dict.fromkeys(
        ("gpu", "gpus", "cuda", "cpu"), "use --device cpu, --device gpu or --device gpu:0"
    ),
    **dict.fromkeys(("output", "output_dir", "out", "save_dir", "logdir"), "use --outputs FOLDER"),
    **dict.fromkeys(("num_workers", "jobs"), "use --threads N"),
    **dict.fromkeys(("config", "cfg"), "give the file without an option: fer train CONFIG"),
}


def experiment_file(typed: Path, outputs: Path) -> Path:
    """The experiment file that is meant: a file, or that of a run, by any name of the run.

    Raises:
        ConfigError: it is an override, a folder without a run, or nothing; says what there is.
        RunError: the run was adopted, or the beginning of a name fits several.
    """
    run = experiment_run(typed, outputs)
    if run is None:
        return typed
    if run.is_adopted():
        raise RunError(
            f"{typed}: its predictions come from elsewhere, and it has no experiment.\n"
            "Give the YAML file of an experiment."
        )
    return run.config


def experiment_run(typed: Path, outputs: Path) -> RunDirectory | None:
    """The run that stands for an experiment; None where `typed` is a file of its own.

    Raises: ConfigError, RunError.
    """
    if typed.is_file() and typed.suffix in (".yaml", ".yml") and typed.name != "config.yaml":
        return None
    if run := run_at(typed):
        return run
    if typed.is_dir():
        raise ConfigError(f"{what_folder_holds(typed)}\nGive one of its files, or a run.")
    if typed.exists():
        return None
    if "=" in typed.name:
        raise ConfigError(f"{typed}: a key is set with an option: --set {typed}")
    try:
        return named_run(outputs, str(typed))
    except RunError as error:
        if "runs begin with" in str(error):
            raise
        return None  # the reader of the file says what lies beside it


def try_each(
    items: Iterable[Item], do: Callable[[Item], Made]
) -> tuple[list[Made], list[FerError]]:
    """Do something with each item, whatever becomes of the others.

    Raises: WorkerLost, after which nothing can go on.
    """
    made: list[Made] = []
    errors: list[FerError] = []
    for item in items:
        try:
            made.append(do(item))
        except WorkerLost:
            raise
        except FerError as error:
            errors.append(error)
    return made, errors


def raise_all(errors: Sequence[FerError]) -> None:
    """End with all errors that there were. Raises: FerError where there is one."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise FerError("\n".join(map(str, errors)))


# Options that do not exist -----------------------------------------------------------------------


def explain_option(option: str, arguments: Sequence[str]) -> str | None:
    """What to type instead of an option that no command has; None where nobody can know.

    Args:
        option: for example `--epochs`.
        arguments: all that was typed after the command.
    """
    from fer_bench.config.experiment import Experiment
    from fer_bench.config.habits import places

    name = option.strip("-").replace("-", "_").lower()
    if name in _INSTEAD:
        return f"{option}: no such option; {_INSTEAD[name]}."
    keys = places(name, Experiment)
    if not keys:
        return None
    value, document = _value(option, arguments), _document(arguments)
    lines = [line for key in keys for line in _settings(key, value, document)]
    if len(lines) == 1:
        return f"{option}: no such option. Use {lines[0]}"
    return "\n".join([f"{option}: no such option. Use one of", *(f"  {line}" for line in lines)])


def _value(option: str, arguments: Sequence[str]) -> str:
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == option and equals:
            return value
        if name == option and place + 1 < len(arguments):
            following = arguments[place + 1]
            return "VALUE" if following.startswith("--") else following
    return "VALUE"


def _document(arguments: Sequence[str]) -> Mapping[str, Any]:
    """The experiment that was typed beside the option, as far as it can be read."""
    for argument in arguments:
        if argument.endswith((".yaml", ".yml")):
            try:
                return read_yaml(Path(argument), "an experiment")
            except ConfigError:
                return {}
    return {}


def _settings(key: str, value: str, document: Mapping[str, Any]) -> list[str]:
    """The option that sets a key, for each of the stages where it is one of theirs."""
    stages = document.get("stages")
    if not key.startswith("stages.0.") or not isinstance(stages, list):
        return [f"--set {key}={value}{_now(key, document)}"]
    rest = key.removeprefix("stages.0.")
    return [
        f"--set stages.{index}.{rest}={value}" + _now(rest, stage, f"stage {stage.get('name')}, ")
        for index, stage in enumerate(stages)
        if isinstance(stage, dict)
    ]


def _now(key: str, document: Any, before: str = "") -> str:
    """The value that a key has in a file, for people."""
    for part in key.split("."):
        document = document.get(part) if isinstance(document, dict) else None
    if document is None:
        return f"  ({before.rstrip(', ')})" if before else ""
    return f"  ({before}now {document})"
