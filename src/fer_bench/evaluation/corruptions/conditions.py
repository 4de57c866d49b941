"""Conditions: which corruptions, in which severities, a run is measured under."""

from fer_bench.evaluation.corruptions.catalogue import CORRUPTIONS, find, no_severity

# A corruption and its severity from 1 to 5; None for a corruption without severities.
Condition = tuple[str, int | None]


def column(name: str, severity: int | None) -> str:
    """The name of a condition as one word: `fog_3`, `eyes`."""
    return name if severity is None else f"{name}_{severity}"


def conditions() -> list[Condition]:
    """Every corruption in every severity, in a fixed order."""
    return [(name, severity) for name, kind in CORRUPTIONS.items() for severity in kind.severities]


def select(text: str) -> list[Condition]:
    """The conditions that `text` names, each once, in the order of `conditions`.

    Args:
        text: separated by commas, each `all`, a family or a corruption, optionally with `:` and one
            severity: `noise`, `fog:3,eyes`, `all:5`.

    Raises:
        ConfigError: a name is unknown, or does not have the severity.
    """
    chosen = {condition for part in text.split(",") for condition in _select_one(part.strip())}
    return [condition for condition in conditions() if condition in chosen]


def _select_one(part: str) -> list[Condition]:
    name, colon, severity = part.partition(":")
    names = [known for known, kind in CORRUPTIONS.items() if name in ("all", known, kind.family)]
    if not names:
        find(name)
    chosen = [condition for condition in conditions() if condition[0] in names]
    if colon:
        chosen = [condition for condition in chosen if column(*condition).endswith(f"_{severity}")]
    if not chosen:
        raise no_severity(name, severity)
    return chosen
