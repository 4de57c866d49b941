"""The sections `training`, `cache` and `stages` of an experiment."""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    field_validator,
)

from fer_bench.config.section import Section
from fer_bench.errors import shortened

Optimizer = Literal["adam", "adamw", "sgd", "rmsprop"]

Select = Literal[
    "val_macro_f1",
    "val_accuracy",
    "val_loss",
    "val_valence_ccc",
    "val_arousal_ccc",
    "val_mean_ccc",
]

# Metrics to minimise; all others are maximised.
LESS_IS_BETTER: frozenset[Select] = frozenset({"val_loss"})


def _switch_as_text(value: Any) -> Any:
    """YAML reads `on` and `off` as booleans."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return value


def _is_auto(value: Any) -> bool:
    return bool(value == "auto")


class Training(Section):
    """Settings of all stages."""

    batch_size: int = Field(32, gt=0, description="images per step, on all devices together")
    optimizer: Optimizer = Field(
        "adam", description="optimizer of every stage that does not set one"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd (Nesterov)")
    weight_decay: float = Field(
        0.0,
        ge=0,
        description="decoupled weight decay per step, times the learning rate; kernels only",
    )
    gradient_clip: float | None = Field(
        None, gt=0, description="maximum global norm of the gradient; null: no clipping"
    )
    loss: Literal["cross_entropy", "multi_target"] = Field(
        "cross_entropy",
        description="loss of the expression. multi_target (the default with dataset.labels: "
        "multi_target): of the correct classes of an image, only the most probable one counts",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="probability moved from the true class to all classes evenly"
    )
    valence_arousal_loss: Literal["mse", "ccc"] = Field(
        "ccc",
        description="loss of valence and arousal: mean squared error, or one minus the concordance "
        "correlation over the batch",
    )
    valence_arousal_weight: float = Field(
        1.0,
        gt=0,
        description="weight of the loss of valence and arousal relative to that of expression",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="arithmetic inside the network; auto: the fastest that suits the device"
    )
    xla: Literal["auto", "on", "off"] = Field(
        "auto",
        exclude_if=_is_auto,
        description="whether XLA compiles the steps; auto: on a GPU, not on a CPU",
    )
    select: Select | None = Field(
        None,
        description="validation metric that selects the model over all stages; null: val_macro_f1, "
        "or val_mean_ccc (of valence and arousal) if no expression is predicted",
    )
    save_every: int = Field(
        500, ge=0, description="steps between checkpoints inside an epoch; 0: only at its end"
    )
    # Not part of the identity of a run.
    keep_state_mb: float = Field(
        64.0,
        ge=0,
        exclude=True,
        description="maximum size in MB (10^6 bytes) of the last checkpoint for a finished run to "
        "keep it, so that `fer train --more-epochs` resumes exactly. Not part of the run id",
    )

    _switch = field_validator("xla", mode="before")(_switch_as_text)


MOST_VIEWS = 1000


class TrunkViews(Section):
    """The frozen layers see a few fixed augmented views of each image, not new ones each epoch."""

    views: int = Field(gt=1, le=MOST_VIEWS, description="number of cached views per image")


def _shape_of_trunk(value: Any) -> Any:
    """A single error message, instead of one per member of the union."""
    if isinstance(value, TrunkViews) or value in ("auto", "off", "exact"):
        return value
    match value:
        case {"views": int(count), **rest} if not rest and 1 < count <= MOST_VIEWS:
            return value
    raise ValueError(
        f"must be auto, off, exact or {{views: NUMBER}} with a number from 2 to {MOST_VIEWS}, "
        f"got {shortened(value)}"
    )


class Cache(Section):
    """Intermediate results that are kept on the disk."""

    trunk: Annotated[
        Literal["auto", "off", "exact"] | TrunkViews, BeforeValidator(_shape_of_trunk)
    ] = Field(
        "auto",
        description="output of the frozen layers for each image: auto caches it if that changes no "
        "result, that is, if images are not augmented at random; exact requires it; {views: "
        "NUMBER} caches that many augmented views of each image; off caches nothing",
    )
    # Not part of the identity of a run.
    max_gb: float = Field(
        20.0,
        ge=0,
        exclude=True,
        description="maximum size of all decoded images and activations in the cache, in GB "
        "(10^9 bytes); the least recently used are removed first. Not part of the run id",
    )

    _switch = field_validator("trunk", mode="before")(_switch_as_text)

    @property
    def views(self) -> int:
        """Number of cached views per image."""
        return self.trunk.views if isinstance(self.trunk, TrunkViews) else 1

    @property
    def max_bytes(self) -> int:
        """`max_gb` in bytes."""
        return int(self.max_gb * 1e9)


def keeps_by_itself(value: Any) -> bool:
    """Whether the section is the default one."""
    return bool(value.trunk == "auto")


class LastLayers(Section):
    """Train the last layers of the backbone, and the head."""

    last: int = Field(gt=0, description="number of backbone layers to train, counted from the end")


class FromLayer(Section):
    """Train every backbone layer from the named one on, and the head."""

    layer: str = Field(
        alias="from", description="name of the first backbone layer, or block, to train"
    )


def _shape_of_train(value: Any) -> Any:
    """A single error message, instead of one per member of the union."""
    if isinstance(value, LastLayers | FromLayer) or value in ("head", "all"):
        return value
    match value:
        case {"last": int(count), **rest} if not rest and count > 0 and count is not True:
            return value
        case {"from": str(), **rest} if not rest:
            return value
    raise ValueError(
        f"must be head, all, {{last: NUMBER}} or {{from: LAYER}}, got {shortened(value)}"
    )


class Stage(Section):
    """A part of the training, with a fixed set of trainable layers and its own optimizer."""

    name: str = Field(description="name of the stage, shown in the history")
    train: Annotated[
        Literal["head", "all"] | LastLayers | FromLayer, BeforeValidator(_shape_of_train)
    ] = Field("all", description="the layers to train: head, all, {last: NUMBER} or {from: LAYER}")
    epochs: int = Field(gt=0, description="passes over the training split")
    learning_rate: float = Field(gt=0, le=10, description="learning rate; with cosine, its peak")
    schedule: Literal["constant", "cosine", "plateau"] = Field(
        "constant", description="schedule of the learning rate over the stage"
    )
    warmup: float = Field(
        0.0, ge=0, description="epochs of linear warm-up from 0 to the learning rate"
    )
    plateau_factor: float = Field(
        0.1, gt=0, lt=1, description="plateau: factor on the learning rate when val_loss stalls"
    )
    plateau_patience: int = Field(
        2, gt=0, description="plateau: epochs without a lower val_loss before it is reduced"
    )
    optimizer: Optimizer | None = Field(None, description="null: as in training")
    momentum: float | None = Field(None, ge=0, lt=1, description="null: as in training")
    weight_decay: float | None = Field(None, ge=0, description="null: as in training")
    gradient_clip: float | None = Field(None, gt=0, description="null: as in training")
    layer_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="factor on the learning rate from each trainable backbone layer with weights "
        "to the one below it; the head keeps the full rate",
    )
    patience: int | None = Field(
        None,
        gt=0,
        description="early stopping: epochs without a better val_loss; null: no early stopping",
    )
    freeze_batch_norm: bool | None = Field(
        None,
        description="freeze the statistics and weights of BatchNorm layers; null: true unless the "
        "backbone starts from random weights",
    )
