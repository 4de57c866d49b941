"""What every registered backbone promises.

Each is built, saved, loaded and trained once; the tests of one backbone follow each other, so that
only one of the large networks is in memory.
"""

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from rounding import rounding

from fer_bench.config.experiment import Experiment
from fer_bench.config.model import Model
from fer_bench.config.training import Stage, Training
from fer_bench.data.datasets.drawn.face import draw_face
from fer_bench.models.backbone_spec import BackboneSpec
from fer_bench.models.build import HEAD_PREFIX, backbone_layers, build_model, head_layers
from fer_bench.models.freezing import set_trainable
from fer_bench.models.kernels import use_fast_kernels
from fer_bench.models.neck import NECK_PREFIX
from fer_bench.registry import BACKBONES
from fer_bench.training.losses import Objective
from fer_bench.training.optimizers import build_optimizer
from fer_bench.training.steps import Totals, build_train_step

CLASSES = 7
NAMES = BACKBONES.names()
# The smallest one, and one whose output is a vector.
FAST = ("cnn_compact", "cnn_slides")
# One of each further family whose networks are small enough.
SLOW = ("mobilenetv3small", "vgg16")
# Every copy of one of these takes many seconds.
LARGE = ("efficientnetv2l", "inceptionresnetv2", "resnet152v2")
SMALL = ("cnn_compact", "cnn_pisa", "cnn_pisa_l2", "cnn_slides", "mobilenetv3small", "vgg16")
Array = NDArray[np.float32]
Norm = keras.layers.BatchNormalization


@dataclass(frozen=True)
class Subject:
    """A backbone with its default head, and what it says of eight faces."""

    name: str
    spec: BackboneSpec
    model: Any
    faces: Array
    logits: Array


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(0)


def marked(name: str) -> Any:
    """Backbones that are not fast are tested in the tiers `slow` and `large`."""
    if name in FAST:
        return name
    return pytest.param(name, marks=pytest.mark.slow if name in SLOW else pytest.mark.large)


@pytest.fixture(scope="module", params=[marked(name) for name in NAMES])
def subject(request: pytest.FixtureRequest) -> Subject:
    """At its smallest size of 32 pixels or more; read only."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    spec: BackboneSpec = BACKBONES[request.param]
    size = max(32, spec.smallest_size)
    with drawn_quickly():
        model = build_model(Model(backbone=request.param), size, CLASSES)
    settle(model, drawn_faces(size, 0, 32))
    faces = drawn_faces(size, 0, 8)
    return Subject(request.param, spec, model, faces, np.asarray(model(faces, training=False)))


@pytest.fixture(scope="module")
def archive(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    subject.model.save(path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def loaded(subject: Subject, archive: Path) -> tuple[Any, Array, dict[str, int]]:
    """The saved and loaded model, what it says on the kernels of Keras, and its weights."""
    with drawn_quickly():
        model = keras.models.load_model(archive, compile=False, safe_mode=True)
    return model, np.asarray(model(subject.faces, training=False)), fingerprints(model)


@pytest.fixture(scope="module")
def trainable(loaded: tuple[Any, Array, dict[str, int]]) -> Any:
    """The saved and loaded model as it trains, on fast kernels."""
    model, *_ = loaded
    use_fast_kernels(model, "cpu")
    return model


def drawn_faces(size: int, first: int, count: int) -> Array:
    faces = [draw_face(5, first + index, size).image for index in range(count)]
    return np.stack(faces).astype(np.float32)


def settle(model: Any, faces: Array) -> None:
    """Give BatchNorm layers the statistics of `faces`.

    With those that they are made with, activations vanish or explode from block to block, and
    logits of 1e-11 or 1e4 show little. Without dropout, since the statistics are to be those of
    inference.
    """
    with (
        each_set(model, Norm, "momentum", 0.0),
        each_set(model, keras.layers.Dropout, "rate", 0.0),
    ):
        model(faces, training=True)


@contextmanager
def each_set(model: Any, kind: type, attribute: str, value: float) -> Iterator[None]:
    """The attribute of every layer of that kind, set for a while."""
    layers = [layer for layer in model.layers if isinstance(layer, kind)]
    before = [getattr(layer, attribute) for layer in layers]
    for layer in layers:
        setattr(layer, attribute, value)
    yield
    for layer, own in zip(layers, before, strict=True):
        setattr(layer, attribute, own)


@contextmanager
def drawn_quickly() -> Iterator[None]:
    """Kernels from NumPy: TensorFlow needs seconds for the normal numbers of a large network."""
    generator = np.random.default_rng(0)

    def draw(self: Any, shape: tuple[int, ...], dtype: Any = None) -> Any:
        largest = np.float32(np.sqrt(6 / np.prod(shape[:-1])))
        numbers = generator.random(shape, dtype=np.float32)
        return keras.ops.convert_to_tensor((2 * numbers - 1) * largest, dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.initializers.VarianceScaling, "__call__", draw)
        yield


def is_map(model: Any) -> bool:
    pools = [layer for layer in model.layers if layer.name == HEAD_PREFIX + "pool"]
    return bool(pools) and len(pools[0].input.shape) == 4


def test_it_says_whether_its_convolutions_are_depthwise(subject: Subject) -> None:
    spatial = [
        layer
        for layer in backbone_layers(subject.model)
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
        and layer.kernel_size != (1, 1)
    ]
    depthwise = [layer for layer in spatial if isinstance(layer, keras.layers.DepthwiseConv2D)]
    assert subject.spec.depthwise == (len(depthwise) >= 0.9 * len(spatial))


def test_the_spec_is_known_without_building(subject: Subject) -> None:
    spec = subject.spec
    assert subject.name == subject.name.lower()
    assert spec.family
    assert spec.smallest_size <= 1024
    assert spec.pooling == ("avg" if is_map(subject.model) else "none")
    has_neck = any(layer.name.startswith(NECK_PREFIX) for layer in subject.model.layers)
    assert has_neck == (spec.neck is not None)


def test_the_graph_is_flat(subject: Subject) -> None:
    layers = subject.model.layers
    assert not any(isinstance(layer, keras.Model) for layer in layers)
    assert layers == backbone_layers(subject.model) + head_layers(subject.model)
    assert len({layer.name for layer in layers}) == len(layers)


@pytest.mark.parametrize("name", NAMES)
def test_one_pixel_less_is_refused(name: str) -> None:
    size = BACKBONES[name].smallest_size - 1
    document = {
        "name": "x",
        "dataset": {"name": "drawn"},
        "image": {"size": size},
        "model": {"backbone": name},
        "stages": [{"name": "all", "epochs": 1, "learning_rate": 0.1}],
    }
    with pytest.raises(ValueError, match=f"image.size.*got {size}|image.size\n"):
        Experiment.model_validate(document)


# What preprocesses as `keras.applications` says; MobileNetV3 and EfficientNetV2 do so themselves,
# by the constants of their first layer. For EfficientNetB3 see test_applications.py.
Reference = Callable[[Array], Any]
caffe: Reference = keras.applications.resnet50.preprocess_input
means, deviations = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
REACHES: dict[str, Reference] = {
    "cnn_compact": lambda rgb: rgb / 127.5 - 1,
    "cnn_pisa": lambda rgb: rgb / 255,
    "cnn_pisa_l2": lambda rgb: rgb / 255,
    "cnn_slides": lambda rgb: rgb / 255,
    "efficientnetb3": lambda rgb: (rgb / 255 - means) / deviations,
    "efficientnetv2l": lambda rgb: rgb / 128 - 1,
    "inceptionresnetv2": keras.applications.inception_resnet_v2.preprocess_input,
    "mobilenetv3large": lambda rgb: rgb / 127.5 - 1,
    "mobilenetv3small": lambda rgb: rgb / 127.5 - 1,
    "resnet152v2": keras.applications.resnet_v2.preprocess_input,
    "resnet50": caffe,
    "resnet50_ippm": caffe,
    "vgg16": keras.applications.vgg16.preprocess_input,
    "vgg19": keras.applications.vgg19.preprocess_input,
}


def before_first_convolution(model: Any) -> Any:
    """From the image to what the first convolution sees, without the border around it."""
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    sees, producer = first.input, first.input._keras_history.operation
    if isinstance(producer, keras.layers.ZeroPadding2D):
        sees = producer.input
    return keras.Model(model.input, sees)


def test_the_first_convolution_sees_the_range_and_order_that_it_expects(subject: Subject) -> None:
    assert subject.name in REACHES, f"add to REACHES what {subject.name} makes of RGB in [0, 255]"
    size = subject.faces.shape[1]
    colours = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    colours[0] = (255, 100, 0)  # red, green and blue cannot be mistaken for each other
    expected = REACHES[subject.name](colours.copy())
    seen = np.asarray(before_first_convolution(subject.model)(colours))
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-4)


def test_it_gives_the_same_finite_float32_logits_at_any_batch_size(subject: Subject) -> None:
    logits = subject.logits
    assert logits.shape == (8, CLASSES)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert np.ptp(logits, axis=0).max() > 1e-3, "the logits do not depend on the image"
    first = subject.faces[:1]
    alone = np.asarray(subject.model(first, training=False))
    tolerance = rounding(subject.model, np.repeat(first, 8, axis=0))
    np.testing.assert_allclose(alone, logits[:1], rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [63, 80])
@pytest.mark.parametrize("name", [marked(name) for name in NAMES if name.startswith("cnn_")])
def test_it_builds_at_other_sizes(name: str, size: int) -> None:
    size = max(size, BACKBONES[name].smallest_size)
    assert build_model(Model(backbone=name), size, CLASSES).output_shape == (None, CLASSES)


@contextmanager
def computing_in(model: Any, policy: str) -> Iterator[None]:
    """All but the outputs of `model` in mixed precision, as when it is built so."""
    layers = [layer for layer in model.layers if layer.name != HEAD_PREFIX + "logits"]
    for layer in layers:
        layer.dtype_policy = keras.DTypePolicy(policy)
    yield
    for layer in layers:
        layer.dtype_policy = keras.DTypePolicy("float32")


@pytest.mark.parametrize(
    "policy", [pytest.param("mixed_bfloat16", marks=pytest.mark.bfloat16), "mixed_float16"]
)
def test_in_mixed_precision_the_logits_are_finite_float32(subject: Subject, policy: str) -> None:
    if policy == "mixed_float16" and subject.name in LARGE:
        pytest.skip("takes seconds, for layers of kinds that other backbones have too")
    with computing_in(subject.model, policy):
        logits = np.asarray(subject.model(subject.faces[:2], training=False))
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert not np.array_equal(logits, subject.logits[:2]), "computed in float32"


@pytest.mark.bfloat16
@pytest.mark.parametrize("name", [marked(name) for name in SMALL])
def test_built_in_mixed_precision_all_but_the_logits_is_mixed(name: str) -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    size = BACKBONES[name].smallest_size
    model = build_model(Model(backbone=name), size, CLASSES)
    mixed = [layer for layer in model.layers if layer.name != HEAD_PREFIX + "logits"]
    assert {layer.compute_dtype for layer in mixed} == {"bfloat16"}
    logits = np.asarray(model(drawn_faces(size, 0, 1), training=False))
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_a_saved_model_needs_nothing_but_keras(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        config = json.loads(opened.read("config.json"))
    modules = {layer["module"].partition(".")[0] for layer in config["config"]["layers"]}
    assert modules == {"keras"}


def test_saved_and_loaded_it_is_the_same(
    subject: Subject, loaded: tuple[Any, Array, dict[str, int]]
) -> None:
    model, logits, weights = loaded
    assert names_in(model) == names_in(subject.model)
    assert weights == fingerprints(subject.model)
    tolerance = rounding(subject.model, subject.faces)
    np.testing.assert_allclose(logits, subject.logits, rtol=0, atol=tolerance)


def test_on_fast_kernels_it_says_the_same(subject: Subject, trainable: Any) -> None:
    """A large one in its beginning: rounding grows from layer to layer.

    The untrained EfficientNetV2L makes another answer of an image changed by 1e-7 of itself.
    """
    last = 120 if subject.name in LARGE else -1
    stock, fast = (
        keras.Model(model.input, model.layers[last].output) for model in (subject.model, trainable)
    )
    expected, found = (np.asarray(model(subject.faces)) for model in (stock, fast))
    tolerance = rounding(stock, subject.faces)
    assert tolerance < 0.1 * np.abs(expected).max(), "too coarse to tell kernels apart"
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def names_in(model: Any) -> list[str]:
    return [layer.name for layer in model.layers]


STAGES: list[dict[str, Any]] = [
    {"name": "head", "train": "head"},
    {"name": "tail", "train": {"last": 5}},
    {"name": "all", "train": "all", "freeze_batch_norm": False},
]


@pytest.fixture
def eagerly() -> Iterator[None]:
    """For one step of a large network, tracing costs more than it saves."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_each_stage_trains_its_own_layers(subject: Subject, trainable: Any, eagerly: None) -> None:
    faces, codes = drawn_faces(subject.faces.shape[1], 16, 4), np.arange(4, dtype=np.int32)
    for document in STAGES:
        stage = Stage.model_validate({"epochs": 1, "learning_rate": 1e-3, **document})
        set_trainable(trainable, stage, weights="imagenet")
        expected = expected_to_train(trainable, stage)
        before = fingerprints(trainable)
        gradients = one_step(trainable, stage, faces, codes)
        after = fingerprints(trainable)
        assert set(gradients) == expected
        assert all(gradients.values()), [path for path, any_ in gradients.items() if not any_]
        moved = {path for path in before if before[path] != after[path]}
        assert moved - expected == statistics(trainable, stage)
        assert moved & expected


def expected_to_train(model: Any, stage: Stage) -> set[str]:
    """The paths of the variables that an optimizer should change."""
    layers = backbone_layers(model)
    kinds = {"head": [], "tail": layers[-5:], "all": layers}[stage.name]
    free = [
        layer for layer in kinds if stage.freeze_batch_norm is False or not isinstance(layer, Norm)
    ]
    constants = ("moving_mean", "moving_variance", "seed_generator_state")
    return {
        variable.path
        for layer in (*free, *head_layers(model))
        for variable in layer.weights
        if variable.name not in constants and not isinstance(layer, keras.layers.Normalization)
    }


def statistics(model: Any, stage: Stage) -> set[str]:
    """The paths of the statistics that should move: none, unless BatchNorm layers train."""
    if stage.freeze_batch_norm is not False:
        return set()
    norms = [layer for layer in model.layers if isinstance(layer, Norm)]
    return {variable.path for norm in norms for variable in norm.non_trainable_variables}


def fingerprints(model: Any) -> dict[str, int]:
    return {weight.path: zlib.crc32(weight.numpy()) for weight in model.weights}


def one_step(model: Any, stage: Stage, faces: Array, codes: Any) -> dict[str, bool]:
    """A step as `train` makes it: for each variable, whether its gradient is finite and not 0."""
    training = Training(optimizer="sgd", momentum=0)
    optimizer = build_optimizer(stage, training, precision="float32", model=model)
    seen: dict[str, bool] = {}
    apply = optimizer.apply

    def record(gradients: Any, variables: Any) -> None:
        for gradient, variable in zip(gradients, variables, strict=True):
            values = np.asarray(gradient)
            seen[variable.path] = bool(np.isfinite(values).all() and values.any())
        apply(gradients, variables)

    optimizer.apply = record
    totals, objective = Totals(), Objective(np.ones(CLASSES, np.float32))
    step = build_train_step(tf.distribute.get_strategy(), model, optimizer, totals, objective)
    step(tf.constant(faces), {"expression": tf.constant(codes)}, np.int64(0))
    assert int(totals.bad_step.numpy()) == -1
    assert totals.read()[2] == len(faces)
    return seen
