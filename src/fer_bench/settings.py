"""The global settings of Keras and matplotlib, which fer-bench decides for itself.

People have a `~/.keras/keras.json` and notebooks set `MPLBACKEND`; neither may change a result or
end a command. Importing `fer_bench` comes before everything else on every path (commands, scripts,
workers, tests), so the settings are made here, around the first import of each package. What
TensorFlow reads from its environment (threads, devices, XLA, determinism) is the user's.
"""

import contextlib
import importlib
import importlib.abc
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from fer_bench.errors import DeviceError

# What Keras has by itself, but for the backend, which other installations may choose.
KERAS: Mapping[str, Any] = {
    "backend": "tensorflow",
    "image_data_format": "channels_last",
    "floatx": "float32",
    "epsilon": 1e-7,
}
_overridden: list[str] = []


def overridden() -> list[str]:
    """A sentence for every setting of the user that would have changed something; each once."""
    told = list(_overridden)
    _overridden.clear()
    return told


class _SettledImport(importlib.abc.MetaPathFinder):
    """Imports a package among our settings, whoever imports it."""

    def __init__(self, around: Mapping[str, Callable[[], AbstractContextManager[None]]]) -> None:
        self._around = around
        self._looking: set[str] = set()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - part of the interface
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """How to import one of the packages; None for every other module."""
        if fullname not in self._around or fullname in self._looking:
            return None
        self._looking.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking.discard(fullname)
        if spec is not None and spec.loader is not None:
            _wrap(spec.loader, self._around[fullname])
        return spec


def _wrap(loader: Any, around: Callable[[], AbstractContextManager[None]]) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        with around():
            execute(module)

    loader.exec_module = exec_module


@contextlib.contextmanager
def _keras() -> Iterator[None]:
    """Keras without the file and the variables of the user; only its folder of weights stays."""
    said = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("KERAS_")}
    home = said.get("KERAS_HOME") or _default_home()
    _overridden.extend(_told(said, Path(home).expanduser() / "keras.json"))
    # Below it is no file to be read and none can be written.
    os.environ["KERAS_HOME"] = os.devnull
    os.environ["KERAS_BACKEND"] = KERAS["backend"]
    try:
        yield
    finally:
        del os.environ["KERAS_HOME"]
        if "KERAS_HOME" in said:
            os.environ["KERAS_HOME"] = said["KERAS_HOME"]
    config: Any = importlib.import_module("keras.src.backend.config")
    config._KERAS_DIR = home  # where `get_file` looks for weights; nothing else tells


def _default_home() -> str:
    """Where Keras looks without `KERAS_HOME`."""
    user = Path("~").expanduser()
    return str((user if os.access(user, os.W_OK) else Path("/tmp")) / ".keras")


def _told(variables: Mapping[str, str], file: Path) -> Iterator[str]:
    """A sentence for each setting that is not ours."""
    backend = variables.get("KERAS_BACKEND")
    if backend and backend != KERAS["backend"]:
        yield f"KERAS_BACKEND={backend} is not used: fer-bench computes with {KERAS['backend']}"
    for name, ours in KERAS.items():
        found = _written(file).get(name, ours)
        if found != ours and not (name == "backend" and backend):
            yield f"{file}: {name} {found} is not used: fer-bench computes with {ours}"


def _written(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


@contextlib.contextmanager
def _matplotlib() -> Iterator[None]:
    """Matplotlib as it is by itself: figures are files, and look alike everywhere."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of the user's folder and file
    yield
    sys.modules["matplotlib"].rcdefaults()  # a `matplotlibrc` here, which no variable turns off


def install() -> None:
    """Settle what is imported from now on.

    In a notebook matplotlib stays the user's, who draws with it too. A second call changes nothing.
    """
    if any(isinstance(finder, _SettledImport) for finder in sys.meta_path):
        return
    around: dict[str, Callable[[], AbstractContextManager[None]]] = {"keras": _keras}
    if "ipykernel" not in sys.modules and "matplotlib" not in sys.modules:
        around["matplotlib"] = _matplotlib
        os.environ["MPLBACKEND"] = "agg"
        os.environ["MATPLOTLIBRC"] = os.devnull
    sys.meta_path.insert(0, _SettledImport(around))


def check_keras() -> None:
    """Make sure that Keras, if it is imported already, is as fer-bench needs it.

    Raises:
        DeviceError: a program imported Keras before fer_bench, with other settings.
    """
    keras = sys.modules.get("keras")
    for name, ours in KERAS.items():
        found = getattr(keras.config, name)() if keras else ours
        if found != ours:
            raise DeviceError(
                f"Keras was imported before fer_bench, with {name} {found}; fer-bench computes "
                f"with {ours}.\n"
                "Restart Python (in a notebook, its kernel) and import fer_bench before Keras."
            )
