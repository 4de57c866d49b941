"""Named plug-ins: one file each, found by being in their package's folder."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from fer_bench.errors import ConfigError
from fer_bench.spelling import known_as

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The hint `Did you mean 'x'?` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean '{close[0]}'?" if close else ""


class Registry(Generic[T]):
    """Maps a name to the object that a plug-in registered under it.

    The modules of `package` are imported at the first look-up, so that defining a registry costs
    nothing and a new plug-in needs no list to be edited.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}
        self._discovered = False

    def register(self, name: str, entry: T) -> T:
        """Add `entry` under `name`. Raises: ValueError when the name is taken."""
        if name in self._entries:
            raise ValueError(f"{self.kind} '{name}' is registered twice")
        self._entries[name] = entry
        return entry

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._discover()
        return sorted(self._entries)

    def known_as(self, typed: str) -> str:
        """The registered name that `typed` can only mean, else `typed` itself."""
        return known_as(typed, self.names())

    def __getitem__(self, name: str) -> T:
        """The entry called `name`. Raises: ConfigError naming the known ones."""
        self._discover()
        if name not in self._entries:
            raise ConfigError(self.explain_unknown(name))
        return self._entries[name]

    def explain_unknown(self, name: str) -> str:
        """One sentence for a name that nobody registered."""
        names = self.names()
        text = f"unknown {self.kind} '{name}'; known: {', '.join(names)}."
        return f"{text} {did_you_mean(name, names)}".strip()

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")


# The two kinds of plug-in stand here, below the configuration, so that a configuration can check
# a name against them without depending on any plug-in.
DATASETS: Registry[Any] = Registry("dataset", "fer_bench.data.datasets")
BACKBONES: Registry[Any] = Registry("backbone", "fer_bench.models.backbones")
