"""The first weights of a backbone: from ImageNet, a file, or another run.

Every source is read as a list of layers with their values. They are paired with the layers of the
backbone, and all shapes are checked before the first value is copied. Only numbers are read from a
file: no layer or object that it describes is ever built.
"""

import contextlib
import hashlib
import itertools
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from fer_bench.config.model import Model
from fer_bench.errors import ConfigError
from fer_bench.models.build import HEAD_PREFIX, backbone_layers
from fer_bench.models.neck import NECK_PREFIX
from fer_bench.models.weight_files import SavedLayer, open_hdf5, saved_layers
from fer_bench.models.weight_source import find_weights
from fer_bench.registry import BACKBONES

Pairs = list[tuple[Any, SavedLayer | None]]


def load_weights(model: Any, config: Model, outputs: Path) -> str | None:
    """Load the weights that `config.weights` names into the backbone of `model`.

    Neck and head stay as they are, whatever the source has for them. So do the constants of a
    `Normalization` layer, which belong to the preprocessing of the backbone.

    Args:
        model: what `models.build.build_model` returns, with stock layers.
        config: the network; a file name is relative to the working directory.
        outputs: the folder of the runs, for `run:<run_id>`.

    Returns:
        The first 12 hexadecimal digits of the SHA-256 of the loaded values, None for `none`.
        Equal values have equal digests, whatever their source.

    Raises:
        ConfigError: the weights do not exist, cannot be read, or do not fit.
        RunError: the run is missing or not finished.
    """
    path = find_weights(config, outputs)
    if config.weights == "none":
        return None
    if path is None:
        network = _imagenet(config.backbone)
        saved = [SavedLayer(each.name, each.get_weights()) for each in _weighted(network.layers)]
        return _transfer(saved, model, config)
    with open_hdf5(path) as file:
        return _transfer(saved_layers(file, path, model), model, config)


def _weighted(layers: Sequence[Any]) -> list[Any]:
    return [layer for layer in layers if layer.weights]


def _transfer(saved: Sequence[SavedLayer], model: Any, config: Model) -> str:
    """Copy the values of `saved` into the backbone of `model`; returns their digest."""
    digest = hashlib.sha256()
    own = [each for each in saved if not each.name.startswith((NECK_PREFIX, HEAD_PREFIX))]
    for layer, source in _fitting_pairs(own, model, config):
        if isinstance(layer, keras.layers.Normalization):
            continue  # part of the preprocessing of the backbone
        values = [_numbers(value, source, config) for value in source.values]
        layer.set_weights(values)
        for value in values:
            digest.update(value.tobytes())
    return digest.hexdigest()[:12]


def _fitting_pairs(
    saved: Sequence[SavedLayer], model: Any, config: Model
) -> list[tuple[Any, SavedLayer]]:
    """Every layer of the backbone with its counterpart in `saved`.

    By name if all names exist, otherwise by order: Keras numbers layers over a whole process, so
    equal networks may differ in every name.
    """
    layers = _weighted(backbone_layers(model))
    by_name = {each.name: each for each in saved}
    tries: list[Pairs] = [list(itertools.zip_longest(layers, saved[: len(layers)]))]
    if all(layer.name in by_name for layer in layers):
        tries.insert(0, [(layer, by_name[layer.name]) for layer in layers])
    for pairs in tries:
        fitting = [(layer, source) for layer, source in pairs if source and _fits(layer, source)]
        if len(fitting) == len(layers):
            return fitting
    raise ConfigError(_explain_misfit(tries[0], saved, model, config))


def _fits(layer: Any, source: SavedLayer | None) -> bool:
    return source is not None and _shapes(layer.weights) == _shapes(source.values)


def _shapes(values: Sequence[Any]) -> list[tuple[int, ...]]:
    return [tuple(value.shape) for value in values]


def _explain_misfit(pairs: Pairs, saved: Sequence[SavedLayer], model: Any, config: Model) -> str:
    layer, source = next(pair for pair in pairs if not _fits(*pair))
    there = (
        f"{_shown(source.values)} in the source, in {source.name!r}"
        if source
        else "no layer is left in the source"
    )
    number = sum(_fits(*pair) for pair in pairs)
    lines = [
        f"model.weights: {config.weights} does not fit the backbone {config.backbone}: layer "
        f"'{layer.name}' has {_shown(layer.weights)} here, {there}.",
        f"{number} of its {len(pairs)} layers with weights fit; the source has {len(saved)}.",
    ]
    if isinstance(layer, keras.layers.Dense):
        size = model.input.shape[1]
        lines.append(f"A dense layer fits only one image size; image.size is {size} here.")
    lines.append("Use weights of this network, or change model.backbone.")
    return "\n".join(lines)


def _shown(values: Sequence[Any]) -> str:
    return " + ".join("x".join(map(str, shape)) or "one number" for shape in _shapes(values))


def _numbers(value: Any, source: SavedLayer, config: Model) -> NDArray[np.float32]:
    """One array or dataset in memory. Raises: ConfigError when its values are not finite."""
    array = np.asarray(value[...])
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ConfigError(
            f"model.weights: {config.weights}: the layer {source.name!r} has values that are not "
            "finite numbers.\nUse other weights."
        )
    return array.astype(np.float32)


# ImageNet


def _imagenet(backbone: str) -> Any:
    """The network of `keras.applications` with its ImageNet weights; see `find_weights`."""
    with _without_progress_bar():
        try:
            return BACKBONES[backbone].imagenet()
        except Exception as error:
            message = _explain_download(error, backbone)
            if message is None:
                raise
            raise ConfigError(message) from error


@contextlib.contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Keras prints to standard output, which is for the results of a command."""
    was_on = keras.config.is_interactive_logging_enabled()
    keras.config.disable_interactive_logging()
    try:
        yield
    finally:
        if was_on:
            keras.config.enable_interactive_logging()


def _explain_download(error: Exception, backbone: str) -> str | None:
    """What to do about a failed download; None if `error` is something else.

    `keras.utils.get_file` raises a bare `Exception` for a failed download, and `ValueError` for a
    wrong checksum. Only its own frame knows the URL and the file for certain, so the locals
    `origin`, `download_target` and `file_hash` of Keras 3.15 are read from the traceback. With a
    version that renames them, users see the error of Keras, and `tests/models/test_weights.py`
    fails.
    """
    scopes = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
    call = next((scope for scope in scopes if {"origin", "download_target"} <= scope.keys()), None)
    if call is None:
        return None
    # The message is "URL fetch failure on <url>: <code> -- <reason>", or a sentence.
    reason = str(error).rpartition(" -- ")[2].rstrip(".")
    return (
        f"model.weights: the ImageNet weights of {backbone} could not be downloaded ({reason}).\n"
        f"Download {call['origin']} on a machine with a network, and put it here:\n"
        f"  {call['download_target']}\n"
        f"Keras verifies its checksum (MD5 or SHA-256 {call['file_hash']}) and rejects any other "
        "file. The folder is models/ in ~/.keras, or in $KERAS_HOME."
    )
