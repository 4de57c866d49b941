"""What is known of a network without weights and without data."""

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tiers import some_fast

from fer_bench.config.dataset import Dataset
from fer_bench.config.experiment import Experiment
from fer_bench.data.spec import DatasetSpec
from fer_bench.errors import ConfigError
from fer_bench.labels import EXPRESSIONS
from fer_bench.models import summary
from fer_bench.models.backbone_spec import BackboneSpec
from fer_bench.models.build import build_model
from fer_bench.models.freezing import resolve_stages
from fer_bench.models.summary import describe_backbones, describe_model, expected_classes
from fer_bench.registry import BACKBONES, DATASETS

WITH_IMAGENET = [name for name in BACKBONES.names() if BACKBONES[name].imagenet]


def experiment(*stages: dict[str, Any], **model: Any) -> Experiment:
    """An experiment on a dataset that is not there."""
    return Experiment.model_validate(
        {
            "name": "some",
            "dataset": {"name": "rafdb", "root": "nowhere"},
            "image": {"size": 24},
            "model": {"backbone": "cnn_compact", **model},
            "stages": [
                {"name": f"s{number}", "epochs": 2, "learning_rate": 0.1, **stage}
                for number, stage in enumerate(stages)
            ],
        }
    )


# fer models ------------------------------------------------------------------------------------


def some_backbones(monkeypatch: pytest.MonkeyPatch, *names: str) -> dict[str, Any]:
    """The documents of a few backbones; the others take long."""
    monkeypatch.setattr(BACKBONES, "names", lambda: list(names))
    return {document["name"]: document for document in describe_backbones(lambda _: None)}


def test_a_backbone_in_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = some_backbones(monkeypatch, "cnn_compact", "vgg16")
    real = BACKBONES["cnn_compact"].build(16)
    assert documents["cnn_compact"] == {
        "name": "cnn_compact",
        "family": "cnn",
        "parameters": real.count_params(),
        "layers": len(real.layers),
        "smallest_size": 16,
        "preprocessing": "RGB / 127.5 - 1",
        "imagenet": False,
        "imagenet_offline": False,
        "neck": None,
    }
    assert documents["vgg16"]["parameters"] == 14_714_688
    assert documents["vgg16"]["imagenet"]


def test_one_network_under_two_names_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[str] = []
    monkeypatch.setattr(BACKBONES, "names", lambda: ["resnet50", "resnet50_ippm"])
    plain, with_neck = describe_backbones(named.append)
    assert named == ["resnet50"]
    assert (plain["neck"], with_neck["neck"]) == (None, "ippm")
    assert plain["parameters"] == with_neck["parameters"] == 23_587_712


def test_weights_are_offline_when_keras_has_their_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert not some_backbones(monkeypatch, "vgg16")["vgg16"]["imagenet_offline"]
    file = tmp_path / "models" / BACKBONES["vgg16"].imagenet_file
    file.parent.mkdir()
    file.write_bytes(b"")
    assert some_backbones(monkeypatch, "vgg16", "cnn_compact")["vgg16"]["imagenet_offline"]


class Asked(Exception):  # noqa: N818 - it is no error
    """Keras asked for a file."""


@pytest.fixture
def networks_are_hollow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A layer gives back what it gets, so that building takes no time; no file is fetched."""

    def same(_layer: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        return inputs[0] if isinstance(inputs, list | tuple) else inputs

    def asked(file: str, *_: Any, **__: Any) -> None:
        raise Asked(file)

    monkeypatch.setattr(keras.layers.Layer, "__call__", same)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", asked)
    yield
    keras.utils.clear_session(free_memory=False)


@pytest.mark.usefixtures("networks_are_hollow")
@pytest.mark.parametrize("name", some_fast(WITH_IMAGENET, "mobilenetv3small", "vgg16"))
def test_the_file_is_the_one_that_keras_asks_for(name: str) -> None:
    spec: BackboneSpec = BACKBONES[name]
    assert spec.imagenet
    with pytest.raises(Asked) as asked:
        spec.imagenet()
    assert spec.imagenet_file == str(asked.value)


def test_a_file_is_named_where_there_are_weights() -> None:
    assert WITH_IMAGENET
    for name in BACKBONES.names():
        assert (BACKBONES[name].imagenet_file is None) == (name not in WITH_IMAGENET)


def test_nothing_of_a_network_without_weights_is_remembered() -> None:
    with summary.without_weights():
        model = keras.Model(inputs := keras.Input((3,)), keras.layers.Dense(2)(inputs))
        first = [layer.name for layer in model.layers]
        assert model.count_params() == 8
    kernel = weakref.ref(model.layers[1].kernel)
    del model, inputs
    gc.collect()
    assert kernel() is None
    with pytest.raises(ZeroDivisionError), summary.without_weights():
        raise ZeroDivisionError
    dense = keras.layers.Dense(2)
    dense.build((None, 3))
    assert dense.name == first[1]
    assert np.any(dense.kernel)


# classes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "contempt", "count"),
    [
        ("rafdb", "keep", 7),
        ("fer2013", "keep", 7),
        ("opencv_emotion", "keep", 7),
        ("affectnet", "keep", 8),
        ("affectnet", "drop", 7),
        ("drawn", "disgust", 7),
        ("folder", "keep", 8),
    ],
)
def test_the_classes_of_a_dataset_that_is_not_there(name: str, contempt: str, count: int) -> None:
    config = Dataset.model_validate({"name": name, "root": "nowhere", "contempt": contempt})
    assert expected_classes(config) == EXPRESSIONS[:count]


def test_every_dataset_knows_its_classes() -> None:
    for name in DATASETS.names():
        spec: DatasetSpec = DATASETS[name]
        assert spec.classes in (EXPRESSIONS, EXPRESSIONS[:7])


def test_the_classes_are_those_that_reading_finds(drawn_root: Path) -> None:
    config = Dataset(name="drawn", root=drawn_root)
    assert DATASETS["drawn"].read(config).classes == expected_classes(config)


# fer models show -------------------------------------------------------------------------------

STAGES: list[dict[str, Any]] = [
    {"train": "head"},
    {"train": {"last": 12}, "freeze_batch_norm": True, "layer_decay": 0.5, "optimizer": "sgd"},
    {"train": "all"},
]


def test_the_document_is_what_training_would_find() -> None:
    config = experiment(*STAGES)
    document, _ = describe_model(config)
    keras.utils.clear_session()
    model = build_model(config.model, 24, 7)
    resolved = resolve_stages(model, config.stages, config.model)
    assert list(document) == [
        *("name", "backbone", "weights", "image_size", "classes", "parameters", "layers"),
        *("trainable_parameters", "first_trainable_layer", "stages"),
    ]
    assert document["parameters"] == model.count_params()
    assert document["classes"] == list(EXPRESSIONS[:7])
    for key in ("trainable_parameters", "first_trainable_layer"):
        expected = [getattr(stage, key) for stage in resolved]
        assert document[key] == expected
        assert [stage[key] for stage in document["stages"]] == expected
    assert [stage["layers"] for stage in document["stages"]] == [0, 12, document["layers"]]
    assert document["stages"][1] == {
        "name": "s1",
        "train": {"last": 12},
        "epochs": 2,
        "learning_rate": 0.1,
        "optimizer": "sgd",
        "layer_decay": 0.5,
        "freeze_batch_norm": True,
        "trainable_parameters": document["trainable_parameters"][1],
        "first_trainable_layer": document["first_trainable_layer"][1],
        "layers": 12,
    }
    assert json.loads(json.dumps(document)) == document


def test_batch_norm_is_frozen_by_default_unless_weights_are_random() -> None:
    for weights, frozen in (("none", False), ("imagenet", True), ("run:x", True)):
        document, _ = describe_model(experiment({"train": "all"}, weights=weights))
        assert [stage["freeze_batch_norm"] for stage in document["stages"]] == [frozen]


def test_the_plan_has_a_place_for_every_layer() -> None:
    document, plan = describe_model(experiment(*STAGES))
    layers = document["layers"]
    assert plan.scales.shape == (3, layers) == (3, len(plan.blocks))
    assert not plan.scales[0].any()
    assert not plan.scales[1, :-12].any()
    norms = plan.norms[-12:]
    assert norms.any()
    assert np.array_equal(plan.scales[1, -12:] == 0, norms)
    assert set(plan.scales[1, -12:][~norms]) <= {1, 0.5, 0.25, 0.125, 0.0625}
    assert (plan.scales[2] == 1).all()


def test_the_outermost_blocks_are_named() -> None:
    _, plan = describe_model(
        Experiment.model_validate(
            experiment({"train": {"from": "block5"}}).model_dump(by_alias=True)
            | {"image": {"size": 32}, "model": {"backbone": "vgg16"}}
        )
    )
    assert dict.fromkeys(plan.blocks) == dict.fromkeys(["", *(f"block{n}" for n in range(1, 6))])
    free = np.flatnonzero(plan.scales[0])
    assert {plan.blocks[layer] for layer in free} == {"block5"}


def test_a_neck_is_seen() -> None:
    neck = {"name": "ippm", "filters": 8, "convolutions": [8]}
    document, plan = describe_model(experiment({"train": "head"}, neck=neck))
    assert plan.has_neck
    assert document["first_trainable_layer"][0].startswith("neck_")


def test_every_wrong_stage_is_named_without_data() -> None:
    wrong = experiment({"train": {"last": 2000}}, {"train": {"from": "conv2d_999"}})
    with pytest.raises(ConfigError, match=r"'s0': last: 2000 of 49(?s:.*)'s1': .*'conv2d_999'"):
        describe_model(wrong)
