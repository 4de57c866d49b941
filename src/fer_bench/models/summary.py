"""All backbones, and the network of an experiment: the documents of `fer models`.

Networks are built without weights: layers and shapes are enough here, which takes a fifth of the
time and hardly any memory.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from fer_bench.config.dataset import Dataset
from fer_bench.config.experiment import Experiment
from fer_bench.config.training import Stage
from fer_bench.data.spec import DatasetSpec
from fer_bench.models import freezing
from fer_bench.models.backbone_spec import BackboneSpec
from fer_bench.models.build import attach_head, build_backbone, is_batch_norm
from fer_bench.registry import BACKBONES, DATASETS


@dataclass(frozen=True)
class FreezePlan:
    """What trains when, for a figure.

    Attributes:
        layers: names of the L backbone layers, from first to last.
        blocks: name of the outermost block of each; empty if it is in none.
        norms: which of them are BatchNorm layers, shape (L,).
        scales: factor on the learning rate, 0 if frozen, shape (stages, L).
        stages: the document of each stage.
        has_neck: whether there is a neck between backbone and head.
    """

    layers: tuple[str, ...]
    blocks: tuple[str, ...]
    norms: NDArray[np.bool_]
    scales: NDArray[np.float64]
    stages: tuple[Mapping[str, Any], ...]
    has_neck: bool


def describe_backbones(progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every registered backbone, without a head and at its smallest size.

    Args:
        progress: called with the name of each before it is built.

    Returns:
        One document per backbone: `name`, `family`, `parameters`, `layers`, `smallest_size`,
        `preprocessing`, `imagenet` (whether there are such weights), `imagenet_offline` (whether
        they are in Keras's cache) and `neck` (the name of the default neck, or None).
    """
    sizes: dict[Any, tuple[int, int]] = {}
    documents = []
    for name in BACKBONES.names():
        spec: BackboneSpec = BACKBONES[name]
        if spec.build not in sizes:
            progress(name)
            sizes[spec.build] = _size(spec)
        parameters, layers = sizes[spec.build]
        documents.append(
            {
                "name": name,
                "family": spec.family,
                "parameters": parameters,
                "layers": layers,
                "smallest_size": spec.smallest_size,
                "preprocessing": spec.preprocessing,
                "imagenet": spec.imagenet is not None,
                "imagenet_offline": _is_cached(spec.imagenet_file),
                "neck": spec.neck.name if spec.neck else None,
            }
        )
    return documents


def _size(spec: BackboneSpec) -> tuple[int, int]:
    """(parameters, layers) of a backbone."""
    with without_weights():
        backbone = spec.build(spec.smallest_size)
        return backbone.count_params(), len(backbone.layers)


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Build models with layers and shapes, but without values; resets Keras at both ends."""
    keras.utils.clear_session(free_memory=False)  # the names of layers count from the start
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        # Keras remembers variables without a value, and would create them all later.
        keras.utils.clear_session(free_memory=False)


def _is_cached(file: str | None) -> bool:
    """Whether Keras finds `file` offline. Keras checks the content only when it loads it."""
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    return file is not None and (home / "models" / file).is_file()


def expected_classes(config: Dataset) -> tuple[str, ...]:
    """The classes of a dataset, as far as they are known without reading it.

    Classes without images are removed when the dataset is read.
    """
    spec: DatasetSpec = DATASETS[config.name]
    if config.classes:
        return tuple(config.classes)
    classes = spec.labels[config.labels] if config.labels else spec.classes
    if config.contempt == "keep":
        return classes
    return tuple(name for name in classes if name != "contempt")


def describe_model(experiment: Experiment) -> tuple[dict[str, Any], FreezePlan]:
    """The network of an experiment, stage by stage, without its data.

    Returns:
        The document: `name`, `backbone`, `weights`, `image_size`, `classes` (as far as known),
        `parameters`, `layers` (of the backbone, as `last` counts them), and `stages`, each with
        `trainable_parameters`, `first_trainable_layer`, `layers` (not frozen) and its settings; the
        first two also as lists, as in `run.json`. And the same as arrays, for a figure.

    Raises:
        ConfigError: the neck, the head or a stage does not fit the backbone.
    """
    config, classes = experiment.model, expected_classes(experiment.dataset)
    with without_weights():
        backbone = build_backbone(config, experiment.image.size)
        freezing.check_stages(backbone.layers, experiment.stages)
        model = attach_head(backbone, config, len(classes))
        stages, scales = [], []
        for stage in experiment.stages:
            stages.append(_describe_stage(model, stage, experiment))
            scales.append(freezing.layer_scales(model, stage))
        parameters = model.count_params()
    document = {
        "name": experiment.name,
        "backbone": config.backbone,
        "weights": config.weights,
        "image_size": experiment.image.size,
        "classes": list(classes),
        "parameters": parameters,
        "layers": len(backbone.layers),
        "trainable_parameters": [stage["trainable_parameters"] for stage in stages],
        "first_trainable_layer": [stage["first_trainable_layer"] for stage in stages],
        "stages": stages,
    }
    spec: BackboneSpec = BACKBONES[config.backbone]
    names = tuple(layer.name for layer in backbone.layers)
    plan = FreezePlan(
        names,
        tuple(map(_numbered_block, freezing.blocks_of(backbone.layers))),
        np.array([is_batch_norm(layer) for layer in backbone.layers]),
        np.array(scales),
        tuple(stages),
        bool(config.neck or spec.neck),
    )
    return document, plan


def _numbered_block(blocks: Sequence[str]) -> str:
    """The outermost block with a number: `conv5` for conv5_block1_1_conv; empty without one."""
    return next((block for block in blocks if re.search(r"\d", block)), "")


def _describe_stage(model: Any, stage: Stage, experiment: Experiment) -> dict[str, Any]:
    """The document of one stage; leaves `model` as in this stage."""
    weights = experiment.model.weights
    resolved = freezing.set_trainable(model, stage, weights=weights)
    return {
        "name": stage.name,
        "train": stage.model_dump(mode="json", by_alias=True)["train"],
        "epochs": stage.epochs,
        "learning_rate": stage.learning_rate,
        "optimizer": stage.optimizer or experiment.training.optimizer,
        "layer_decay": stage.layer_decay,
        "freeze_batch_norm": freezing.freezes_batch_norm(stage, weights),
        "trainable_parameters": resolved.trainable_parameters,
        "first_trainable_layer": resolved.first_trainable_layer,
        "layers": resolved.layers,
    }
