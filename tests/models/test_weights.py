"""The first weights of a backbone, from every kind of source, and every way they do not fit."""

import functools
import hashlib
import json
import os
import signal
import tempfile
import urllib.error
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from messages import says
from numpy.typing import NDArray
from tiers import some_fast
from typer.testing import Result

from fer_bench.config.loading import load_experiment
from fer_bench.config.model import Model
from fer_bench.errors import ConfigError, RunError
from fer_bench.models import weight_source, weights
from fer_bench.models.backbone_spec import BackboneSpec
from fer_bench.models.build import backbone_layers, build_model, head_layers
from fer_bench.models.weights import load_weights
from fer_bench.registry import Registry
from fer_bench.training import session
from fer_bench.training import steps as steps_module

Fer = Callable[..., Result]
WriteConfig = Callable[..., Path]
Named = tuple[str, NDArray[Any]]
NOWHERE = Path("nowhere")


def config(first: object = "none", backbone: str = "cnn_compact") -> Model:
    return Model(backbone=backbone, weights=str(first))


def with_values(model: Any, seed: int = 0) -> Any:
    """`model` with another value in every place, such that features stay near 1."""
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        layer.set_weights(
            [generator.uniform(0.5, 1.5, w.shape) / np.prod(w.shape[:-1]) for w in layer.weights]
        )
    return model


@functools.cache
def source() -> Any:
    """A model of 7 classes that others start from. Read only."""
    return with_values(build_model(config(), 16, 7))


@functools.cache
def built() -> tuple[Any, list[NDArray[Any]]]:
    model = with_values(build_model(config(), 16, 5), seed=1)
    return model, model.get_weights()


@pytest.fixture
def target() -> Any:
    """A model of the same backbone and 5 classes, as if just built."""
    model, first = built()
    model.set_weights(first)
    return model


def backbone_of(model: Any) -> Any:
    return keras.Model(model.input, backbone_layers(model)[-1].output)


def values(some: Sequence[Any]) -> list[NDArray[Any]]:
    return [value for layer in some for value in layer.get_weights()]


def equal(some: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether layers, or values, are the same to the last bit."""
    pairs = zip(
        *(each if isinstance(each[0], np.ndarray) else values(each) for each in (some, other)),
        strict=True,
    )
    return all(np.array_equal(one, other) for one, other in pairs)


def digest_of(model: Any) -> str:
    parts = b"".join(value.tobytes() for value in values(backbone_layers(model)))
    return hashlib.sha256(parts).hexdigest()[:12]


# What Keras has written ------------------------------------------------------------------------


def write_legacy(
    file: h5py.Group, saved: Sequence[tuple[str, Sequence[Named]]], *, chunks: int = 1
) -> None:
    """The layout of Keras 2: a group and a list of weight names for each layer, in order."""
    names = np.array([name.encode() for name, _ in saved])
    for chunk, part in enumerate(np.array_split(names, chunks)):
        file.attrs["layer_names" if chunks == 1 else f"layer_names{chunk}"] = part
    for name, named in saved:
        group = file.create_group(name)
        group.attrs["weight_names"] = np.array([key.encode() for key, _ in named])
        for key, value in named:
            group[key] = value


def legacy_layers(model: Any, name: str = "{}") -> list[tuple[str, list[Named]]]:
    """Layers of `model` as `write_legacy` wants them; `name` makes the name, of its number."""
    saved = []
    for number, layer in enumerate(model.layers):
        called = name.format(number) if name != "{}" else layer.name
        named = [(f"{called}/{w.name}:0", np.array(w)) for w in layer.weights]
        saved.append((called, named))
    return saved


def published(path: Path) -> None:
    """As keras.applications publishes: no top, on the highest level, with names of its own."""
    with h5py.File(path, "w") as file:
        write_legacy(file, legacy_layers(backbone_of(source()), "block/{}"))


def published_without_scopes(path: Path) -> None:
    """As the oldest of them, VGG: weights that do not name their layer."""
    saved = [
        (f"block_{number}", [(f"block_{number}_W_{i}:0", w) for i, w in enumerate(values([layer]))])
        for number, layer in enumerate(backbone_of(source()).layers)
    ]
    with h5py.File(path, "w") as file:
        write_legacy(file, saved, chunks=3)


def by_name(path: Path) -> None:
    """The names of the target, but the order turned around."""
    model, _ = built()
    saved = [
        (own.name, [(f"{own.name}/{i}", value) for i, value in enumerate(values([layer]))])
        for own, layer in zip(backbone_layers(model), backbone_layers(source()), strict=True)
    ]
    with h5py.File(path, "w") as file:
        write_legacy(file.create_group("model_weights"), saved[::-1])


def nested() -> Any:
    """The backbone as one layer of a model, as much teaching code has it."""
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            backbone_of(source()),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )


def first_of_keras_3(path: Path) -> None:
    """As TensorFlow 2.13 wrote: the container's other name, and no names of layers."""
    source().save_weights(path)
    with h5py.File(path, "a") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
        for group in file["_layer_checkpoint_dependencies"].values():
            del group["vars"].attrs["name"]


KINDS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "whole model": ("m.keras", lambda path: source().save(path)),
    "weights": ("m.weights.h5", lambda path: source().save_weights(path)),
    "backbone alone": ("m.weights.h5", lambda path: backbone_of(source()).save_weights(path)),
    "TensorFlow 2.13": ("m.weights.h5", first_of_keras_3),
    "legacy whole model": ("m.h5", lambda path: source().save(path)),
    "published": ("m_notop.h5", published),
    "published without scopes": ("m_notop.h5", published_without_scopes),
    "legacy by name": ("m.h5", by_name),
    "nested model": ("m.keras", lambda path: nested().save(path)),
    "nested weights": ("m.weights.h5", lambda path: nested().save_weights(path)),
    "nested legacy": ("m.h5", lambda path: nested().save(path)),
}


@functools.cache
def content(kind: str) -> bytes:
    name, write = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


@pytest.mark.parametrize(
    "kind", some_fast(KINDS, "whole model", "weights", "published", "legacy by name")
)
def test_every_kind_of_file(kind: str, target: Any, tmp_path: Path) -> None:
    name, _ = KINDS[kind]
    (tmp_path / name).write_bytes(content(kind))
    head = values(head_layers(target))
    assert not equal(backbone_layers(target), backbone_layers(source()))
    digest = load_weights(target, config(tmp_path / name), NOWHERE)
    assert equal(backbone_layers(target), backbone_layers(source()))
    assert digest == digest_of(source())
    assert equal(head_layers(target), head)


def test_the_features_are_those_of_the_source(target: Any, tmp_path: Path) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype(np.float32)
    (tmp_path / "m.keras").write_bytes(content("whole model"))
    load_weights(target, config(tmp_path / "m.keras"), NOWHERE)
    expected = backbone_of(source())(images)
    assert np.std(expected) > 0
    np.testing.assert_allclose(backbone_of(target)(images), expected, rtol=1e-5, atol=1e-5)


def test_nothing_is_loaded_where_the_start_is_random(target: Any) -> None:
    before = values(target.layers)
    assert load_weights(target, config(), NOWHERE) is None
    assert equal(target.layers, before)


def test_the_constants_of_the_preprocessing_stay(tmp_path: Path) -> None:
    def network(mean: float) -> Any:
        inputs = keras.Input((8, 8, 3))
        normalization = layers.Normalization()
        x = layers.Conv2D(2, 1)(normalization(inputs))
        normalization.adapt_mean.assign([mean] * 3)
        return keras.Model(inputs, x)

    saved, model = network(7), network(9)
    saved.save_weights(tmp_path / "m.weights.h5")
    load_weights(model, config(tmp_path / "m.weights.h5"), NOWHERE)
    assert model.layers[1].adapt_mean.numpy().tolist() == [9, 9, 9]
    assert equal(model.layers[2:], saved.layers[2:])


# What does not fit -----------------------------------------------------------------------------


def refusal(target: Any, first: object, outputs: Path = NOWHERE) -> str:
    """The message with which `first` is refused, after which `target` is as it was."""
    before = values(target.layers)
    with pytest.raises(ConfigError) as raised:
        load_weights(target, config(first), outputs)
    assert equal(target.layers, before)
    return str(raised.value)


def test_one_layer_of_another_shape(target: Any, tmp_path: Path) -> None:
    saved = legacy_layers(backbone_of(source()), "block_{}")
    places = [number for number, (_, named) in enumerate(saved) if named]
    name, _ = saved[places[4]]
    saved[places[4]] = (name, [(f"{name}/kernel:0", np.zeros((5, 5, 64, 64), np.float32))])
    with h5py.File(tmp_path / "m.h5", "w") as file:
        write_legacy(file, saved)
    message = refusal(target, tmp_path / "m.h5")
    layer = [layer for layer in backbone_layers(target) if layer.weights][4]
    shape = "x".join(map(str, layer.weights[0].shape))
    says(message, "cnn_compact", f"layer '{layer.name}' has {shape} ", "5x5x64x64", f"'{name}'")
    says(message, f"{len(places) - 1} of its {len(places)} layers", "change model.backbone")


def test_fewer_layers_than_the_backbone_has(target: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        write_legacy(file, legacy_layers(backbone_of(source()), "block_{}")[:-3])
    message = refusal(target, tmp_path / "m.h5")
    last = [layer for layer in backbone_layers(target) if layer.weights][-1]
    says(message, f"layer '{last.name}' has 256 + 256 + 256 + 256 here", "no layer is left")


def test_a_dense_layer_of_another_image_size(tmp_path: Path) -> None:
    build_model(config(backbone="cnn_slides"), 62, 7).save_weights(tmp_path / "m.weights.h5")
    model = build_model(config(backbone="cnn_slides"), 46, 7)
    with pytest.raises(ConfigError) as raised:
        load_weights(model, config(tmp_path / "m.weights.h5", "cnn_slides"), NOWHERE)
    says(raised.value, "layer 'dense", "256x512 + 512 here", "1024x512 + 512")
    says(raised.value, "9 of its 10 layers", "image.size is 46")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers(bad: float, target: Any, tmp_path: Path) -> None:
    saved = legacy_layers(backbone_of(source()), "block_{}")
    name, named = next((name, named) for name, named in saved if named)
    named[0][1][..., 0] = bad
    with h5py.File(tmp_path / "m.h5", "w") as file:
        write_legacy(file, saved)
    message = refusal(target, tmp_path / "m.h5")
    says(message, f"layer '{name}'", "not finite")


def test_a_missing_file(target: Any, tmp_path: Path) -> None:
    (tmp_path / "vgg16_notop.h5").touch()
    message = refusal(target, tmp_path / "vgg16_no_top.h5")
    assert f"{tmp_path / 'vgg16_no_top.h5'}: no such file" in message
    assert "Did you mean 'vgg16_notop.h5'?" in message
    assert "Found there: vgg16_notop.h5." in refusal(target, tmp_path / "x.keras")
    assert "no such file" in refusal(target, tmp_path / "no" / "folder" / "x.keras")


@pytest.mark.parametrize("part", some_fast([0, 0.1, 0.5, 0.99], 0, 0.5))
@pytest.mark.parametrize("kind", ["whole model", "weights", "legacy whole model"])
def test_a_file_that_was_cut_off(kind: str, part: float, target: Any, tmp_path: Path) -> None:
    name, _ = KINDS[kind]
    whole = content(kind)
    (tmp_path / name).write_bytes(whole[: int(len(whole) * part)])
    message = refusal(target, tmp_path / name)
    says(message, tmp_path / name, ".weights.h5, .h5 or .keras")


def test_a_file_of_another_kind(target: Any, tmp_path: Path) -> None:
    (tmp_path / "face.h5").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    assert "not a file of Keras weights" in refusal(target, tmp_path / "face.h5")
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert "There is no item named 'model.weights.h5'" in refusal(target, tmp_path / "m.keras")
    with h5py.File(tmp_path / "table.h5", "w") as file:
        file["measurements"] = np.arange(3)
    message = refusal(target, tmp_path / "table.h5")
    says(message, "no layers", "'measurements'", ".weights.h5, .h5 or .keras")


# ImageNet --------------------------------------------------------------------------------------


@pytest.fixture
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.slow
def test_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = config("imagenet", "mobilenetv3small")
    model, path = build_model(small, 32, 7), tmp_path / "notop.h5"
    published = with_values(backbone_of(model), seed=3)
    expected = values(published.layers)
    with h5py.File(path, "w") as file:
        write_legacy(file, legacy_layers(published, "Conv/{}"))
    with_values(model)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(path))
    digest = load_weights(model, small, NOWHERE)
    assert equal(backbone_layers(model), expected)
    assert digest == digest_of(model)


def test_imagenet_without_a_network(
    target: Any,
    keras_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def offline(*_: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", offline)
    keras.config.enable_interactive_logging()
    with pytest.raises(ConfigError) as raised:
        load_weights(target, config("imagenet", "vgg16"), NOWHERE)
    message, name = str(raised.value), "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    says(message, "vgg16", "(Name or service not", f"keras-applications/vgg16/{name}")
    says(message, keras_home / "models" / name, "6d6bbae143d832006294945121d1f1fc", "$KERAS_HOME")
    assert capfd.readouterr().out == ""
    assert keras.config.is_interactive_logging_enabled()


def test_imagenet_through_a_network_that_answers_something_else(
    target: Any, keras_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def portal(_: str, path: str, *__: object) -> None:
        Path(path).write_text("<html>Please log in</html>")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", portal)
    with pytest.raises(ConfigError, match="Incomplete or corrupted file") as raised:
        load_weights(target, config("imagenet", "vgg16"), NOWHERE)
    assert str(keras_home / "models" / "vgg16") in str(raised.value)


def test_a_backbone_without_imagenet_weights(target: Any) -> None:
    message = refusal(target, "imagenet")
    says(message, "no ImageNet weights for cnn_compact", "vgg16")
    assert "cnn_pisa" not in message


def test_a_bug_is_not_taken_for_a_failed_download(
    target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def imagenet() -> Any:
        raise ValueError("a bug")

    registry: Registry[Any] = Registry("backbone", "fer_bench.models.backbones")
    registry.register("cnn_compact", BackboneSpec(lambda _: None, "cnn", 16, imagenet=imagenet))
    for module in (weights, weight_source):
        monkeypatch.setattr(module, "BACKBONES", registry)
    with pytest.raises(ValueError, match="a bug"):
        load_weights(target, config("imagenet"), NOWHERE)


# Another run -----------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, tiny: dict[str, Any], write_config: WriteConfig) -> Path:
    """A finished run of `source`, in `tmp_path / "outputs"`."""
    folder = tmp_path / "outputs" / "pretrained-s7-0123abcd"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": "finished"}))
    (folder / "config.yaml").write_text(load_experiment(write_config(tiny)).to_yaml())
    (folder / "model.keras").write_bytes(content("whole model"))
    return folder


def test_the_backbone_of_a_run(run: Path, target: Any) -> None:
    digest = load_weights(target, config(f"run:{run.name}"), run.parent)
    assert equal(backbone_layers(target), backbone_layers(source()))
    assert digest == digest_of(source())


def test_a_run_that_is_not_finished(run: Path, target: Any) -> None:
    (run / "run.json").write_text(json.dumps({"status": "interrupted"}))
    with pytest.raises(RunError) as raised:
        load_weights(target, config(f"run:{run.name}"), run.parent)
    file = run / "config.yaml"
    says(raised.value, f"run:{run.name}", "(status: interrupted)", f"fer train {file}")


def test_a_run_of_another_backbone(run: Path, target: Any) -> None:
    text = (run / "config.yaml").read_text()
    text = text.replace("cnn_compact", "cnn_pisa").replace("size: 24", "size: 78")
    (run / "config.yaml").write_text(text)
    message = refusal(target, f"run:{run.name}", run.parent)
    says(message, "the backbone cnn_pisa", "this experiment has cnn_compact")


def test_an_unknown_run(run: Path, target: Any) -> None:
    with pytest.raises(RunError, match=f"no run called 'other'; it holds {run.name}"):
        load_weights(target, config("run:other"), run.parent)


def test_a_damaged_run(run: Path, target: Any) -> None:
    (run / "model.keras").write_bytes((run / "model.keras").read_bytes()[:5000])
    assert f"{run / 'model.keras'}: incomplete" in refusal(target, f"run:{run.name}", run.parent)


# Training --------------------------------------------------------------------------------------


def interrupt_at_step(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    build, done = steps_module.build_train_steps, 0

    def build_counting(*arguments: Any) -> Any:
        steps = build(*arguments)

        def counting(batches: Any, rates: Any, first_step: int) -> None:
            nonlocal done
            steps(batches, rates, first_step)
            done += len(rates)
            if done == number:
                os.kill(os.getpid(), signal.SIGINT)

        return counting

    monkeypatch.setattr(session, "SECONDS_PER_CALL", 0.0)  # one step in a call
    monkeypatch.setattr(steps_module, "build_train_steps", build_counting)


@pytest.mark.slow
def test_a_run_fine_tunes_another_and_resumes_without_it(
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    trained_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The source has 8 classes, this run 7 (no contempt), and it trains the head only."""
    document = tiny | {
        "dataset": tiny["dataset"] | {"contempt": "drop"},
        "model": tiny["model"] | {"weights": f"run:{trained_run.name}"},
        "stages": tiny["stages"][:1],
    }
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / trained_run.name).symlink_to(trained_run)
    with monkeypatch.context() as patch:
        interrupt_at_step(patch, 2)
        stopped = fer("train", write_config(document), "--outputs", outputs)
    assert stopped.exit_code == 130, stopped.output
    (outputs / trained_run.name).unlink()
    resumed = fer("train", write_config(document), "--outputs", outputs)
    assert resumed.exit_code == 0, resumed.output
    assert "resuming at epoch" in resumed.stderr

    run = outputs / resumed.stdout.strip().splitlines()[-1]
    tuned, pretrained = (
        keras.models.load_model(folder / "model.keras", compile=False)
        for folder in (run, trained_run)
    )
    assert tuned.output.shape[-1] == 7
    assert pretrained.output.shape[-1] == 8
    assert equal(backbone_layers(tuned), backbone_layers(pretrained))
    recorded = json.loads((run / "run.json").read_text())["model"]
    assert recorded["weights"] == f"run:{trained_run.name}"
    assert recorded["weights_digest"] == digest_of(pretrained)
    assert json.loads((trained_run / "run.json").read_text())["model"]["weights_digest"] is None


def test_missing_weights_are_noticed_before_the_data_is_read(
    fer: Fer, write_config: WriteConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    document = tiny | {
        "dataset": tiny["dataset"] | {"root": str(tmp_path / "no_data")},
        "model": tiny["model"] | {"weights": str(tmp_path / "vgg.h5")},
    }
    refused = fer("train", write_config(document), "--outputs", tmp_path / "outputs")
    assert refused.exit_code == 2
    assert f"{tmp_path / 'vgg.h5'}: no such file" in refused.stderr
    assert not list((tmp_path / "outputs").glob("*"))
