"""Named plug-ins: the modules of a package, what other distributions offer, and a user's own."""

import importlib
import logging
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from fer_bench.errors import ConfigError
from fer_bench.spelling import did_you_mean, known_as, slug

T = TypeVar("T")

_logger = logging.getLogger(__name__)


class Registry(Generic[T]):
    """Maps names to plug-ins, which are found at the first look-up.

    Plug-ins come from three places: every module of `package` (no list needs to be edited), the
    entry points that installed distributions declare in `group`, and `add`. A plug-in of another
    distribution that cannot be used costs one warning and nothing else.

    Args:
        kind: what an entry is called in messages.
        package: the package whose modules register the built-in entries with `register`.
        group: the group of entry points; None where other distributions have no say.
        entry: `module:class` of which every entry from elsewhere must be an instance.
    """

    def __init__(
        self, kind: str, package: str, group: str | None = None, entry: str = "builtins:object"
    ) -> None:
        self.kind = kind
        self._package = package
        self._group = group
        self._entry = entry
        self._entries: dict[str, T] = {}
        self._added: set[str] = set()
        self._discovered = False

    def register(self, name: str, entry: T) -> T:
        """Add the built-in `entry` under `name`. Raises: ValueError when the name is taken."""
        if name in self._entries:
            raise ValueError(f"{self.kind} '{name}' is registered twice")
        self._entries[name] = entry
        return entry

    def add(self, name: str, entry: T) -> None:
        """Add a user's own entry. It replaces an earlier one of that name that was added too.

        Raises:
            ConfigError: the name is taken or malformed, or `entry` is not of the right class.
        """
        self._discover()
        self._check(name, entry)
        self._entries[name] = entry
        self._added.add(name)

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
        for point in entry_points(group=self._group) if self._group else ():
            self._load(point)

    def _load(self, point: EntryPoint) -> None:
        """Add the entry of another distribution, or warn that it cannot be used."""
        try:
            entry = point.load()
            self._check(point.name, entry)
        except Exception as error:  # noqa: BLE001 - code of others, whatever it raises
            where = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            reason = str(error) if isinstance(error, ConfigError) else repr(error)
            _logger.warning(
                "the %s plug-in '%s' of %s is not used: %s", self.kind, point.name, where, reason
            )
            return
        self._entries[point.name] = entry

    def _check(self, name: str, entry: object) -> None:
        """Raises: ConfigError unless `entry` may be registered under `name`."""
        if slug(name) != name:
            raise ConfigError(
                f"{self.kind} {name!r}: a name consists of lower-case letters, digits and . _ -\n"
                f"Call it '{slug(name)}'."
            )
        taken = known_as(name, self._entries)
        if taken in self._entries and not (taken == name and name in self._added):
            raise ConfigError(
                f"{self.kind} '{name}': there is a {self.kind} called '{taken}' already.\n"
                "Choose another name."
            )
        expected = pkgutil.resolve_name(self._entry)
        if not isinstance(entry, expected):
            raise ConfigError(
                f"{self.kind} '{name}': expected a {expected.__name__}, "
                f"found {type(entry).__name__}."
            )


# Both registries are defined here, below the configuration, so that a configuration can check a
# name against them without depending on any plug-in.
DATASETS: Registry[Any] = Registry(
    "dataset", "fer_bench.data.datasets", "fer_bench.datasets", "fer_bench.data.spec:DatasetSpec"
)
BACKBONES: Registry[Any] = Registry(
    "backbone",
    "fer_bench.models.backbones",
    "fer_bench.backbones",
    "fer_bench.models.backbone_spec:BackboneSpec",
)
