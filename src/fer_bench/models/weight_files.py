"""Reading weight files of Keras: only numbers, nothing in them is executed."""

import contextlib
import io
import itertools
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from fer_bench.errors import ConfigError
from fer_bench.models.build import LARGEST_BYTES, backbone_layers, kind_of
from fer_bench.storage.files import check_readable


@dataclass(frozen=True)
class SavedLayer:
    """One layer of a source: its name, and its arrays or HDF5 datasets in Keras's order."""

    name: str
    values: Sequence[Any]


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open the HDF5 file at `path`, or the one inside the archive at `path`, for reading.

    Raises:
        ConfigError: the file is missing, of another kind, or damaged.
    """
    try:
        check_readable(path, LARGEST_BYTES)
        if h5py.is_hdf5(path):
            source: Path | io.BytesIO = path
        else:
            with zipfile.ZipFile(path) as archive:
                source = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(source, "r") as file:
            yield file
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"model.weights: {path}: incomplete, or not a file of Keras weights ({reason}).\n"
            "Use a .weights.h5, .h5 or .keras file as Keras saves it."
        ) from error


def saved_layers(file: h5py.File, path: Path, model: Any) -> list[SavedLayer]:
    """The layers with weights in a file that any version of Keras has written."""
    group = file.get("model_weights", file)
    names = _names(group, "layer_names")
    saved = list(_legacy_layers(group, names) if names else _stored_layers(file, model))
    if not saved:
        found = ", ".join(map(repr, itertools.islice(file, 8))) or "nothing"
        raise ConfigError(
            f"model.weights: {path}: contains no layers with weights as Keras saves them; found "
            f"{found}.\nUse a .weights.h5, .h5 or .keras file as Keras saves it."
        )
    return saved


def _names(group: h5py.Group, key: str) -> list[str]:
    """A list of names in the attributes; a long one is split into `key0`, `key1`, …."""
    numbered = itertools.takewhile(group.attrs.__contains__, (f"{key}{n}" for n in range(1000)))
    keys = [key] if key in group.attrs else list(numbered)
    names = itertools.chain.from_iterable(group.attrs[each] for each in keys)
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _legacy_layers(group: h5py.Group, names: Sequence[str]) -> Iterator[SavedLayer]:
    """The layers as Keras 2 saves them, in order, including those of nested models."""
    for name in names:
        values: dict[str, list[h5py.Dataset]] = {}
        for weight in _names(group[name], "weight_names"):
            values.setdefault(weight.rpartition("/")[0], []).append(group[name][weight])
        for owner, datasets in values.items():
            yield SavedLayer(owner.rpartition("/")[2] if len(values) > 1 else name, datasets)


def _stored_layers(file: h5py.File, model: Any) -> Iterator[SavedLayer]:
    """The layers as Keras 3 saves them: first those that match the backbone of `model`.

    The file keeps the order of the layers only per kind, and only newer files have names.
    """
    containers: list[h5py.Group] = []

    def collect(name: str, item: Any) -> None:
        if str(name).rpartition("/")[2] in ("layers", "_layer_checkpoint_dependencies"):
            containers.append(item)

    file.visititems(collect)
    # The backbone may be a nested model; it has more layers than the model around it.
    stored = dict(max(containers, key=len, default={}))
    ordered = [stored.pop(key) for key in _keys(backbone_layers(model)) if key in stored]
    for group in (*ordered, *stored.values()):
        variables = group.get("vars", {})
        if len(variables):  # bool() of an empty HDF5 group is True
            name = variables.attrs.get("name", group.name.rpartition("/")[2])
            numbers = sorted(variables, key=lambda number: (len(number), number))
            yield SavedLayer(str(name), [variables[number] for number in numbers])


def _keys(layers: Sequence[Any]) -> list[str]:
    """The name under which Keras 3 saves each of `layers`: its kind, numbered per kind."""
    count: Counter[str] = Counter()
    keys = []
    for layer in layers:
        kind = kind_of(layer)
        keys.append(f"{kind}_{count[kind]}" if count[kind] else kind)
        count[kind] += 1
    return keys
