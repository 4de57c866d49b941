"""Stages: which one owns an epoch, what it trains, and with which optimizer and learning rate."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import keras

from fer_bench.config import FromLayer, LastLayers, Model, Stage, Training
from fer_bench.errors import ConfigError
from fer_bench.model import backbone_layers
from fer_bench.registry import did_you_mean


@dataclass(frozen=True)
class ResolvedStage:
    """What a stage means for one model.

    Attributes:
        first_trainable_layer: the first layer that trains.
        trainable_parameters: how many numbers the optimizer changes.
    """

    first_trainable_layer: str
    trainable_parameters: int


def stage_at(stage_epochs: Sequence[int], epoch: int) -> tuple[int, int]:
    """(index of the stage that owns the 0-based `epoch`, first epoch of that stage).

    `stage_epochs` are the lengths of the stages, as planned or as early stopping left them.

    Raises:
        IndexError: `epoch` lies past the last one.
    """
    ends = list(accumulate(stage_epochs))
    index = bisect_right(ends, epoch)
    if index == len(ends):
        raise IndexError(f"epoch {epoch} lies past the last of {ends[-1]}")
    return index, ends[index] - stage_epochs[index]


def learning_rate_at(stage: Stage, epochs: float) -> float:
    """Learning rate `epochs` (a fraction) after the start of `stage`, before plateau reductions."""
    if epochs < stage.warmup:
        return stage.learning_rate * epochs / stage.warmup
    if stage.schedule != "cosine":
        return stage.learning_rate
    part = (epochs - stage.warmup) / max(stage.epochs - stage.warmup, 1e-9)
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))


def set_trainable(model: Any, stage: Stage, *, weights: str) -> ResolvedStage:
    """Let exactly the layers of `stage` train, of a model that started from `weights`.

    BatchNorm layers of the backbone stay frozen when the stage says so, or says nothing and the
    backbone did not start from random weights.

    Raises:
        ConfigError: the stage asks for more layers than there are, or for an unknown one.
    """
    layers = backbone_layers(model)
    first = _first_trainable(layers, stage)
    freeze_batch_norm = stage.freeze_batch_norm
    if freeze_batch_norm is None:
        freeze_batch_norm = weights != "none"
    for index, layer in enumerate(layers):
        frozen_norm = freeze_batch_norm and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = index >= first and not frozen_norm
    trainable = [layer for layer in model.layers if layer.trainable_variables]
    return ResolvedStage(
        first_trainable_layer=trainable[0].name,
        trainable_parameters=sum(math.prod(v.shape) for v in model.trainable_variables),
    )


def _first_trainable(layers: Sequence[Any], stage: Stage) -> int:
    names = [layer.name for layer in layers]
    match stage.train:
        case "head":
            return len(layers)
        case "all":
            return 0
        case LastLayers(last=count):
            if count > len(layers):
                raise ConfigError(
                    f"stage '{stage.name}': last: {count} of {len(layers)} backbone layers.\n"
                    f"Use at most {len(layers)}, or `train: all`."
                )
            return len(layers) - count
        case FromLayer(layer=name):
            if name not in names:
                raise ConfigError(
                    f"stage '{stage.name}': the backbone has no layer '{name}'. "
                    f"{did_you_mean(name, names)}".strip()
                )
            return names.index(name)
    raise AssertionError(stage.train)


def resolve_stages(model: Any, stages: Sequence[Stage], config: Model) -> list[ResolvedStage]:
    """What every stage trains; leaves the model as the last stage wants it."""
    return [set_trainable(model, stage, weights=config.weights) for stage in stages]


def describe(stage: Stage, resolved: ResolvedStage) -> str:
    """One line about a stage: what trains, from which layer on, how long and how fast."""
    patience = f", patience {stage.patience}" if stage.patience else ""
    return (
        f"stage {stage.name}: {resolved.trainable_parameters:,} parameters train from "
        f"{resolved.first_trainable_layer} on, {stage.epochs} epochs, "
        f"learning rate {stage.learning_rate:g} {stage.schedule}{patience}"
    )


def build_optimizer(stage: Stage, training: Training, *, precision: str, variables: Any) -> Any:
    """A new optimizer for `stage`, with its slots; scales the loss under float16."""
    kind = {
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "sgd": keras.optimizers.SGD,
        "rmsprop": keras.optimizers.RMSprop,
    }[stage.optimizer or training.optimizer]
    options: dict[str, Any] = {"global_clipnorm": training.gradient_clip}
    if kind is keras.optimizers.SGD:
        options |= {"momentum": training.momentum, "nesterov": training.momentum > 0}
    if training.weight_decay:
        options["weight_decay"] = training.weight_decay
    elif kind is keras.optimizers.AdamW:
        options["weight_decay"] = 0.0
    optimizer = kind(stage.learning_rate, **options)
    if training.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer
