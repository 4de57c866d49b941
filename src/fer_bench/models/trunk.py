"""Cutting a network into a trunk that does not change in a stage, and a tail that trains.

The trunk is everything up to the deepest point before the first trainable layer where a single
tensor carries all that the rest needs. It is a fixed function of the image: its weights do not
change, and it always computes as at test time, without dropout. So it only needs to be computed
once per image.
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
    """The name of the last layer of the trunk of `model`, as its layers are set to train.

    None if nothing with learned weights is before the first trainable layer.
    """
    cut = _deepest_cut(model)
    return cut.name if cut and _has_learned(part(model, None, cut.name)) else None


def _has_learned(trunk: Any) -> bool:
    """Whether a trunk does more than preprocess the images."""
    return any(
        layer.weights and not isinstance(layer, keras.layers.Normalization)
        for layer in trunk.layers
    )


def part(model: Any, start: str | None, end: str | None) -> Any:
    """The layers of `model` after the one called `start` up to the one called `end`, as a model.

    It shares the layers of `model`. None means the images, or the outputs.
    """
    first = output_of(model, start) if start else model.input
    return keras.Model(first, output_of(model, end) if end else model.output)


def output_of(model: Any, name: str) -> Any:
    """The output of a layer of `model`, or of a bare operation such as `x - mean`, by its name."""
    return next(layer for layer in model.operations if layer.name == name).output


def _deepest_cut(model: Any) -> Any | None:
    """The last layer before the first live one whose output alone reaches all layers after it."""
    place = {id(layer): index for index, layer in enumerate(model.operations)}
    last_use = [-1] * len(place)
    for layer in model.operations:
        for source in map(id, inputs_of(layer)):
            last_use[place[source]] = max(last_use[place[source]], place[id(layer)])
    live, still_needed, deepest = _live_layers(model), -1, None
    # The operations are in an order in which they can be computed.
    for index, layer in enumerate(model.operations):
        if layer.name in live:
            return deepest
        if still_needed <= index:
            deepest = layer
        still_needed = max(still_needed, last_use[index])
    return deepest


def _live_layers(model: Any) -> set[str]:
    """The layers whose output for one image differs between steps.

    They have trainable weights or, after the backbone, are random: the dropout of a backbone counts
    only where layers around it train.
    """
    random = {layer.name for layer in head_layers(model) if _is_random(layer)}
    trained = {layer.name for layer in model.layers if layer.trainable_variables}
    return random | trained


def _is_random(layer: Any) -> bool:
    return any("seed_generator" in variable.path for variable in layer.variables)


def digests(model: Any, ends: Sequence[str]) -> dict[str, str]:
    """SHA-256 over the layers of each trunk, their settings and weights, by its last layer.

    Two trunks with equal digests have the same output for the same image.
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
    """The settings and inputs of a layer, without whether it trains, which changes nothing."""
    return {
        **layer["config"],
        "trainable": None,
        "kind": layer["class_name"],
        "inputs": layer["inbound_nodes"],
    }
