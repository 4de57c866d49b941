import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fer_bench.errors import ConfigError
from fer_bench.registry import Registry, did_you_mean


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
    assert str(error.value) == "unknown fruit 'aple'; known: apple, pear. Did you mean 'apple'?"


def test_a_name_is_registered_once(registry: Registry[Any]) -> None:
    registry.register("plum", 1)
    with pytest.raises(ValueError, match="fruit 'plum' is registered twice"):
        registry.register("plum", 2)


def test_register_returns_the_entry(registry: Registry[Any]) -> None:
    entry = object()
    assert registry.register("plum", entry) is entry


def test_no_hint_for_a_name_like_no_other() -> None:
    assert did_you_mean("xyz", ["vgg16", "resnet50"]) == ""
    assert did_you_mean("vgg", ["vgg16", "resnet50"]) == "Did you mean 'vgg16'?"
