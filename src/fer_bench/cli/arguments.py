"""Arguments: several at a time, and options that users know from other programs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fer_bench.errors import ConfigError, FerError, WorkerLost

Item = TypeVar("Item")
Made = TypeVar("Made")

# Options of other programs that are no key of an experiment, and what to use instead.
_INSTEAD = {
    **dict.fromkeys(
        ("resume", "continue", "restart"),
        "`fer train` resumes an interrupted run by itself; --fresh starts over",
    ),
    **dict.fromkeys(
        ("gpu", "gpus", "cuda", "cpu"), "use --device cpu, --device gpu or --device gpu:0"
    ),
    **dict.fromkeys(("output", "output_dir", "out", "save_dir", "logdir"), "use --outputs FOLDER"),
    **dict.fromkeys(("num_workers", "jobs"), "use --threads N"),
    **dict.fromkeys(("config", "cfg"), "give the file without an option: fer train CONFIG"),
}


def try_each(
    items: Iterable[Item], do: Callable[[Item], Made]
) -> tuple[list[Made], list[FerError]]:
    """Apply `do` to each item, and collect the errors of those that fail.

    Raises: WorkerLost, after which nothing can continue.
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
    """Raises: FerError with all `errors`, if there are any."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise FerError("\n".join(map(str, errors)))


def check_png(option: str, path: Path | None) -> None:
    """Check the name of a figure to write. Raises: ConfigError for another suffix than `.png`."""
    if path and path.suffix.lower() != ".png":
        suffix = f"the suffix {path.suffix}" if path.suffix else "no suffix"
        raise ConfigError(
            f"{option} {path}: a PNG file is written, the name has {suffix}.\n"
            f"Give for example {path.with_suffix('.png') if path.name else 'figure.png'}."
        )


# Options that do not exist -----------------------------------------------------------------------


def explain_option(option: str, arguments: Sequence[str]) -> str | None:
    """What to type instead of an option that does not exist; None if that is unknown.

    Args:
        option: for example `--epochs`.
        arguments: everything that was typed after the command.
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
    """The experiment file among the arguments, if it can be read."""
    from fer_bench.config.yaml_files import read_yaml

    for argument in arguments:
        if argument.endswith((".yaml", ".yml")):
            try:
                return read_yaml(Path(argument), "an experiment")
            except ConfigError:
                return {}
    return {}


def _settings(key: str, value: str, document: Mapping[str, Any]) -> list[str]:
    """The options that set a key: one per stage if it is a key of a stage."""
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
    """The value of a key in the file, in parentheses."""
    for part in key.split("."):
        document = document.get(part) if isinstance(document, dict) else None
    if document is None:
        return f"  ({before.rstrip(', ')})" if before else ""
    return f"  ({before}now {document})"
