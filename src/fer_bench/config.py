"""The experiment file: its schema, and the way from YAML and overrides to a frozen `Experiment`."""

import contextlib
import copy
import functools
import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from fer_bench import labels
from fer_bench.errors import ConfigError
from fer_bench.habits import places, sections_in
from fer_bench.paths import expanded
from fer_bench.registry import BACKBONES, DATASETS, did_you_mean
from fer_bench.spelling import known_as, slug
from fer_bench.yaml_files import parse_value, read_yaml

_logger = logging.getLogger(__name__)

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
# All but tab and newline. They would reach the terminal, and YAML does not keep every one.
_CONTROL = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]")


class Section(BaseModel):
    """A part of the experiment: immutable, and an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _boolean_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError(
                f"must not be a boolean, got {str(value).lower()} (YAML reads yes, no, on and off "
                "as booleans; a text may stand in quotes)"
            )
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _name_is_spelled_as_here(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        return _spelled(value, list(_literals(field.annotation)))

    @field_validator("*", mode="before")
    @classmethod
    def _text_is_printable(cls, value: Any) -> Any:
        if isinstance(value, str) and _CONTROL.search(value):
            raise ValueError(f"must not hold control characters, got {_shown(value)}")
        return value


def _literals(annotation: Any) -> Iterator[str]:
    """Every text that an annotation allows by name."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif not isinstance(annotation, type):
        for argument in get_args(annotation):
            yield from _literals(argument)


def _spelled(value: Any, names: Sequence[str]) -> Any:
    """A name, or a list of names, as it stands in the schema: `Adam` is `adam`."""
    if isinstance(value, str):
        return known_as(value, names) if names else value
    if isinstance(value, list):
        return [_spelled(one, names) for one in value]
    return value


def _path(value: Any) -> Any:
    """With `~` and variables replaced. Raises: ValueError where a variable is not set."""
    if not isinstance(value, str | Path):
        return value
    try:
        return expanded(value)
    except ValueError as error:
        raise ValueError(f"{error}, got {_shown(str(value))}") from error


WrittenPath = Annotated[Path, BeforeValidator(_path)]


def _part_or_name(value: Any) -> Any:
    """One sentence for what would otherwise be an error per member of the union."""
    if value is None or value == "validation":
        return value
    with contextlib.suppress(TypeError, ValueError):
        if 0 < float(value) < 1:
            return value
    raise ValueError(f"must be a number between 0 and 1, or `validation`, got {_shown(value)}")


Part = Annotated[float, Field(gt=0, lt=1)]


class Split(Section):
    """The parts of a dataset that has no splits of its own. They add up to 1."""

    train: Part = Field(description="part that is trained on")
    validation: Part = Field(description="part that chooses the model")
    test: Part = Field(description="part that is only evaluated on")

    @model_validator(mode="after")
    def _adds_up(self) -> "Split":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the parts must add up to 1, they add up to {total:g}")
        return self


Balance = Literal["none", "class_weights", "undersample", "oversample"]
SAMPLERS = ("undersample", "oversample")


def _one_or_more(value: Any) -> Any:
    """A list of one name is that name, so that one experiment has one spelling."""
    known = get_args(Balance)
    names = list(value) if isinstance(value, list | tuple) else [value]
    for name in names:
        if name not in known:
            hint = did_you_mean(str(name), known)
            raise ValueError(
                f"must be {', '.join(known[:-1])} or {known[-1]}, or a list of them, got "
                f"{_shown(name)}. {hint}".rstrip(". ")
            )
    return names[0] if len(names) == 1 else tuple(names)


def _is_none(value: Any) -> bool:
    return value is None


# What a class may be called: it heads a column of every table of predictions.
_CLASS_NAME = re.compile(r"\w[\w .+&-]{0,39}")


def _choice_of_classes(value: Any) -> Any:
    """A list of classes is a mapping of each to itself, so that one choice has one spelling."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        value = {name: [name] for name in _texts(value)}
    if not isinstance(value, Mapping):
        raise ValueError(
            "must be a list of classes, or a mapping of each class to the labels that make it, "
            f"got {_shown(value)}"
        )
    names = [labels.canonical(name) or name.strip() for name in _texts(list(value))]
    made = [_texts(of if isinstance(of, list | tuple) else [of]) for of in value.values()]
    _check_names(names)
    _check_labels(names, made)
    found = dict(zip(names, made, strict=True))
    return {name: found[name] for name in labels.ordered(names)}


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    """Names and numbers as text."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError(f"names of classes and labels must be text, got {_shown(value)}")
    return tuple(map(str, values))


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if not _CLASS_NAME.fullmatch(name):
            raise ValueError(
                "the name of a class is up to 40 letters, digits, blanks and _ - + & ., with a "
                f"letter or digit at the beginning, got {_shown(name)}"
            )
    if len(set(names)) < max(len(names), 2):
        raise ValueError(f"must be two or more different classes, got {', '.join(names) or 'none'}")


def _check_labels(names: Sequence[str], made: Sequence[Sequence[str]]) -> None:
    """Every class has a label, and every label one class."""
    of: dict[str, str] = {}
    for name, texts in zip(names, made, strict=True):
        if not texts:
            raise ValueError(f"{name} has no label")
        for text in texts:
            label = labels.key(text)
            if label in of:
                both = f"in {of[label]} and {name}" if of[label] != name else f"in {name} twice"
                raise ValueError(f"the label {label!r} cannot be {both}")
            of[label] = name


_LABEL_SCHEMA = {"type": ["string", "integer"]}
_CLASSES_SCHEMA = {
    "anyOf": [
        {"type": "array", "items": _LABEL_SCHEMA, "minItems": 2},
        {
            "type": "object",
            "additionalProperties": {
                "anyOf": [_LABEL_SCHEMA, {"type": "array", "items": _LABEL_SCHEMA, "minItems": 1}]
            },
            "minProperties": 2,
        },
        {"type": "null"},
    ]
}


class Dataset(Section):
    """Which samples, and how they are split and balanced."""

    name: str = Field(description="registered name of the dataset, for example opencv_emotion")
    root: WrittenPath = Field(description="folder of the dataset as unpacked; default data/<name>")
    images: Literal["aligned", "original"] | None = Field(
        None, description="rafdb, official release: which images; default aligned"
    )
    labels: Literal["csv", "folder", "majority", "probability", "multi_target"] | None = Field(
        None,
        description="affectnet from Kaggle: which of its two labels, csv or folder; default csv. "
        "fer2013 with fer2013new.csv of FERPlus: majority, probability or multi_target, which is "
        "what is made of the ten votes; default: the labels of fer2013 itself",
    )
    table: Path | None = Field(
        None,
        exclude_if=_is_none,
        description="list: the CSV file, in the root, with path and label of every image; default "
        "the only one there",
    )
    classes: Annotated[
        dict[str, tuple[str, ...]] | None,
        BeforeValidator(_choice_of_classes),
        WithJsonSchema(_CLASSES_SCHEMA),
    ] = Field(
        None,
        exclude_if=_is_none,
        description="the classes to tell apart; what they do not name is left out. A list, or a "
        "mapping of each class to the labels that make it, for example {happiness: [happy, 1], "
        "other: [contempt, disgust]}; default: all classes of the dataset",
    )
    contempt: Literal["keep", "drop", "disgust"] = Field(
        "keep", description="whether contempt is a class, is left out, or counts as disgust"
    )
    exclude: WrittenPath | None = Field(
        None, description="CSV file with a column sample_id: samples to leave out"
    )
    groups: WrittenPath | None = Field(
        None,
        description="CSV file with columns sample_id and group: samples of one group (a person, "
        "near duplicates) are never divided between training and validation",
    )
    split: Split | None = Field(
        None, description="for a dataset without splits: the parts to divide it into"
    )
    validation: Annotated[Part | Literal["validation"] | None, BeforeValidator(_part_or_name)] = (
        Field(
            0.1,
            description="part of the training split that chooses the model (stratified, seeded), "
            "or `validation` to use the split of that name which the release itself has; "
            "null with split, or where selection is test_split",
        )
    )
    split_seed: int = Field(
        0, ge=0, description="seed of carved splits, of undersampling and of the views of expand"
    )
    balance: Annotated[Balance | tuple[Balance, ...], BeforeValidator(_one_or_more)] = Field(
        "none",
        description="what is done about unequal classes, in the training split only: loss weights "
        "n / (classes * n_class), a fixed subset with equal classes, or an epoch in which every "
        "class occurs equally often",
    )
    per_class: int | None = Field(
        None,
        gt=0,
        description="undersample: most samples of a class; default as many as the smallest has. "
        "oversample: samples of a class in an epoch; default as many as the largest has",
    )
    allow_double_balance: bool = Field(
        False, description="permit a sampler and class_weights together, which correct twice"
    )
    expand: int | None = Field(
        None,
        gt=0,
        description="number of training images after adding fixed views (mirrored, rotated, "
        "sheared, zoomed) of those there are",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if isinstance(data.get("name"), str):
            data = data | {"name": DATASETS.known_as(data["name"])}
        defaults: dict[str, Any] = {}
        if data.get("root") is None:
            defaults["root"] = f"data/{data.get('name')}"
        if data.get("split") is not None and "validation" not in data:
            defaults["validation"] = None
        return data | defaults

    @model_validator(mode="after")
    def _consistent(self) -> "Dataset":
        if self.split is not None and self.validation is not None:
            raise _about("dataset.validation", "must be left out beside split")
        samplers = [name for name in self.balances if name in SAMPLERS]
        if len(samplers) > 1 or len(set(self.balances)) < len(self.balances):
            raise _about("dataset.balance", f"cannot be {' and '.join(self.balances)} at once")
        if "none" in self.balances and len(self.balances) > 1:
            raise _about("dataset.balance", "cannot be none and something else at once")
        if samplers and "class_weights" in self.balances and not self.allow_double_balance:
            raise _about(
                "dataset.balance",
                f"{samplers[0]} and class_weights together correct twice; choose one, or set "
                "allow_double_balance: true",
            )
        if self.per_class and not samplers:
            raise _about(
                "dataset.per_class", "has no effect without balance: undersample or oversample"
            )
        return self

    @model_validator(mode="after")
    def _options_of_the_dataset(self) -> "Dataset":
        spec = DATASETS[self.name]
        options = (*spec.options, "labels") if spec.labels else spec.options
        for key in ("images", "labels", "table"):
            if getattr(self, key) is not None and key not in options:
                raise _about(f"dataset.{key}", f"has no effect on dataset '{self.name}'; remove it")
        if self.labels is not None and self.labels not in spec.labels:
            known = ", ".join(spec.labels)
            raise _about(
                "dataset.labels", f"must be {known} for '{self.name}', got {self.labels!r}"
            )
        return self

    @model_validator(mode="after")
    def _one_choice_of_classes(self) -> "Dataset":
        if self.classes is not None and self.contempt != "keep":
            raise _about(
                "dataset.contempt",
                "must be left out beside classes, which say themselves what becomes of contempt: "
                "leave it out there, or write disgust: [disgust, contempt]",
            )
        return self

    @property
    def balances(self) -> tuple[Balance, ...]:
        """The names in `balance`, one or more."""
        return self.balance if isinstance(self.balance, tuple) else (self.balance,)

    @property
    def label_choice(self) -> dict[str, Any]:
        """What decides the labels besides the dataset itself, where that is anything."""
        made = {name: list(texts) for name, texts in (self.classes or {}).items()}
        return {"labels": self.labels, "class_labels": made or None}

    @field_validator("name")
    @classmethod
    def _known_name(cls, name: str) -> str:
        return _registered(DATASETS, name)


class Augment(Section):
    """Random changes of training images, composed into one affine warp and one intensity map."""

    flip: bool = Field(False, description="mirror left and right with probability 1/2")
    rotation: float = Field(
        0.0, ge=0, le=0.5, description="largest rotation either way, as a part of a full turn"
    )
    zoom: float = Field(0.0, ge=0, lt=1, description="largest change of scale either way")
    shear: float = Field(0.0, ge=0, lt=1, description="largest tangent of the shear angle")
    shift: float = Field(
        0.0, ge=0, lt=1, description="largest shift either way, as a part of the image size"
    )
    brightness: float = Field(
        0.0, ge=0, le=1, description="largest added intensity, as a part of 255"
    )
    contrast: float = Field(
        0.0, ge=0, lt=1, description="largest change of contrast around the image mean"
    )
    fill: Literal["reflect", "nearest", "constant"] = Field(
        "reflect", description="what is seen beyond the edge of a warped image; constant is black"
    )

    @property
    def warps(self) -> bool:
        """Whether pixels move at all."""
        return self.flip or any((self.rotation, self.zoom, self.shear, self.shift))

    @property
    def changes(self) -> bool:
        """Whether an image may differ from one epoch to the next."""
        return self.warps or any((self.brightness, self.contrast))


class Image(Section):
    """What an image looks like when it reaches the model."""

    size: int = Field(ge=8, le=1024, description="height and width in pixels")
    augment: Augment = Field(Augment(), description="random changes of training images")


class Head(Section):
    """From the backbone's features to the logits."""

    pooling: Literal["avg", "max", "flatten", "none"] = Field(
        "avg", description="how a feature map becomes a vector; none for a vector backbone"
    )
    dense: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (), description="widths of dense layers before the classifier"
    )
    activation: Literal["relu", "gelu", "silu", "linear"] = Field(
        "relu", description="activation of the dense layers"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout rate before the classifier")
    l2: float = Field(0.0, ge=0, description="L2 penalty on the kernels of the dense layers")


class Neck(Section):
    """Between the backbone's feature map and the head; trains with the head."""

    name: Literal["ippm"] = Field(description="ippm, the inverted pyramid pooling of prior work")
    form: Literal["published", "conv1x1", "pyramid"] = Field(
        "published",
        description="published: as its code has it; conv1x1: the one convolution that equals it; "
        "pyramid: truly at several scales",
    )
    factors: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (2, 3, 4, 6), min_length=1, description="scale of each level"
    )
    filters: int = Field(128, gt=0, description="filters of each level")
    convolutions: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (128, 64), description="filters of the 3x3 convolutions after the levels"
    )


Target = Literal["expression", "valence_arousal"]


class Model(Section):
    """The network."""

    backbone: str = Field(description="registered name of the backbone, for example cnn_compact")
    weights: str = Field(
        "none",
        description="where the first weights of the backbone come from: none (random), imagenet, "
        "a file (.weights.h5, .h5 or .keras), or run:<run_id>",
    )
    neck: Neck | None = Field(None, description="left out: the backbone's own, usually none")
    batch_norm_momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        exclude_if=_is_none,
        description="share of its running statistics that BatchNorm of the backbone keeps in "
        "each step; null: the network's own",
    )
    head: Head | None = Field(None, description="left out: the backbone's own default head")
    targets: tuple[Target, ...] = Field(
        ("expression",), min_length=1, max_length=2, description="what the model predicts"
    )

    @field_validator("weights")
    @classmethod
    def _known_source(cls, weights: str) -> str:
        weights = known_as(weights, ("none", "imagenet"))
        run = weights.removeprefix("run:")
        if weights in ("none", "imagenet") or weights.endswith((".h5", ".keras")):
            return str(_path(weights)) if "$" in weights or "~" in weights else weights
        if run != weights and run and "/" not in run:
            return weights
        hint = did_you_mean(weights, ("none", "imagenet"))
        raise ValueError(
            "must be none, imagenet, a file (.weights.h5, .h5, .keras) or run:<run_id>, "
            f"got {_shown(weights)}. {hint}".rstrip(". ")
        )

    @field_validator("targets")
    @classmethod
    def _in_order(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        if len(set(targets)) < len(targets):
            raise ValueError(f"names a target twice: {', '.join(targets)}")
        return tuple(target for target in get_args(Target) if target in targets)

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, name: str) -> str:
        return _registered(BACKBONES, BACKBONES.known_as(name))


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
        f"got {_shown(value)}"
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


def _keeps_by_itself(value: Any) -> bool:
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
    raise ValueError(f"must be head, all, {{last: NUMBER}} or {{from: LAYER}}, got {_shown(value)}")


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


def _is_validation(value: Any) -> bool:
    return bool(value == "validation")


class Published(Section):
    """A result that others report for this set-up; shown beside ours, never mixed with it."""

    source: str = Field(description="where it was published")
    metric: str = Field(description="what was measured, for example val_accuracy")
    value: float = Field(description="the published value")
    n: int | None = Field(
        None, gt=0, exclude_if=_is_none, description="number of images it was measured on"
    )
    caveat: str | None = Field(None, description="what keeps it from being comparable")


Watcher = Literal["tensorboard", "mlflow"]


class Experiment(Section):
    """The whole experiment. Equal experiments have equal run ids."""

    name: str = Field(
        pattern=f"^{NAME}$",
        description="first part of the run id; default: the name of the file",
    )
    seed: int = Field(
        42, ge=0, lt=2**31, description="seed of the weights, the order and the augmentation"
    )
    dataset: Dataset = Field(description="which samples, and how they are split and balanced")
    image: Image = Field(description="what an image looks like when it reaches the model")
    model: Model = Field(description="the network")
    training: Training = Field(Training(), description="what holds for every stage")
    stages: tuple[Stage, ...] = Field(min_length=1, description="stretches of training, in order")
    selection: Literal["validation", "test_split"] = Field(
        "validation",
        # The id of a run that says nothing of it stays what it was before the key was there.
        exclude_if=_is_validation,
        description="the split that chooses the model, stops a stage early and lowers its rate; "
        "test_split is what many papers do: its scores are too high, and every table says so",
    )
    cache: Cache = Field(
        Cache(),
        exclude_if=_keeps_by_itself,
        description="what is computed once and kept on the disk",
    )
    published: tuple[Published, ...] = Field((), description="results that others report")
    # Where a run is watched says nothing about what it is.
    tracking: tuple[Watcher, ...] = Field(
        (),
        exclude=True,
        description="where the run is mirrored to while it trains, beside its own folder: "
        "tensorboard writes event files into it, mlflow sends to the server that the environment "
        "variable MLFLOW_TRACKING_URI names. Not part of the run id",
    )

    @model_validator(mode="before")
    @classmethod
    def _loss_of_the_labels(cls, data: Any) -> Any:
        """FERPlus defines its multi-target labels together with their loss."""
        match data:
            case {"dataset": {"labels": "multi_target"}}:
                training = data.get("training") or {}
                if isinstance(training, dict) and training.get("loss") is None:
                    return data | {"training": training | {"loss": "multi_target"}}
        return data

    @field_validator("stages")
    @classmethod
    def _distinct_names(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        names = [stage.name for stage in stages]
        if len(set(names)) < len(names):
            raise ValueError(f"two stages have the same name: {', '.join(names)}")
        return stages

    @field_validator("tracking")
    @classmethod
    def _distinct_watchers(cls, names: tuple[Watcher, ...]) -> tuple[Watcher, ...]:
        if len(set(names)) < len(names):
            raise ValueError(f"names a tracker twice: {', '.join(names)}")
        return names

    @field_validator("model")
    @classmethod
    def _fits_backbone(cls, model: Model, info: ValidationInfo) -> Model:
        spec, image = BACKBONES[model.backbone], info.data.get("image")
        if image and image.size < spec.smallest_size:
            raise _about(
                "image.size",
                f"{model.backbone} needs at least {spec.smallest_size} pixels, got {image.size}",
            )
        return model

    @model_validator(mode="after")
    def _selects_what_is_predicted(self) -> "Experiment":
        select, targets = self.training.select, self.model.targets
        if select in ("val_macro_f1", "val_accuracy") and "expression" not in targets:
            raise _about("training.select", f"{select} needs expression among model.targets")
        if select and select.endswith("_ccc") and "valence_arousal" not in targets:
            raise _about("training.select", f"{select} needs valence_arousal among model.targets")
        return self

    @model_validator(mode="after")
    def _loss_fits_the_labels(self) -> "Experiment":
        if self.training.loss != "multi_target":
            return self
        if self.dataset.labels != "multi_target":
            raise _about("training.loss", "multi_target needs dataset.labels: multi_target")
        if self.training.label_smoothing:
            raise _about(
                "training.label_smoothing",
                "must be 0 with the loss multi_target, which has a smoothing of its own; or set "
                "training.loss: cross_entropy",
            )
        return self

    @model_validator(mode="after")
    def _keeps_what_is_fixed(self) -> "Experiment":
        if self.cache.trunk == "exact" and self.image.augment.changes:
            raise _about(
                "cache.trunk",
                "cannot be exact while image.augment changes images at random: no two epochs show "
                "the same ones; use auto, keep some fixed views with {views: NUMBER}, or remove "
                "image.augment",
            )
        return self

    @model_validator(mode="after")
    def _something_chooses(self) -> "Experiment":
        dataset = self.dataset
        if dataset.split is None and dataset.validation is None and self.selection == "validation":
            raise _about(
                "dataset.validation",
                "must be a part or `validation`: null leaves nothing to choose the model on",
            )
        return self

    @property
    def selection_split(self) -> str:
        """The name of the split that chooses the model."""
        return "test" if self.selection == "test_split" else "validation"

    @property
    def select(self) -> Select:
        """The validation metric that chooses the model."""
        if self.training.select:
            return self.training.select
        return "val_macro_f1" if "expression" in self.model.targets else "val_mean_ccc"

    @property
    def run_id(self) -> str:
        """`<name>-s<seed>-<first 8 hex of the SHA-256 of to_yaml()>`."""
        digest = hashlib.sha256(self.to_yaml().encode()).hexdigest()
        return f"{self.name}-s{self.seed}-{digest[:8]}"

    def to_yaml(self) -> str:
        """The resolved experiment: every key, in the order of the schema.

        Keys that came later stand only where they say more than their default, so that the run
        ids of older experiments stay.
        """
        document = self.model_dump(mode="json", by_alias=True)
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read `path`, apply `overrides` (each `a.b=value`) and check everything.

    Raises:
        ConfigError: the file is missing or not YAML, or lists every error of its content.
    """
    document = {**read_yaml(path, "an experiment")}
    document.setdefault("name", name_of(path))
    for override in overrides:
        document = with_override(document, override)
    try:
        return Experiment.model_validate(document)
    except ValidationError as error:
        advice = "`fer schema` prints every key with its meaning."
        raise ConfigError(listed_errors(path, explain(error), advice)) from error


def dataset_of_folder(root: Path, name: str, overrides: Sequence[str] = ()) -> Dataset:
    """The section `dataset` for a folder that no experiment is about.

    Args:
        root: the folder.
        name: the registered name of the dataset in it.
        overrides: each `dataset.key=value`.

    Raises:
        ConfigError: an override is wrong.
    """
    document: dict[str, Any] = {"dataset": {"name": name, "root": str(root)}}
    for override in overrides:
        document = with_override(document, override)
    try:
        return Dataset.model_validate(document["dataset"])
    except ValidationError as error:
        advice = "`fer schema` prints every key with its meaning."
        raise ConfigError(listed_errors(root, explain(error, Dataset), advice)) from error


@functools.cache
def name_of(path: Path) -> str:
    """What a run is called whose file names none: as the file, with what no name may have left out.

    Says once where the two differ.
    """
    if re.fullmatch(NAME, path.stem):
        return path.stem
    name = slug(path.stem)
    _logger.info("%s: the run is called %s; set `name` to call it otherwise", path.name, name)
    return name


def listed_errors(path: Path, lines: Sequence[str], advice: str) -> str:
    """The message about a file with one or more errors, each told in a line of `lines`."""
    count = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
    return "\n".join([f"{path}: {count}", *(f"  {line}" for line in lines), advice])


def explain(error: ValidationError, schema: type[BaseModel] = Experiment) -> list[str]:
    """One line per error: `stages.1.learning_rate: what is expected, got what was found`."""
    items = error.errors(include_url=False)
    wrong = {item["loc"][:depth] for item in items for depth in range(len(item["loc"]))}
    # A list with a wrong element also counts as too short.
    return [
        _explain_one(item, schema)
        for item in items
        if item["type"] != "too_short" or item["loc"] not in wrong
    ]


def _explain_one(item: Mapping[str, Any], schema: type[BaseModel]) -> str:
    location = ".".join(str(part) for part in item["loc"])
    message, found = str(item["msg"]).removeprefix("Value error, "), item["input"]
    match item["type"]:
        case "extra_forbidden" | "invalid_key":
            return _explain_unknown_key(item["loc"], location, schema)
        case "missing":
            return f"{location}: missing"
        case "value_error":  # our own; it says itself what it got
            return f"{location}: {message}"
        case "names_its_key":
            return message
        case "literal_error":
            known = re.findall("'([^']*)'", str(item["ctx"]["expected"]))
            hint = did_you_mean(str(found), known)
            return f"{location}: {_must_be(message)}, got {_shown(found)}. {hint}".rstrip(". ")
    return f"{location}: {_PLAIN.get(item['type'], _must_be(message))}, got {_shown(found)}"


# What pydantic says in the words of Python.
_PLAIN = {
    "model_type": "must be a mapping of keys",
    "tuple_type": "must be a list",
    "string_pattern_mismatch": "must be letters, digits, '.', '_' or '-', "
    "with a letter or digit at the beginning",
}


def _must_be(message: str) -> str:
    return message.replace("Input should be", "must be")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _about(key: str, message: str) -> PydanticCustomError:
    """An error about `key`, raised where other keys are known that it does not fit."""
    return PydanticCustomError("names_its_key", "{message}", {"message": f"{key}: {message}"})


def _explain_unknown_key(
    location: Sequence[str | int], dotted: str, schema: type[BaseModel]
) -> str:
    fields = _section_at(location[:-1], schema).model_fields
    known = [str(field.alias or name) for name, field in fields.items()]
    meant = places(str(location[-1]), schema)
    here = [key.rpartition(".")[2] for key in meant if key.rpartition(".")[2] in known]
    if meant and not here:
        return f"{dotted}: unknown key. It is {' or '.join(meant)}."
    hint = did_you_mean(here[0] if here else str(location[-1]), known)
    hint = hint or f"Known keys: {', '.join(known)}."
    return f"{dotted}: unknown key. {hint}"


def _section_at(location: Iterable[str | int], section: type[BaseModel]) -> type[BaseModel]:
    """The schema class, inside `section`, that holds the key at `location`."""
    for part in location:
        if isinstance(part, str) and part in section.model_fields:
            section = next(sections_in(section.model_fields[part].annotation), section)
    return section


def _registered(registry: Any, name: str) -> str:
    if name not in registry.names():
        raise ValueError(registry.explain_unknown(name))
    return name


def with_override(document: dict[str, Any], override: str) -> dict[str, Any]:
    """A copy of `document` in which `a.b=value` or `stages.0.epochs=3` holds. Raises: ConfigError.

    The value is YAML.
    """
    dotted, equals, text = override.partition("=")
    dotted = re.sub(r"\[(\d+)\]", r".\1", dotted.strip())  # stages[0].epochs, as in Python
    if not equals or not dotted:
        raise ConfigError(
            f"--set {override}: expected KEY=VALUE, for example training.batch_size=16."
        )
    try:
        value = parse_value(text)
    except ValueError as error:
        raise ConfigError(f"--set {override}: {error}") from error
    return with_value(document, dotted, value, f"--set {override}")


def with_value(document: dict[str, Any], key: str, value: Any, said: str) -> dict[str, Any]:
    """A copy of `document` in which the dotted `key` has this value.

    Args:
        document: the experiment as read from its file.
        key: for example `training.batch_size`, or `stages.0.epochs` in a list.
        value: anything that YAML can hold.
        said: where the user wrote that, for the message.

    Raises:
        ConfigError: there is no such place.
    """
    document = copy.deepcopy(document)
    *parents, last = key.split(".")
    place: Any = document
    for part in parents:
        place = _child(place, part, said)
    if isinstance(place, list):
        place[_index(place, last, said)] = value
    else:
        place[last] = value
    return document


def _child(place: Any, part: str, said: str) -> Any:
    """The mapping or list below `place`; an empty mapping is put where there is nothing."""
    key = _index(place, part, said) if isinstance(place, list) else part
    if isinstance(place, dict) and place.get(part) is None:
        place[part] = {}
    if not isinstance(place[key], dict | list):
        raise ConfigError(f"{said}: '{part}' holds {place[key]!r}, which has no keys.")
    return place[key]


def _index(place: list[Any], part: str, said: str) -> int:
    """The position that is meant, by number or by the name of what is there."""
    if part.isdecimal() and int(part) < len(place):
        return int(part)
    names = [str(one.get("name")) if isinstance(one, dict) else "" for one in place]
    if part and names.count(part) == 1:
        return names.index(part)
    positions = f"use 0 to {len(place) - 1}" if place else "the list is empty"
    named = ", ".join(filter(None, names))
    raise ConfigError(
        f"{said}: '{part}' is no position in a list of {len(place)}; {positions}."
        + (f" Or a name: {named}." if named else "")
    )
