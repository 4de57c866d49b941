import pkgutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from messages import says

from fer_bench.errors import ConfigError
from fer_bench.registry import BACKBONES, DATASETS, Registry


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[Any]]:
    """A registry over a package with two plug-in files, `first.py` and `second.py`."""
    package = tmp_path / "plugins_of_test"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from fer_bench.registry import Registry\nFRUIT = Registry('fruit', 'plugins_of_test')\n"
    )
    for module, name in (("first", "pear"), ("second", "apple")):
        (package / f"{module}.py").write_text(
            f"from plugins_of_test import FRUIT\nFRUIT.register('{name}', '{module}')\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    import plugins_of_test  # type: ignore[import-not-found]

    yield plugins_of_test.FRUIT
    for module in [name for name in sys.modules if name.startswith("plugins_of_test")]:
        del sys.modules[module]


def test_plugins_are_found_by_being_there(registry: Registry[Any]) -> None:
    assert registry.names() == ["apple", "pear"]
    assert registry["pear"] == "first"


def test_nothing_is_imported_before_the_first_look_up(registry: Registry[Any]) -> None:
    assert "plugins_of_test.first" not in sys.modules
    registry.names()
    assert "plugins_of_test.first" in sys.modules


def test_an_unknown_name_is_explained(registry: Registry[Any]) -> None:
    with pytest.raises(ConfigError) as error:
        registry["aple"]
    says(error.value, "fruit 'aple'", "apple, pear", "Did you mean 'apple'?")


def test_a_name_is_registered_once(registry: Registry[Any]) -> None:
    registry.register("plum", 1)
    with pytest.raises(ValueError, match="fruit 'plum' is registered twice"):
        registry.register("plum", 2)


def test_register_returns_the_entry(registry: Registry[Any]) -> None:
    entry = object()
    assert registry.register("plum", entry) is entry


# Plug-ins of other distributions ---------------------------------------------------------------


@pytest.fixture
def distribution(registry: Registry[Any], tmp_path: Path) -> Callable[..., Registry[Any]]:
    """Install a distribution with entry points; the registry that has not looked for any yet."""

    def install(points: str, source: str = "") -> Registry[Any]:
        (tmp_path / "others_plugin.py").write_text(f"PLUM, NUMBER = 'plum', 7\n{source}")
        folder = tmp_path / "others_plugin-1.2.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: others-plugin\nVersion: 1.2")
        (folder / "entry_points.txt").write_text(f"[test.fruit]\n{points}\n")
        return Registry("fruit", "plugins_of_test", "test.fruit", "builtins:str")

    return install


def test_entry_points_of_other_distributions_are_found(
    distribution: Callable[..., Registry[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fruit = distribution("plum = others_plugin:PLUM")
    assert fruit.names() == ["plum"]
    assert fruit["plum"] == "plum"
    sys.modules.pop("others_plugin")


@pytest.mark.parametrize(
    ("points", "source", "parts"),
    [
        ("plum = others_plugin:PLUM", "raise RuntimeError('no licence')", ["no licence"]),
        ("plum = others_plugin:NUMBER", "", ["str", "int"]),
        ("plum = others_plugin:PEACH", "", ["PEACH"]),
        ("plum = nowhere_to_be_found", "", ["nowhere_to_be_found"]),
        ("Plum Tree = others_plugin:PLUM", "", ["Plum Tree", "plum-tree"]),
    ],
    ids=["raises", "another class", "no such object", "no such module", "malformed name"],
)
def test_a_broken_plugin_is_one_warning_that_names_its_distribution(
    distribution: Callable[..., Registry[Any]],
    caplog: pytest.LogCaptureFixture,
    points: str,
    source: str,
    parts: list[str],
) -> None:
    fruit = distribution(points, source)
    assert fruit.names() == []
    assert fruit.names() == []
    (record,) = caplog.records
    says(record.getMessage(), "fruit", points.partition(" =")[0], "others-plugin 1.2", *parts)
    sys.modules.pop("others_plugin", None)


def test_a_plugin_cannot_take_a_name_that_is_taken(
    distribution: Callable[..., Registry[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    fruit = distribution("pl-um = others_plugin:PLUM")
    fruit.register("plum", "ours")
    assert fruit.names() == ["plum"]
    says(caplog.records[0].getMessage(), "'pl-um'", "'plum'", "others-plugin")
    sys.modules.pop("others_plugin")


# Entries that a program adds -------------------------------------------------------------------


def test_an_added_entry_can_be_replaced(registry: Registry[Any]) -> None:
    """A cell of a notebook is run again."""
    registry.add("plum", 1)
    registry.add("plum", 2)
    assert registry["plum"] == 2


@pytest.mark.parametrize("name", ["pear", "p-ear"])
def test_a_built_in_name_is_refused(registry: Registry[Any], name: str) -> None:
    with pytest.raises(ConfigError) as error:
        registry.add(name, 1)
    says(error.value, "fruit", f"'{name}'", "'pear'")
    assert registry["pear"] == "first"


@pytest.mark.parametrize("name", ["", "My Plum", "a/b"])
def test_a_malformed_name_is_refused(registry: Registry[Any], name: str) -> None:
    with pytest.raises(ConfigError) as error:
        registry.add(name, 1)
    says(error.value, "fruit", repr(name))


def test_built_in_entries_are_of_the_expected_class() -> None:
    for registry in (DATASETS, BACKBONES):
        expected = pkgutil.resolve_name(registry._entry)
        assert all(isinstance(registry[name], expected) for name in registry.names())
