"""The section `dataset` of an experiment: the samples, and how they are split and balanced."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from fer_bench import labels
from fer_bench.config.paths import expanded
from fer_bench.config.section import Section, about_key, is_none, registered_name
from fer_bench.errors import shortened
from fer_bench.registry import DATASETS
from fer_bench.spelling import did_you_mean


def written_path(value: Any) -> Any:
    """The path with `~` and variables expanded. Raises: ValueError if a variable is not set."""
    if not isinstance(value, str | Path):
        return value
    try:
        return expanded(value)
    except ValueError as error:
        raise ValueError(f"{error}, got {shortened(str(value))}") from error


# In the schema for editors, too, a path is not empty.
WrittenPath = Annotated[
    Path,
    BeforeValidator(written_path),
    WithJsonSchema({"type": "string", "format": "path", "pattern": r"\S"}),
]


def _part_or_name(value: Any) -> Any:
    """A single error message, instead of one per member of the union."""
    if value is None or value == "validation":
        return value
    with contextlib.suppress(TypeError, ValueError):
        if 0 < float(value) < 1:
            return value
    raise ValueError(f"must be a number between 0 and 1, or `validation`, got {shortened(value)}")


Part = Annotated[float, Field(gt=0, lt=1)]


class Split(Section):
    """The fractions to divide a dataset without splits into. They add up to 1."""

    train: Part = Field(description="fraction to train on")
    validation: Part = Field(description="fraction that selects the model")
    test: Part = Field(description="fraction to evaluate on")

    @model_validator(mode="after")
    def _adds_up(self) -> "Split":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the fractions must add up to 1, but add up to {total:g}")
        return self


Balance = Literal["none", "class_weights", "undersample", "oversample"]

SAMPLERS = ("undersample", "oversample")


def _one_or_more(value: Any) -> Any:
    """A list of one name becomes that name, so that equal experiments have equal run ids."""
    known = get_args(Balance)
    names = list(value) if isinstance(value, list | tuple) else [value]
    for name in names:
        if name not in known:
            hint = did_you_mean(str(name), known)
            raise ValueError(
                f"must be {', '.join(known[:-1])} or {known[-1]}, or a list of them, got "
                f"{shortened(name)}. {hint}".rstrip(". ")
            )
    return names[0] if len(names) == 1 else tuple(names)


# The name of a class is also that of a column in every table of predictions.
_CLASS_NAME = re.compile(r"\w[\w .+&-]{0,39}")


def _choice_of_classes(value: Any) -> Any:
    """A list of classes becomes a mapping, so that equal experiments have equal run ids."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        value = {name: [name] for name in _texts(value)}
    if not isinstance(value, Mapping):
        raise ValueError(
            "must be a list of classes, or a mapping from each class to its labels, "
            f"got {shortened(value)}"
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
            raise ValueError(f"names of classes and labels must be text, got {shortened(value)}")
    return tuple(map(str, values))


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if not _CLASS_NAME.fullmatch(name):
            raise ValueError(
                "the name of a class is up to 40 letters, digits, blanks and _ - + & ., with a "
                f"letter or digit at the beginning, got {shortened(name)}"
            )
    if len(set(names)) < max(len(names), 2):
        raise ValueError(f"must be two or more different classes, got {', '.join(names) or 'none'}")


def _check_labels(names: Sequence[str], made: Sequence[Sequence[str]]) -> None:
    """Check that every class has a label, and that no label belongs to two classes."""
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
    """The samples, and how they are split and balanced."""

    name: str = Field(description="registered name of the dataset, for example opencv_emotion")
    root: WrittenPath = Field(description="folder of the unpacked dataset; default data/<name>")
    images: Literal["aligned", "original"] | None = Field(
        None, description="rafdb, official release: which of its images; default aligned"
    )
    labels: Literal["csv", "folder", "majority", "probability", "multi_target"] | None = Field(
        None,
        description="affectnet from Kaggle: which of its two labels to use, csv or folder; default "
        "csv. fer2013 with fer2013new.csv of FERPlus: how to combine the ten votes (majority, "
        "probability or multi_target); default: the labels of fer2013 itself",
    )
    table: Path | None = Field(
        None,
        exclude_if=is_none,
        description="list: the CSV file in the root with the path and label of every image; "
        "default: the only one there",
    )
    classes: Annotated[
        dict[str, tuple[str, ...]] | None,
        BeforeValidator(_choice_of_classes),
        WithJsonSchema(_CLASSES_SCHEMA),
    ] = Field(
        None,
        exclude_if=is_none,
        description="the classes to distinguish; other labels are left out. A list, or "
        "a mapping from each class to its labels, for example {happiness: [happy, 1], other: "
        "[contempt, disgust]}; default: all classes of the dataset",
    )
    contempt: Literal["keep", "drop", "disgust"] = Field(
        "keep", description="keep contempt as a class, drop it, or count it as disgust"
    )
    exclude: WrittenPath | None = Field(
        None, description="CSV file with a column sample_id: the samples to leave out"
    )
    groups: WrittenPath | None = Field(
        None,
        description="CSV file with columns sample_id and group: samples of one group (one "
        "person, near-duplicates) are never split between training and validation",
    )
    split: Split | None = Field(
        None, description="for a dataset without splits: the fractions to divide it into"
    )
    validation: Annotated[Part | Literal["validation"] | None, BeforeValidator(_part_or_name)] = (
        Field(
            0.1,
            description="fraction of the training split that selects the model (stratified, "
            "seeded), or `validation` to use the validation split of the release itself; null with "
            "split, or if selection is test_split",
        )
    )
    split_seed: int = Field(
        0,
        ge=0,
        description="seed of the splits made here, of fraction, of undersampling and of the views "
        "of expand",
    )
    fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        exclude_if=is_none,
        description="train on this share of each class of the training split; a smaller share is a "
        "part of a larger one. Validation and test stay as they are; default: all of it",
    )
    balance: Annotated[Balance | tuple[Balance, ...], BeforeValidator(_one_or_more)] = Field(
        "none",
        description="how to handle class imbalance, in the training split only: weight the loss by "
        "n / (classes * n_class), undersample to a fixed subset with equal classes, or oversample "
        "so that every class occurs equally often in an epoch",
    )
    per_class: int | None = Field(
        None,
        gt=0,
        description="undersample: maximum number of samples per class; default: the size of the "
        "smallest class. oversample: samples per class and epoch; default: the size of the largest",
    )
    allow_double_balance: bool = Field(
        False, description="allow a sampler together with class_weights, which corrects twice"
    )
    expand: int | None = Field(
        None,
        gt=0,
        description="number of training images after adding fixed views (mirrored, rotated, "
        "sheared, zoomed) of the original ones",
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
            raise about_key("dataset.validation", "must be left out beside split")
        samplers = [name for name in self.balances if name in SAMPLERS]
        if len(samplers) > 1 or len(set(self.balances)) < len(self.balances):
            raise about_key("dataset.balance", f"cannot be {' and '.join(self.balances)} at once")
        if "none" in self.balances and len(self.balances) > 1:
            raise about_key("dataset.balance", "cannot be none and something else at once")
        if samplers and "class_weights" in self.balances and not self.allow_double_balance:
            raise about_key(
                "dataset.balance",
                f"{samplers[0]} and class_weights together correct twice; choose one, or set "
                "allow_double_balance: true",
            )
        if self.per_class and not samplers:
            raise about_key(
                "dataset.per_class", "has no effect without balance: undersample or oversample"
            )
        return self

    @model_validator(mode="after")
    def _options_of_the_dataset(self) -> "Dataset":
        spec = DATASETS[self.name]
        options = (*spec.options, "labels") if spec.labels else spec.options
        for key in ("images", "labels", "table"):
            if getattr(self, key) is not None and key not in options:
                raise about_key(
                    f"dataset.{key}", f"has no effect on dataset '{self.name}'; remove it"
                )
        if self.labels is not None and self.labels not in spec.labels:
            known = ", ".join(spec.labels)
            raise about_key(
                "dataset.labels", f"must be {known} for '{self.name}', got {self.labels!r}"
            )
        return self

    @model_validator(mode="after")
    def _one_choice_of_classes(self) -> "Dataset":
        if self.classes is not None and self.contempt != "keep":
            raise about_key(
                "dataset.contempt",
                "must be left out beside classes, which defines what happens to contempt: leave "
                "it out there, or write disgust: [disgust, contempt]",
            )
        return self

    @property
    def balances(self) -> tuple[Balance, ...]:
        """The names in `balance`."""
        return self.balance if isinstance(self.balance, tuple) else (self.balance,)

    @property
    def label_choice(self) -> dict[str, Any]:
        """The choices that determine the labels, beside the dataset itself."""
        made = {name: list(texts) for name, texts in (self.classes or {}).items()}
        return {"labels": self.labels, "class_labels": made or None}

    @field_validator("name")
    @classmethod
    def _known_name(cls, name: str) -> str:
        return registered_name(DATASETS, name)


def is_validation(value: Any) -> bool:
    """Whether the validation split chooses the model, as by default."""
    return bool(value == "validation")
