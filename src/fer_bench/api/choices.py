"""Values that are one of a few."""

from collections.abc import Sequence

from fer_bench.errors import ConfigError
from fer_bench.spelling import did_you_mean


def one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Check that `value`, given for `name`, is one of `known`. Raises: ConfigError naming them."""
    if value not in known:
        hint = did_you_mean(value, known)
        raise ConfigError(f"{name} {value}: expected {', '.join(known)}. {hint}".rstrip())
