"""The datasets and backbones that there are, and how a program adds its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from fer_bench.config.dataset import Dataset
from fer_bench.data.manifest import Manifest
from fer_bench.data.spec import DatasetSpec
from fer_bench.models.backbone_spec import BackboneSpec
from fer_bench.registry import BACKBONES, DATASETS

Reader = Callable[[Dataset], Manifest]
Builder = Callable[[int], Any]


def datasets() -> pd.DataFrame:
    """The registered datasets.

    >>> import fer_bench
    >>> fer_bench.datasets().loc["drawn", "needs"]
    'nothing: the faces are drawn'

    Returns:
        One row per name: `description` (source and licence), `needs` (how its folder is made) and
        `classes`.
    """
    specs = {name: DATASETS[name] for name in DATASETS.names()}
    rows = [
        {"description": spec.source, "needs": _needs(name, spec), "classes": spec.classes}
        for name, spec in specs.items()
    ]
    return pd.DataFrame(rows, pd.Index(list(specs), name="name"))


def _needs(name: str, spec: DatasetSpec) -> str:
    if name == "drawn":
        return "nothing: the faces are drawn"
    if spec.prepare is None:
        return "a folder of your own"
    return f"its archive: fer data prepare {name} ARCHIVE"


def backbones() -> pd.DataFrame:
    """The registered backbones; none of them is built. `fer models` also counts parameters.

    >>> import fer_bench
    >>> bool(fer_bench.backbones().loc["vgg16", "imagenet"])
    True

    Returns:
        One row per name: `description` (family and neck), `smallest_size` (of an image, in
        pixels), `preprocessing` (of RGB in [0, 255]) and `imagenet` (whether there are such
        weights; they are downloaded).
    """
    specs = {name: BACKBONES[name] for name in BACKBONES.names()}
    rows = [
        {
            "description": spec.family + (f" with the {spec.neck.name} neck" if spec.neck else ""),
            "smallest_size": spec.smallest_size,
            "preprocessing": spec.preprocessing,
            "imagenet": spec.imagenet is not None,
        }
        for spec in specs.values()
    ]
    return pd.DataFrame(rows, pd.Index(list(specs), name="name"))


def register_dataset(
    name: str,
    *,
    source: str,
    classes: tuple[str, ...],
    prepare: Callable[[Path, Path | None, bool], None] | None = None,
    **options: Any,
) -> Callable[[Reader], Reader]:
    """Register a function that reads a dataset; a decorator.

    Registering a name of one's own again replaces it. Only this process knows the dataset: a
    package offers one to every command by an entry point of the group `fer_bench.datasets`, whose
    object is a `DatasetSpec`.

    >>> import fer_bench, pandas as pd
    >>> @fer_bench.register_dataset("lab", source="our lab", classes=("neutral", "happiness"))
    ... def read(config: fer_bench.Dataset) -> fer_bench.Manifest:
    ...     table = pd.read_csv(config.root / "faces.csv")  # sample_id, path, split, label
    ...     classes = ("neutral", "happiness")
    ...     return fer_bench.Manifest("lab", "lab-2026", config.root, classes, 3, table)
    >>> "lab" in fer_bench.datasets().index
    True

    Args:
        name: lower-case letters, digits and `. _ -`; used as `dataset.name`.
        source: where the data comes from and what its licence allows, in one sentence.
        classes: what its labels can say, in the order of `fer_bench.labels.EXPRESSIONS`.
        prepare: makes the folder, given (root, archive or None, force); None where the user does.
        **options: further fields of `DatasetSpec`.

    Raises:
        ConfigError: the name is malformed, or a dataset has it already.
    """

    def register(read: Reader) -> Reader:
        DATASETS.add(name, DatasetSpec(read, prepare, source, classes, **options))
        return read

    return register


def register_backbone(
    name: str, *, family: str = "own", smallest_size: int = 32, **options: Any
) -> Callable[[Builder], Builder]:
    """Register a function that builds a network; a decorator.

    Registering a name of one's own again replaces it. Only this process knows the backbone: a
    package offers one to every command by an entry point of the group `fer_bench.backbones`, whose
    object is a `BackboneSpec`.

    >>> import fer_bench
    >>> @fer_bench.register_backbone("two_layers", smallest_size=8)
    ... def two_layers(size: int):
    ...     from keras import Input, Model, layers
    ...     inputs = Input((size, size, 3))  # float32 RGB in [0, 255]
    ...     x = layers.Rescaling(1 / 255)(inputs)
    ...     return Model(inputs, layers.Conv2D(8, 3, strides=2, activation="relu")(x))
    >>> fer_bench.load_experiment(
    ...     "configs/drawn_compact.yaml", **{"model.backbone": "two_layers"}
    ... ).model.backbone
    'two_layers'

    Args:
        name: lower-case letters, digits and `. _ -`; used as `model.backbone`.
        family: shown beside the name.
        smallest_size: the smallest image size that builds, in pixels.
        **options: further fields of `BackboneSpec`.

    Raises:
        ConfigError: the name is malformed, or a backbone has it already.
    """

    def register(build: Builder) -> Builder:
        BACKBONES.add(name, BackboneSpec(build, family, smallest_size, **options))
        return build

    return register
