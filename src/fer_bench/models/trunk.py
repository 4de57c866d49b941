"""Where a network can be cut into a trunk that does not change and a tail that trains.

The trunk is everything up to the deepest place, before the first layer that trains, where a single
tensor carries all that the rest needs. It is a fixed function of the image: none of its weights
move, and it always computes as at test time, with its dropout off. So it need not be computed more
than once for one image.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from fer_bench.models.build import head_layers, inputs_of


def find_cut(model: Any) -> str | None:
    """The name of the layer with which the trunk of `model` ends, as its layers are set to train.

    None where nothing with learned weights lies before the first layer that trains.
    """
    cut = _deepest_cut(model)
    return cut.name if cut and _has_learned(part(model, None, cut.name)) else None


def _has_learned(trunk: Any) -> bool:
    """Whether a trunk does more than bring the images into the range that the network wants."""
    given = keras.layers.Normalization
    return any(layer.weights for layer in trunk.layers if not isinstance(layer, given))


def part(model: Any, start: str | None, end: str | None) -> Any:
    """The layers of `model` after the one called `start` up to the one called `end`, as a model.

    It shares the layers of `model`. None: from the images on, or to the outputs.
    """
    first = output_of(model, start) if start else model.input
    return keras.Model(first, output_of(model, end) if end else model.output)


def output_of(model: Any, name: str) -> Any:
    """What the layer of `model` called `name` gives; also a bare operation, such as `x - mean`."""
    return next(layer for layer in model.operations if layer.name == name).output


def _deepest_cut(model: Any) -> Any | None:
    """The layer before the first live one whose output alone reaches the layers after it."""
    place = {id(layer): index for index, layer in enumerate(model.operations)}
    last_use = [-1] * len(place)
    for layer in model.operations:
        for source in map(id, inputs_of(layer)):
            last_use[place[source]] = max(last_use[place[source]], place[id(layer)])
    live, still_needed, deepest = _live_layers(model), -1, None
    # Operations stand in the order in which they can be computed.
    for index, layer in enumerate(model.operations):
        if layer.name in live:
            return deepest
        if still_needed <= index:
            deepest = layer
        still_needed = max(still_needed, last_use[index])
    return deepest


def _live_layers(model: Any) -> set[str]:
    """The layers whose output for one image differs from step to step.

    These have weights that train or, after the backbone, are random: a backbone's own dropout
    belongs to the layers that train beside it.
    """
    random = {layer.name for layer in head_layers(model) if _is_random(layer)}
    trained = {layer.name for layer in model.layers if layer.trainable_variables}
    return random | trained


def _is_random(layer: Any) -> bool:
    return any("seed_generator" in variable.path for variable in layer.variables)


def digests(model: Any, ends: Sequence[str]) -> dict[str, str]:
    """By its end, SHA-256 over what a trunk computes: its layers, their arithmetic and weights.

    Two trunks of equal digest give the same output for the same image.
    """
    settings = {layer["name"]: layer for layer in model.get_config()["layers"]}

    @functools.cache  # a trunk contains the shallower ones
    def of_layer(layer: Any) -> bytes:
        computation = _computation(settings[layer.name])
        hashed = hashlib.sha256(json.dumps(computation, default=str).encode())
        for weight in getattr(layer, "weights", ()):
            hashed.update(np.ascontiguousarray(weight.value).data)
        return hashed.digest()

    layers = {end: part(model, None, end).operations for end in ends}
    return {
        end: hashlib.sha256(b"".join(map(of_layer, inside))).hexdigest()
        for end, inside in layers.items()
    }


def _computation(layer: dict[str, Any]) -> dict[str, Any]:
    """A layer's settings and inputs, but for whether it trains, which is no matter."""
    return {
        **layer["config"],
        "trainable": None,
        "kind": layer["class_name"],
        "inputs": layer["inbound_nodes"],
    }
