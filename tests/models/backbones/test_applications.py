"""The networks of `keras.applications`: the right weights, into the right layers, of one graph."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from rounding import rounding
from tiers import some_fast

from fer_bench.models.backbone_spec import BackboneSpec
from fer_bench.registry import BACKBONES

# The file that Keras fetches into its cache, and the MD5 that it must have.
FILES = {
    "efficientnetb3": ("efficientnetb3_notop.h5", "af6d107764bb5b1abb91932881670226"),
    "efficientnetv2l": ("efficientnetv2-l_notop.h5", "b0b66b5c863aef5b46e8608fe1711615"),
    "inceptionresnetv2": (
        "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "d19885ff4a710c122648d3b5c3b684e4",
    ),
    "mobilenetv3large": (
        "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        "07fb09a5933dd0c8eaafa16978110389",
    ),
    "mobilenetv3small": (
        "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
        "d3e8ec802a04aa4fc771ee12a9a9b836",
    ),
    "resnet152v2": (
        "resnet152v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "ed17cf2e0169df9d443503ef94b23b33",
    ),
    "resnet50": (
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "4d473c1dd8becc155b73f8504c6f6626",
    ),
    "vgg16": (
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "6d6bbae143d832006294945121d1f1fc",
    ),
    "vgg19": (
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "253f8cb515780f3b799900260a226db6",
    ),
}
# Building one of these takes seconds, even without values.
LARGE = ("efficientnetv2l", "inceptionresnetv2", "resnet152v2")
Asked = list[tuple[str, str | None]]


def fetching(monkeypatch: pytest.MonkeyPatch, path: Path) -> Asked:
    """Let Keras find `path` in its cache, whatever it asks for; returns what that was."""
    asked: Asked = []

    def get_file(fname: str, origin: str, *, file_hash: str | None = None, **_: Any) -> str:
        assert origin == origin.rpartition("/")[0] + "/" + fname
        asked.append((fname, file_hash))
        return str(path)

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    return asked


def spec_of(name: str) -> BackboneSpec:
    spec: BackboneSpec = BACKBONES[name]
    return spec


def from_the_start(build: Any, *arguments: Any) -> Any:
    """What `build` gives as the first model of a process, with shapes and without values."""
    keras.utils.clear_session(free_memory=False)
    with keras.StatelessScope(initialize_variables=False):
        model = build(*arguments)
    keras.utils.clear_session(free_memory=False)  # nothing waits for its values
    return model


def with_weights(model: Any) -> list[Any]:
    return [
        (type(layer), layer.name, [tuple(weight.shape) for weight in layer.weights])
        for layer in model.layers
        if layer.weights
    ]


@pytest.mark.parametrize(
    "name",
    [
        *some_fast((name for name in FILES if name not in LARGE), "vgg16", "mobilenetv3small"),
        *(pytest.param(name, marks=pytest.mark.large) for name in LARGE),
    ],
)
def test_the_weights_of_imagenet_fit_layer_by_layer(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked, loaded = fetching(monkeypatch, tmp_path / "file.h5"), []
    monkeypatch.setattr(keras.Model, "load_weights", lambda model, path: loaded.append(path))
    spec = spec_of(name)
    theirs = from_the_start(spec.imagenet)
    assert (asked, loaded) == ([FILES[name]], [str(tmp_path / "file.h5")])
    ours = from_the_start(spec.build, 96)
    assert with_weights(ours) == with_weights(theirs)
    assert len(with_weights(ours)) > 10


def test_with_a_neck_it_is_the_same_backbone() -> None:
    assert spec_of("resnet50_ippm").build is spec_of("resnet50").build
    assert spec_of("resnet50_ippm").imagenet is spec_of("resnet50").imagenet


@pytest.mark.parametrize("name", FILES)
def test_one_pixel_less_does_not_build(name: str) -> None:
    spec = spec_of(name)
    with pytest.raises(ValueError, match=f"at least {spec.smallest_size}"):
        spec.build(spec.smallest_size - 1)


@pytest.mark.large
def test_efficientnetb3_is_the_graph_that_keras_has_for_its_imagenet_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In Keras's file the Normalization has the means and, as variances, the deviations."""
    keras.utils.set_random_seed(0)
    means, deviations = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    ours = spec_of("efficientnetb3").build(224)
    ours.get_layer("normalization").set_weights([means, deviations, np.array(0)])
    ours.save_weights(tmp_path / "file.weights.h5")
    fetching(monkeypatch, tmp_path / "file.weights.h5")
    imagenet = spec_of("efficientnetb3").imagenet
    assert imagenet
    theirs = imagenet()
    images = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype(np.float32)

    expected = (images / 255 - means) / deviations
    for model in (ours, theirs):
        before = keras.Model(model.input, model.get_layer("stem_conv_pad").input)
        np.testing.assert_allclose(before(images), expected, rtol=1e-4, atol=1e-4)
    features, reference = np.asarray(ours(images)), np.asarray(theirs(images))
    assert features.any()
    np.testing.assert_allclose(features, reference, rtol=0, atol=rounding(theirs, images))
