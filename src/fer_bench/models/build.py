"""Networks: backbone, neck, head and outputs as one flat graph."""

import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import keras
from keras import layers, regularizers

from fer_bench.config.model import Head, Model
from fer_bench.errors import ConfigError, RunError
from fer_bench.models.backbone_spec import BackboneSpec
from fer_bench.models.neck import NECK_PREFIX, add_neck
from fer_bench.registry import BACKBONES
from fer_bench.storage.files import check_readable

HEAD_PREFIX = "head_"
LOGITS = HEAD_PREFIX + "logits"
VALENCE_AROUSAL = HEAD_PREFIX + "valence_arousal"

_POOLING = {
    "avg": layers.GlobalAveragePooling2D,
    "max": layers.GlobalMaxPooling2D,
    "flatten": layers.Flatten,
}


def build_model(config: Model, size: int, classes: int) -> Any:
    """A `keras.Model` from images to the outputs in `config.targets`; see `attach_head`."""
    return attach_head(build_backbone(config, size), config, classes)


def build_backbone(config: Model, size: int) -> Any:
    """The backbone alone, with random weights: float32 RGB in [0, 255] → features."""
    spec: BackboneSpec = BACKBONES[config.backbone]
    backbone = spec.build(size)
    if config.batch_norm_momentum is not None:
        for layer in filter(is_batch_norm, backbone.layers):
            layer.momentum = config.batch_norm_momentum
    return backbone


def attach_head(backbone: Any, config: Model, classes: int) -> Any:
    """A `keras.Model` of `backbone` with a neck and a head, in the same flat graph.

    Input: float32 RGB in [0, 255], shape (n, size, size, 3). Output, float32: logits (n, classes)
    for `expression`, valence and arousal (n, 2) in [-1, 1] for `valence_arousal`; a dict of both,
    by these names, where both are targets.

    The layers of the backbone come first, in their own order; the names of the others begin with
    `neck_` and `head_`.

    Raises:
        ConfigError: the neck or the pooling does not fit the backbone.
    """
    spec: BackboneSpec = BACKBONES[config.backbone]
    head = config.head or Head(pooling=spec.pooling)
    neck = config.neck or spec.neck
    x = add_neck(backbone.output, neck) if neck else backbone.output
    x = _pool(x, head, config.backbone)
    for index, width in enumerate(head.dense):
        x = layers.Dense(
            width,
            activation=head.activation,
            kernel_regularizer=regularizers.L2(head.l2) if head.l2 else None,
            name=f"{HEAD_PREFIX}dense_{index}",
        )(x)
    if head.dropout:
        x = layers.Dropout(head.dropout, name=HEAD_PREFIX + "dropout")(x)
    # The outputs are float32 under mixed precision too: losses and probabilities need the digits.
    outputs = {}
    if "expression" in config.targets:
        outputs["expression"] = layers.Dense(classes, dtype="float32", name=LOGITS)(x)
    if "valence_arousal" in config.targets:
        outputs["valence_arousal"] = layers.Dense(
            2, activation="tanh", dtype="float32", name=VALENCE_AROUSAL
        )(x)
    (first, *others) = outputs.values()
    return keras.Model(backbone.input, outputs if others else first, name=config.backbone)


# What Keras raises for files that are not its own, or were changed by hand.
_UNREADABLE = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError),
    *(EOFError, zipfile.BadZipFile, zlib.error),
)
# Of a saved model: the largest backbone has 2 GB of weights in float64.
LARGEST_BYTES = 8 * 2**30
OTHER_MODEL = "Restore the model of this run, or train the run again with --fresh."


def load_model(path: Path) -> Any:
    """The saved model of a run. Nothing that the file names is executed, apart from Keras layers.

    Raises:
        RunError: the file is missing, damaged, or needs code that does not come with Keras.
    """
    try:
        check_readable(path, LARGEST_BYTES)
        # Safe mode refuses Lambda layers, and other modules than those of Keras are never imported.
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except _UNREADABLE as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise RunError(f"{path}: the model cannot be loaded ({reason}).\n{OTHER_MODEL}") from error


def named_outputs(output: Any, targets: tuple[str, ...]) -> dict[str, Any]:
    """The outputs of a model by the name of the target, whatever form it returns them in."""
    return output if isinstance(output, dict) else {targets[0]: output}


def _pool(features: Any, head: Head, backbone: str) -> Any:
    is_map = len(features.shape) == 4
    if head.pooling == "none" and is_map:
        raise ConfigError(
            f"model.head.pooling: {backbone} ends in a feature map {tuple(features.shape[1:])}; "
            "use avg, max or flatten, got 'none'."
        )
    if head.pooling in ("avg", "max") and not is_map:
        raise ConfigError(
            f"model.head.pooling: {backbone} ends in a vector; use none, got '{head.pooling}'."
        )
    if head.pooling == "none":
        return features
    return _POOLING[head.pooling](name=HEAD_PREFIX + "pool")(features)


def is_batch_norm(layer: Any) -> bool:
    """Whether `layer` has running statistics, which change while it trains."""
    return isinstance(layer, layers.BatchNormalization)


def kind_of(layer: Any) -> str:
    """The class of a layer in snake case, `conv2d`: what Keras names and saves layers by."""
    words = re.sub("(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__)
    return words.lower()


def inputs_of(layer: Any) -> list[Any]:
    """The layers, or bare operations such as `x - mean`, whose outputs a layer takes.

    `_keras_history` is private; Keras 3 has no public way from a tensor to its layer.
    """
    if isinstance(layer, layers.InputLayer):
        return []
    return [tensor._keras_history.operation for tensor in keras.tree.flatten(layer.input)]


def backbone_layers(model: Any) -> list[Any]:
    """The layers of the backbone, from first to last."""
    return [layer for layer in model.layers if not _comes_after(layer)]


def head_layers(model: Any) -> list[Any]:
    """The layers after the backbone, from first to last."""
    return [layer for layer in model.layers if _comes_after(layer)]


def _comes_after(layer: Any) -> bool:
    return bool(layer.name.startswith((NECK_PREFIX, HEAD_PREFIX)))
