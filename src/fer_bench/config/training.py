"""The sections `training`, `cache` and `stages` of an experiment."""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    field_validator,
)

from fer_bench.config.section import Section, shortened

Optimizer = Literal["adam", "adamw", "sgd", "rmsprop"]

Select = Literal[
    "val_macro_f1",
    "val_accuracy",
    "val_loss",
    "val_valence_ccc",
    "val_arousal_ccc",
    "val_mean_ccc",
]

# Of these, what shall be small; any other shall be large.
LESS_IS_BETTER: frozenset[Select] = frozenset({"val_loss"})


def _switch_as_text(value: Any) -> Any:
    """YAML reads `on` and `off` as booleans."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return value


def _is_auto(value: Any) -> bool:
    return bool(value == "auto")


class Training(Section):
    """What holds for every stage."""

    batch_size: int = Field(32, gt=0, description="images per step, over all devices together")
    optimizer: Optimizer = Field("adam", description="optimizer of every stage that names none")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd (Nesterov)")
    weight_decay: float = Field(
        0.0,
        ge=0,
        description="decoupled weight decay per step, times the learning rate; kernels only",
    )
    gradient_clip: float | None = Field(
        None, gt=0, description="largest global norm of the gradient; null: no clipping"
    )
    loss: Literal["cross_entropy", "multi_target"] = Field(
        "cross_entropy",
        description="loss of the expression; multi_target, which is the default with "
        "dataset.labels: multi_target: of the classes that are right for an image only the most "
        "probable one counts",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="probability taken from the true class and spread over all"
    )
    valence_arousal_loss: Literal["mse", "ccc"] = Field(
        "ccc",
        description="loss of valence and arousal: mean squared error, or one minus the concordance "
        "correlation over the batch",
    )
    valence_arousal_weight: float = Field(
        1.0, gt=0, description="factor on the loss of valence and arousal beside that of expression"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="arithmetic inside the network; auto takes what the device is best at"
    )
    xla: Literal["auto", "on", "off"] = Field(
        "auto",
        exclude_if=_is_auto,
        description="whether XLA compiles the steps; auto: on a GPU, not on a CPU",
    )
    select: Select | None = Field(
        None,
        description="validation metric that chooses the model over all stages; null: val_macro_f1, "
        "or val_mean_ccc (of valence and arousal) where no expression is predicted",
    )
    save_every: int = Field(
        500, ge=0, description="steps between save points inside an epoch; 0: only at its end"
    )
    # What is kept of a run says nothing about what it is.
    keep_state_mb: float = Field(
        64.0,
        ge=0,
        exclude=True,
        description="largest last save point, in MB (10^6 bytes), that a finished run keeps, so "
        "that `fer train --more-epochs` goes on from it exactly. Not part of the run id",
    )

    _switch = field_validator("xla", mode="before")(_switch_as_text)


MOST_VIEWS = 1000


class TrunkViews(Section):
    """A frozen trunk sees each image in a few fixed augmented views, not in a new one each time."""

    views: int = Field(gt=1, le=MOST_VIEWS, description="how many views of each image are kept")


def _shape_of_trunk(value: Any) -> Any:
    """One sentence for what would otherwise be an error per member of the union."""
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
    """What is computed once and kept on the disk."""

    trunk: Annotated[
        Literal["auto", "off", "exact"] | TrunkViews, BeforeValidator(_shape_of_trunk)
    ] = Field(
        "auto",
        description="what the layers below the first that trains make of each image: auto keeps "
        "it where that changes nothing, which is where images are not augmented at random; exact "
        "insists on it; {views: NUMBER} keeps so many augmented views of each image; off keeps "
        "nothing",
    )
    # How much room there is says nothing about the experiment.
    max_gb: float = Field(
        20.0,
        ge=0,
        exclude=True,
        description="most that all decoded images and activations in the cache may take, in GB "
        "(10^9 bytes); those used longest ago go first. Not part of the run id",
    )

    _switch = field_validator("trunk", mode="before")(_switch_as_text)

    @property
    def views(self) -> int:
        """How many views of each image are kept."""
        return self.trunk.views if isinstance(self.trunk, TrunkViews) else 1

    @property
    def max_bytes(self) -> int:
        """`max_gb` in bytes."""
        return int(self.max_gb * 1e9)


def keeps_by_itself(value: Any) -> bool:
    """Whether the section says nothing but the default."""
    return bool(value.trunk == "auto")


class LastLayers(Section):
    """The last layers of the backbone, and the head."""

    last: int = Field(gt=0, description="how many backbone layers train, counted from the end")


class FromLayer(Section):
    """Every backbone layer from the named one on, and the head."""

    layer: str = Field(
        alias="from", description="name of the first backbone layer, or block, that trains"
    )


def _shape_of_train(value: Any) -> Any:
    """One sentence for what would otherwise be an error per member of the union."""
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
    """One stretch of training with a fixed set of trainable layers and its own optimizer."""

    name: str = Field(description="name of the stage, shown in the history")
    train: Annotated[
        Literal["head", "all"] | LastLayers | FromLayer, BeforeValidator(_shape_of_train)
    ] = Field("all", description="what trains: head, all, {last: NUMBER} or {from: LAYER}")
    epochs: int = Field(gt=0, description="passes over the training split")
    learning_rate: float = Field(gt=0, le=10, description="learning rate; the peak with cosine")
    schedule: Literal["constant", "cosine", "plateau"] = Field(
        "constant", description="course of the learning rate over the stage"
    )
    warmup: float = Field(
        0.0, ge=0, description="epochs of linear rise from 0 to the learning rate"
    )
    plateau_factor: float = Field(
        0.1, gt=0, lt=1, description="plateau: factor on the learning rate when val_loss stalls"
    )
    plateau_patience: int = Field(
        2, gt=0, description="plateau: epochs without a lower val_loss before it is reduced"
    )
    optimizer: Optimizer | None = Field(None, description="null: that of training")
    momentum: float | None = Field(None, ge=0, lt=1, description="null: that of training")
    weight_decay: float | None = Field(None, ge=0, description="null: that of training")
    gradient_clip: float | None = Field(None, gt=0, description="null: that of training")
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
        description="epochs without a better val_loss before the stage ends; null: never",
    )
    freeze_batch_norm: bool | None = Field(
        None,
        description="keep the statistics and weights of BatchNorm layers as they are; null: true "
        "unless the backbone starts from random weights",
    )
