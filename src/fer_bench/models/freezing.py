"""Which layers a stage trains: the names, blocks and numbers of a stage resolved to layers."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from fer_bench.config.model import Model
from fer_bench.config.training import FromLayer, LastLayers, Stage
from fer_bench.errors import ConfigError
from fer_bench.models.build import HEAD_PREFIX, backbone_layers, inputs_of, is_batch_norm, kind_of
from fer_bench.models.neck import NECK_PREFIX
from fer_bench.models.trunk import find_cut
from fer_bench.spelling import did_you_mean


@dataclass(frozen=True)
class ResolvedStage:
    """What a stage means for one model.

    Attributes:
        first_trainable_layer: the first layer whose weights train.
        trainable_parameters: number of parameters that the optimizer changes.
        layers: number of backbone layers that are not frozen, with or without weights, as `last`
            counts them.
        trained: the names of the layers whose weights train.
        trunk: the name of the last layer of the trunk, which does not change in this stage; None if
            there is no trunk.
    """

    first_trainable_layer: str
    trainable_parameters: int
    layers: int
    trained: frozenset[str]
    trunk: str | None


def check_stages(layers: Sequence[Any], stages: Sequence[Stage]) -> None:
    """Find the first trainable layer of every stage among the `layers` of a backbone.

    Raises:
        ConfigError: lists every stage that names more layers than there are, or an unknown layer or
            block.
    """
    errors = []
    for stage in stages:
        try:
            _first_trainable(layers, stage)
        except ConfigError as error:
            errors.append(str(error))
    if errors:
        raise ConfigError("\n".join(errors))


def set_trainable(model: Any, stage: Stage, *, weights: str) -> ResolvedStage:
    """Let exactly the layers of `stage` train, in a model that started from `weights`.

    Neck and head always train.

    Raises:
        ConfigError: the stage names more layers than there are, or an unknown layer.
    """
    layers = backbone_layers(model)
    first = _first_trainable(layers, stage)
    keep_norms = freezes_batch_norm(stage, weights)
    for index, layer in enumerate(layers):
        layer.trainable = index >= first and not (keep_norms and is_batch_norm(layer))
    trainable = [layer for layer in model.layers if layer.trainable_variables]
    return ResolvedStage(
        first_trainable_layer=trainable[0].name,
        trainable_parameters=sum(math.prod(v.shape) for v in model.trainable_variables),
        layers=len(layers) - first,
        trained=frozenset(layer.name for layer in trainable),
        trunk=find_cut(model),
    )


def freezes_batch_norm(stage: Stage, weights: str) -> bool:
    """Whether BatchNorm layers of the backbone stay frozen; the default depends on the weights."""
    return weights != "none" if stage.freeze_batch_norm is None else stage.freeze_batch_norm


def slow_statistics(
    model: Any, stages: Sequence[ResolvedStage], config: Model, steps: int
) -> str | None:
    """A warning if the running statistics of random BatchNorm layers lag behind the network.

    A layer of momentum m averages over about 1 / (1 - m) steps. If that is more than the `steps` of
    an epoch, validation uses statistics of outdated weights, and networks that learn well seem to
    learn nothing. Layers that start from learned statistics are close from the beginning.
    """
    if config.weights != "none":
        return None
    trained = frozenset().union(*(stage.trained for stage in stages))
    norms = [layer for layer in backbone_layers(model) if is_batch_norm(layer)]
    slowest = max((layer.momentum for layer in norms if layer.name in trained), default=0.0)
    window = round(1 / (1 - slowest))
    if window <= steps:
        return None
    return (
        f"BatchNorm of {config.backbone} averages over about {window:,} steps, an epoch has only "
        f"{steps:,}: validation uses statistics of outdated weights. "
        "Try model.batch_norm_momentum: 0.9."
    )


def _first_trainable(layers: Sequence[Any], stage: Stage) -> int:
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
            return _find(name, layers, stage)
    raise AssertionError(stage.train)


# Where the name of a block may end: `block5` of block5_conv1, `block7` and `block7a` of
# block7a_expand_conv, `conv5` and `conv5_block1` of conv5_block1_1_conv.
_END_OF_BLOCK = re.compile(r"_|(?<=\d)[a-z](?=_)")


def blocks_of(layers: Sequence[Any]) -> list[list[str]]:
    """The names of the blocks that each layer is in, outermost first.

    A layer without a name of its own, such as `conv2d_7`, is in the blocks of the layers that it
    feeds: InceptionResNetV2 names only the layers in which the branches of a block meet.
    """
    users: defaultdict[int, list[list[str]]] = defaultdict(list)
    blocks = []
    for layer in reversed(layers):
        if _has_automatic_name(layer):
            first, *others = users[id(layer)] or [[]]
            inside = [name for name in first if all(name in other for other in others)]
        else:
            inside = [layer.name[: end.start()] for end in _END_OF_BLOCK.finditer(layer.name)]
        blocks.append(inside)
        for source in inputs_of(layer):
            users[id(source)].append(inside)
    return blocks[::-1]


def _has_automatic_name(layer: Any) -> bool:
    return re.fullmatch(rf"{kind_of(layer)}(_\d+)?", layer.name) is not None


def _begins_block(layer: Any) -> bool:
    """Whether a block can begin with `layer`: not with a nameless activation, or preprocessing."""
    learned = layer.weights and not isinstance(layer, keras.layers.Normalization)
    return bool(learned or not _has_automatic_name(layer))


def _find(name: str, layers: Sequence[Any], stage: Stage) -> int:
    """The index of the layer called `name`, or of the first one in the block called `name`."""
    names, blocks = [layer.name for layer in layers], blocks_of(layers)
    if name in names:
        return names.index(name)
    for index, layer in enumerate(layers):
        if name in blocks[index] and _begins_block(layer):
            return index
    known = {*names, *(block for inside in blocks for block in inside)}
    raise ConfigError(
        f"stage '{stage.name}': the backbone has no layer or block '{name}'. "
        f"{did_you_mean(name, sorted(known))}".strip()
    )


def resolve_stages(model: Any, stages: Sequence[Stage], config: Model) -> list[ResolvedStage]:
    """What every stage trains; leaves the model as in the last stage."""
    return [set_trainable(model, stage, weights=config.weights) for stage in stages]


def describe(stage: Stage, resolved: ResolvedStage) -> str:
    """One line about a stage: what trains, from which layer on, for how long and how fast."""
    patience = f", patience {stage.patience}" if stage.patience else ""
    decay = f" x {stage.layer_decay:g} per layer" if stage.layer_decay else ""
    in_head = resolved.first_trainable_layer.startswith((NECK_PREFIX, HEAD_PREFIX))
    unexpected = in_head and stage.train != "head"
    alone = " (no backbone layer of this stage has weights to train)" if unexpected else ""
    return (
        f"stage {stage.name}: {resolved.trainable_parameters:,} parameters train from "
        f"{resolved.first_trainable_layer} on{alone}, "
        f"{stage.epochs} epochs, "
        f"learning rate {stage.learning_rate:g}{decay} {stage.schedule}{patience}"
    )


def layer_scales(model: Any, stage: Stage) -> list[float]:
    """The factor on the learning rate of each backbone layer, as `set_trainable` left `model`.

    With `layer_decay` d, the last layer whose weights train has d, the one before it d², and so on
    towards the input; a layer without weights has the factor of the layer after it, and a frozen
    layer 0.
    """
    scale, upward = 1.0, []
    for layer in reversed(backbone_layers(model)):
        if layer.trainable_variables:
            scale *= stage.layer_decay or 1.0
        upward.append(scale if layer.trainable else 0.0)
    return upward[::-1]
