from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from messages import says

import fer_bench
from fer_bench.data.load import load_manifest
from fer_bench.errors import ConfigError
from fer_bench.registry import BACKBONES, DATASETS

CLASSES = ("neutral", "happiness")


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    registries = (DATASETS, BACKBONES)
    before = [(dict(one._entries), set(one._added)) for one in registries if one.names()]
    yield
    for registry, (entries, added) in zip(registries, before, strict=True):
        registry._entries, registry._added = entries, added


def register(name: str) -> Any:
    @fer_bench.register_dataset(name, source="our lab", classes=CLASSES)
    def read(config: fer_bench.Dataset) -> fer_bench.Manifest:
        rows = [
            (f"{split}-{number}", f"{number}.png", split, CLASSES[number % 2])
            for split in ("train", "test")
            for number in range(20)
        ]
        samples = pd.DataFrame(rows, columns=["sample_id", "path", "split", "label"])
        return fer_bench.Manifest(name, "lab-2026", config.root, CLASSES, 3, samples)

    return read


def test_what_there_is() -> None:
    datasets, backbones = fer_bench.datasets(), fer_bench.backbones()
    assert list(datasets.index) == DATASETS.names()
    assert list(backbones.index) == BACKBONES.names()
    says(datasets.loc["rafdb", "needs"], "fer data prepare rafdb")
    assert bool(backbones.loc["cnn_compact", "imagenet"]) is False
    says(backbones.loc["resnet50_ippm", "description"], "ippm")


def test_a_dataset_of_ones_own_is_read_like_any_other(tmp_path: Path) -> None:
    register("lab")
    config = fer_bench.Dataset(name="lab", root=tmp_path, validation=0.1)
    assert load_manifest(config).split_sizes() == {"train": 18, "validation": 2, "test": 20}
    assert fer_bench.datasets().loc["lab", "description"] == "our lab"


def test_a_backbone_of_ones_own_is_known_to_an_experiment(tiny: dict[str, Any]) -> None:
    @fer_bench.register_backbone("own_net", smallest_size=8, preprocessing="none")
    def own_net(size: int) -> Any:
        raise NotImplementedError

    document = {"name": "x", **tiny, "model": {"backbone": "own_net"}}
    assert fer_bench.Experiment.model_validate(document).model.backbone == "own_net"
    assert fer_bench.backbones().loc["own_net", "smallest_size"] == 8


def test_a_cell_can_be_run_again() -> None:
    register("lab")
    second = register("lab")
    assert DATASETS["lab"].read is second


@pytest.mark.parametrize("name", ["rafdb", "RAF-DB", "drawn"])
def test_a_built_in_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        register(name)
    says(error.value, f"{name!r}")
