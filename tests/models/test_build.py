"""Backbone, head and logits."""

import base64
import json
import marshal
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from messages import says

from fer_bench.config.model import Head, Model
from fer_bench.errors import ConfigError, RunError
from fer_bench.models.build import (
    LOGITS,
    backbone_layers,
    build_model,
    head_layers,
    is_batch_norm,
    load_model,
)
from fer_bench.models.kernels import use_fast_kernels


def build(backbone: str = "cnn_compact", size: int = 16, **head: Any) -> Any:
    config = Model(backbone=backbone, head=Head(**head) if head else None)
    return build_model(config, size, 7)


def names(layers: list[Any]) -> list[str]:
    return [layer.name for layer in layers]


def test_the_default_head_of_a_feature_map() -> None:
    assert names(head_layers(build())) == ["head_pool", "head_logits"]


def test_the_default_head_of_a_vector() -> None:
    assert names(head_layers(build("cnn_slides", 46))) == ["head_logits"]


def test_a_head_with_everything_in_its_order() -> None:
    model = build(pooling="max", dense=(16, 8), activation="gelu", dropout=0.5, l2=0.1)
    expected = ["head_pool", "head_dense_0", "head_dense_1", "head_dropout", LOGITS]
    assert names(head_layers(model)) == expected
    assert names(model.layers) == names(backbone_layers(model)) + expected
    dense = model.get_layer("head_dense_1")
    assert dense.units == 8
    assert dense.activation is keras.activations.gelu
    assert model.get_layer("head_dropout").rate == 0.5


@pytest.mark.parametrize(
    ("pooling", "features"), [("avg", 256), ("max", 256), ("flatten", 2 * 2 * 256)]
)
def test_pooling_of_a_feature_map(pooling: str, features: int) -> None:
    kernel = build(pooling=pooling).get_layer(LOGITS).kernel
    assert kernel.shape == (features, 7)


@pytest.mark.parametrize("pooling", ["none", "flatten"])
def test_pooling_of_a_vector(pooling: str) -> None:
    assert build("cnn_slides", 46, pooling=pooling).get_layer(LOGITS).kernel.shape == (512, 7)


def test_a_feature_map_needs_pooling() -> None:
    with pytest.raises(
        ConfigError, match=r"model\.head\.pooling: cnn_compact.*avg, max or flatten"
    ):
        build(pooling="none")


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_a_vector_cannot_be_pooled(pooling: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.head\.pooling: .*none.*'{pooling}'"):
        build("cnn_slides", 46, pooling=pooling)


def test_the_l2_penalty_is_that_of_the_dense_kernels() -> None:
    model = build(dense=(16,), l2=0.5)
    (penalty,) = model.losses
    kernel = np.asarray(model.get_layer("head_dense_0").kernel)
    assert float(penalty) == pytest.approx(0.5 * np.square(kernel).sum(), rel=1e-5)
    assert build(dense=(16,)).losses == []


def test_the_published_penalty_stays_in_the_model() -> None:
    (penalty,) = build("cnn_pisa_l2", 78).losses
    assert float(penalty) > 0


def test_dropout_acts_in_training_only() -> None:
    model = build(dropout=0.5)
    image = np.full((1, 16, 16, 3), 128, np.float32)
    assert np.array_equal(model(image, training=False), model(image, training=False))
    assert not np.array_equal(model(image, training=True), model(image, training=True))


@pytest.mark.parametrize(
    ("momentum", "kept"),
    [
        (0.5, 0.5),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in ((None, 0.95), (0.0, 0.0))),
    ],
)
@pytest.mark.parametrize("fast", [False, True])
def test_batch_norm_has_the_given_momentum(momentum: float | None, kept: float, fast: bool) -> None:
    model = build_model(Model(backbone="cnn_compact", batch_norm_momentum=momentum), 16, 7)
    norm = next(filter(is_batch_norm, model.layers))
    if fast:
        use_fast_kernels(model, "cpu")
    images = np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3)).astype(np.float32)
    before = np.asarray(norm.moving_mean)
    of_batch = np.asarray(keras.Model(model.input, norm.input)(images)).mean(axis=(0, 1, 2))
    model(images, training=True)
    moved = kept * before + (1 - kept) * of_batch
    assert np.allclose(norm.moving_mean, moved, atol=1e-5)
    assert model.get_config()["layers"][model.layers.index(norm)]["config"]["momentum"] == kept


def test_the_model_bears_the_name_of_its_backbone() -> None:
    model = build()
    assert model.name == "cnn_compact"
    assert model.input_shape == (None, 16, 16, 3)
    assert model.output_shape == (None, 7)


def test_equal_seeds_give_equal_weights() -> None:
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        models.append(build().get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*models, strict=True))


# A saved model ---------------------------------------------------------------------------------


def saved(folder: Path) -> Path:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="relu", name="answer")(inputs))
    model.save(folder / "model.keras")
    return folder / "model.keras"


def with_config(path: Path, change: Callable[[Any], Any]) -> None:
    """Replace `config.json` in a saved model by what `change` makes of it."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["config.json"] = json.dumps(change(json.loads(files["config.json"]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def with_layer(**changes: Any) -> Callable[[Any], Any]:
    """Change the description of the last layer."""

    def change(document: Any) -> Any:
        document["config"]["layers"][-1] |= changes
        return document

    return change


def with_activation(activation: Any) -> Callable[[Any], Any]:
    def change(document: Any) -> Any:
        document["config"]["layers"][-1]["config"]["activation"] = activation
        return document

    return change


# Either would create the file `executed` in the working directory.
COMMAND = "touch executed"
CODE = base64.b64encode(marshal.dumps(compile(f"import os; os.system('{COMMAND}')", "", "exec")))


CHANGES: list[Callable[[Any], Any]] = [
    lambda _: [],
    lambda _: None,
    lambda _: {},
    lambda document: document | {"config": None},
    lambda document: document | {"config": [COMMAND]},
    with_layer(module="os", class_name="system", config={"command": COMMAND}),
    with_layer(module="subprocess", class_name="Popen", config={"args": COMMAND}),
    with_layer(module="elsewhere", class_name="Mine", registered_name="elsewhere>Mine"),
    with_layer(
        module="keras.layers",
        class_name="Lambda",
        config={
            "name": "answer",
            "function": {
                "class_name": "__lambda__",
                "config": {"code": CODE.decode(), "defaults": None, "closure": None},
            },
        },
    ),
    with_activation({"module": "os", "class_name": "function", "config": "system"}),
    with_activation({"module": "builtins", "class_name": "function", "config": "exec"}),
]
IDS = "list,null,empty,config null,config list,os.system,Popen,custom layer,Lambda,function,exec"


@pytest.mark.parametrize("change", CHANGES, ids=IDS.split(","))
def test_a_model_that_needs_other_code_is_refused_and_executes_nothing(
    change: Callable[[Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path)
    assert load_model(path).get_layer("answer")
    with_config(path, change)
    with pytest.raises(RunError) as error:
        load_model(path)
    says(error.value, path, "--fresh")
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_that_is_no_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    os.mkfifo(path)
    with pytest.raises(RunError) as error:
        load_model(path)
    says(error.value, path, "pipe")


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError) as error:
        load_model(path)
    says(error.value, path, "--fresh")
