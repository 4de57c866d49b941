"""The global settings of Keras and matplotlib, which fer-bench makes itself.

Users have a `~/.keras/keras.json`, and notebooks set `MPLBACKEND`; neither may change a result or
break a command. `fer_bench` is imported before everything else (by commands, scripts, workers and
tests), so the settings are made here, around the first import of each package. The settings that
TensorFlow reads from its environment (threads, devices, XLA, determinism) are left to the user.
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
from fer_bench.user_folders import can_write, folder_of_our_own, home, xdg_folder

# Of the settings that a user has written.
LARGEST_BYTES = 2**20
# The defaults of Keras, and the TensorFlow backend.
KERAS: Mapping[str, Any] = {
    "backend": "tensorflow",
    "image_data_format": "channels_last",
    "floatx": "float32",
    "epsilon": 1e-7,
}
# What Keras imports, if it is there, for functions that no command calls. It takes a quarter of the
# time to import TensorFlow and Keras. A program that imports fer_bench may call those functions.
UNUSED = ("sklearn", "matplotlib")
_overridden: list[str] = []


def overridden() -> list[str]:
    """A sentence for every setting of the user that was overridden; each is returned once."""
    sentences = list(_overridden)
    _overridden.clear()
    return sentences


class _SettledImport(importlib.abc.MetaPathFinder):
    """Imports a package with our settings, whoever imports it."""

    def __init__(self, around: Mapping[str, Callable[[], AbstractContextManager[None]]]) -> None:
        self._around = around
        self._looking: set[str] = set()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - part of the interface
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """The specification of one of the packages; None for every other module."""
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
    """Keras without the user's configuration file and variables, but with their weights folder."""
    variables = {
        name: os.environ.pop(name) for name in list(os.environ) if name.startswith("KERAS_")
    }
    folder = variables.get("KERAS_HOME") or _default_home()
    file = Path(os.path.expanduser(folder)) / "keras.json"  # noqa: PTH111 - never fails
    _overridden.extend(_ignored(variables, file))
    # Keras can neither read nor write a file below it.
    os.environ["KERAS_HOME"] = os.devnull
    os.environ["KERAS_BACKEND"] = KERAS["backend"]
    try:
        with _hidden(UNUSED if "fer_bench.cli" in sys.modules else ()):
            yield
    finally:
        del os.environ["KERAS_HOME"]
        if "KERAS_HOME" in variables:
            os.environ["KERAS_HOME"] = variables["KERAS_HOME"]
    config: Any = importlib.import_module("keras.src.backend.config")
    # Where `get_file` looks for weights; there is no public way to set it.
    config._KERAS_DIR = folder


@contextlib.contextmanager
def _hidden(packages: Sequence[str]) -> Iterator[None]:
    """Nobody who looks for these packages in the block finds them, unless they are imported."""
    hidden = [name for name in packages if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # as Python's import system allows
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _default_home() -> str:
    """The folder that Keras uses without `KERAS_HOME`."""
    user = home()
    return str((user if user and os.access(user, os.W_OK) else Path("/tmp")) / ".keras")


def _ignored(variables: Mapping[str, str], file: Path) -> Iterator[str]:
    """A sentence for each setting that differs from ours."""
    backend = variables.get("KERAS_BACKEND")
    if backend and backend != KERAS["backend"]:
        yield f"KERAS_BACKEND={backend} is not used: fer-bench computes with {KERAS['backend']}"
    for name, ours in KERAS.items():
        found = _written(file).get(name, ours)
        if found != ours and not (name == "backend" and backend):
            yield f"{file}: {name} {found} is not used: fer-bench computes with {ours}"


def _written(file: Path) -> dict[str, Any]:
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_BYTES:  # a pipe would hang
            return {}
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


@contextlib.contextmanager
def _matplotlib() -> Iterator[None]:
    """Matplotlib with its defaults: figures are files, and look the same everywhere.

    Where it cannot keep its list of fonts, each process would take ten seconds to make it again.
    """
    if not _matplotlib_can_write() and (own := folder_of_our_own()):
        os.environ["MPLCONFIGDIR"] = str(own / "matplotlib")
    logging.getLogger("matplotlib").setLevel(
        logging.ERROR
    )  # warnings about the user's folder and file
    yield
    sys.modules[
        "matplotlib"
    ].rcdefaults()  # a `matplotlibrc` in this folder, which no variable disables


def _matplotlib_can_write() -> bool:
    """Whether matplotlib can write its folders of settings and of what it can make again."""
    if named := os.environ.get("MPLCONFIGDIR"):
        return can_write(Path(named))
    folders = xdg_folder("XDG_CONFIG_HOME", ".config"), xdg_folder("XDG_CACHE_HOME", ".cache")
    return all(folder and can_write(folder / "matplotlib") for folder in folders)


def install() -> None:
    """Make the settings for everything imported from now on.

    In a notebook, matplotlib is left alone, since the user draws with it too. A second call changes
    nothing.
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
    """Check that Keras, if it is imported already, has the settings that fer-bench needs.

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
