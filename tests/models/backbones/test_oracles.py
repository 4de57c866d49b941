"""The number of parameters of every network of the prior work, and where its stages begin.

`printed` counts stand in the reports themselves; `computed` ones follow from what the reports say
of the network, built with Keras 3.15.1. Counting needs shapes alone: no weight gets a value here.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from fer_bench.config.model import Head, Model, Neck
from fer_bench.config.training import Stage
from fer_bench.models.build import backbone_layers, build_model, head_layers
from fer_bench.models.freezing import set_trainable
from fer_bench.models.neck import add_neck

FROZEN, UNFROZEN = True, False  # BatchNorm layers of the backbone

pytestmark = pytest.mark.xdist_group("oracles")  # tests share networks, each of which is built once


class Network(NamedTuple):
    """One network, and what trains of it."""

    backbone: str
    size: int
    classes: int
    head: dict[str, Any]
    train: Any
    total: int
    trainable: int
    batch_norm: bool = UNFROZEN


AVERAGE: dict[str, Any] = {"pooling": "avg"}
LONG: dict[str, Any] = {"pooling": "flatten", "dense": (1024, 512, 256, 128, 64, 32)}
MAXIMUM: dict[str, Any] = {"pooling": "max", "dropout": 0.5}
LINEAR: dict[str, Any] = {
    "pooling": "flatten",
    "dense": (256,),
    "activation": "linear",
    "dropout": 0.5,
}
VECTOR: dict[str, Any] = {"pooling": "none"}

NETWORKS = {
    # `rafdb4`, printed in its notebooks: 100 px, the whole backbone trains.
    "rafdb4 efficientnetv2l": Network(
        "efficientnetv2l", 100, 7, LONG, "all", 139_418_983, 138_906_407
    ),
    "rafdb4 resnet152v2": Network("resnet152v2", 100, 7, LONG, "all", 92_586_695, 92_442_951),
    "rafdb4 resnet50": Network("resnet50", 100, 7, LONG, "all", 57_842_759, 57_789_639),
    "rafdb4 inceptionresnetv2": Network(
        "inceptionresnetv2", 100, 7, LONG, "all", 56_610_215, 56_549_671
    ),
    # `ippm`, computed: 128 px, the backbone is frozen.
    "ippm vgg19": Network("vgg19", 128, 8, AVERAGE, "head", 20_028_488, 4_104),
    "ippm mobilenetv3small": Network("mobilenetv3small", 128, 8, AVERAGE, "head", 943_736, 4_616),
    "ippm resnet50": Network("resnet50", 128, 8, AVERAGE, "head", 23_604_104, 16_392),
    "ippm resnet50_ippm": Network("resnet50_ippm", 128, 8, AVERAGE, "head", 25_301_064, 1_713_352),
    # `slides`: printed but for the two unfrozen tails and the CNN.
    "slides resnet50": Network("resnet50", 48, 7, MAXIMUM, "all", 23_602_055, 23_548_935),
    "slides efficientnetv2l": Network(
        "efficientnetv2l", 224, 7, AVERAGE, "head", 117_755_815, 8_967
    ),
    "slides last 20": Network(
        "efficientnetv2l", 224, 7, AVERAGE, {"last": 20}, 117_755_815, 7_029_927
    ),
    "slides last 20, norms frozen": Network(
        "efficientnetv2l", 224, 7, AVERAGE, {"last": 20}, 117_755_815, 7_010_727, FROZEN
    ),
    "slides last 45": Network(
        "efficientnetv2l", 224, 7, AVERAGE, {"last": 45}, 117_755_815, 16_963_047
    ),
    "slides last 45, norms frozen": Network(
        "efficientnetv2l", 224, 7, AVERAGE, {"last": 45}, 117_755_815, 16_918_247, FROZEN
    ),
    "slides cnn 48": Network("cnn_slides", 48, 7, VECTOR, "all", 527_559, 525_575),
    "slides cnn 64": Network("cnn_slides", 64, 7, VECTOR, "all", 920_775, 918_791),
    "slides cnn 96": Network("cnn_slides", 96, 7, VECTOR, "all", 2_493_639, 2_491_655),
    "slides cnn 128": Network("cnn_slides", 128, 7, VECTOR, "all", 5_115_079, 5_113_095),
    "slides cnn 180": Network("cnn_slides", 180, 7, VECTOR, "all", 11_013_319, 11_011_335),
    "slides cnn 224": Network("cnn_slides", 224, 7, VECTOR, "all", 19_270_855, 19_268_871),
    # `pisa`, printed but for the last two: 180 px.
    "pisa trials 1 to 3": Network("cnn_pisa", 180, 7, VECTOR, "all", 1_066_311, 1_066_311),
    "pisa trial 4": Network(
        "cnn_pisa", 180, 7, VECTOR | {"dropout": 0.5}, "all", 1_066_311, 1_066_311
    ),
    "pisa trial 5": Network("cnn_pisa_l2", 180, 7, VECTOR, "all", 7_405_127, 7_405_127),
    "pisa vgg16": Network("vgg16", 180, 7, LINEAR, "head", 17_993_543, 3_278_855),
    "pisa vgg16 last 4": Network("vgg16", 180, 7, LINEAR, {"last": 4}, 17_993_543, 10_358_279),
    "pisa vgg16 last 5": Network("vgg16", 180, 7, LINEAR, {"last": 5}, 17_993_543, 10_358_279),
    "pisa vgg16 block5": Network(
        "vgg16", 180, 7, LINEAR, {"from": "block5_conv1"}, 17_993_543, 10_358_279
    ),
    "pisa vgg16 last 3": Network("vgg16", 180, 7, LINEAR, {"last": 3}, 17_993_543, 7_998_471),
    "pisa vgg16 last 6": Network("vgg16", 180, 7, LINEAR, {"last": 6}, 17_993_543, 12_718_087),
}


class Backbone(NamedTuple):
    """One backbone without its head, computed at 224 px."""

    layers: int
    norms: int
    total: int
    trainable: int
    features: tuple[int, int, int]


BACKBONES = {
    "efficientnetv2l": Backbone(1028, 217, 117_746_848, 117_234_272, (7, 7, 1280)),
    "resnet50": Backbone(175, 53, 23_587_712, 23_534_592, (7, 7, 2048)),
    "resnet152v2": Backbone(564, 151, 58_331_648, 58_187_904, (7, 7, 2048)),
    "inceptionresnetv2": Backbone(780, 204, 54_336_736, 54_276_192, (5, 5, 1536)),
    "efficientnetb3": Backbone(384, 78, 10_783_535, 10_696_232, (7, 7, 1536)),
    "vgg16": Backbone(19, 0, 14_714_688, 14_714_688, (7, 7, 512)),
    "vgg19": Backbone(22, 0, 20_024_384, 20_024_384, (7, 7, 512)),
    "mobilenetv3small": Backbone(157, 34, 939_120, 927_008, (7, 7, 576)),
    "mobilenetv3large": Backbone(187, 46, 2_996_352, 2_971_952, (7, 7, 960)),
}


class Tail(NamedTuple):
    """The last layers of a backbone without its head, computed."""

    backbone: str
    last: int
    first_layer: str
    last_layer: str
    total: int
    trainable: int
    without_norms: int
    norms: int
    with_weights: int


TAILS = [
    Tail("efficientnetv2l", 20, "block7f_drop", "top_activation",
         7_040_160, 7_020_960, 7_001_760, 4, 10),
    Tail("efficientnetv2l", 45, "block7e_dwconv2", "top_activation",
         16_998_880, 16_954_080, 16_909_280, 9, 24),
    Tail("resnet50", 20, "conv5_block2_1_conv", "conv5_block3_out",
         8_943_616, 8_931_328, 8_919_040, 6, 12),
    Tail("resnet50", 45, "conv4_block5_3_bn", "conv5_block3_out",
         16_124_416, 16_096_768, 16_069_120, 14, 27),
    Tail("resnet152v2", 20, "conv5_block2_1_relu", "post_relu",
         7_890_944, 7_879_680, 7_868_416, 5, 10),
    Tail("resnet152v2", 45, "conv4_block36_1_bn", "post_relu",
         15_846_400, 15_824_896, 15_803_392, 12, 24),
    Tail("inceptionresnetv2", 20, "custom_scale_layer_38", "conv_7b_ac",
         5_235_776, 5_230_976, 5_228_576, 5, 11),
    Tail("inceptionresnetv2", 45, "activation_193", "conv_7b_ac",
         8_778_720, 8_771_296, 8_767_584, 11, 25),
    Tail("efficientnetb3", 20, "block7a_project_conv", "top_activation",
         3_386_976, 3_373_152, 3_359_328, 5, 12),
    Tail("efficientnetb3", 45, "block6f_expand_bn", "top_activation",
         4_429_236, 4_403_812, 4_378_388, 10, 25),
    Tail("vgg16", 4, "block5_conv1", "block5_pool", 7_079_424, 7_079_424, 7_079_424, 0, 3),
    Tail("vgg19", 20, "block1_conv2", "block5_pool",
         20_022_592, 20_022_592, 20_022_592, 0, 15),
    Tail("mobilenetv3small", 20, "expanded_conv_9_project_bn", "activation_17",
         354_576, 350_736, 346_896, 5, 11),
    Tail("mobilenetv3small", 45, "expanded_conv_8_depthwise_pad", "activation_17",
         729_000, 722_088, 715_176, 9, 24),
]  # fmt: skip


@cache
def without_values(config: Model, size: int, classes: int) -> Any:
    """The model, with weights that have a shape and no value, as the first one of a process."""
    keras.utils.clear_session(free_memory=False)
    with keras.StatelessScope(initialize_variables=False):
        model = build_model(config, size, classes)
    keras.utils.clear_session(
        free_memory=False
    )  # forgets that these variables still wait for their values
    return model


def built(network: Network) -> Any:
    config = Model(backbone=network.backbone, head=Head(**network.head))
    return without_values(config, network.size, network.classes)


def at_224(backbone: str) -> Any:
    return without_values(Model(backbone=backbone, head=Head()), 224, 7)


def stage(train: Any, *, batch_norm: bool) -> Stage:
    return Stage.model_validate(
        {
            "name": "s",
            "train": train,
            "epochs": 1,
            "learning_rate": 0.1,
            "freeze_batch_norm": batch_norm,
        }
    )


# Networks of hundreds of layers are tested in the tier `large`.
DEEP = ("efficientnetv2l", "efficientnetb3", "inceptionresnetv2", "resnet152v2")


def fast_or_large(name: str, *values: Any) -> Any:
    """A parameter: a network or a backbone, and what is known of it."""
    backbone = NETWORKS[name].backbone if name in NETWORKS else name
    marks = [pytest.mark.large] if backbone in DEEP else []
    return pytest.param(name, *values, marks=marks)


def size_of(variables: Iterable[Any]) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)


def norms_in(layers: Iterable[Any]) -> int:
    return sum(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)


@pytest.mark.parametrize("name", [*map(fast_or_large, NETWORKS)])
def test_a_network_has_the_published_number_of_parameters(name: str) -> None:
    network = NETWORKS[name]
    model = built(network)
    chosen = stage(network.train, batch_norm=network.batch_norm)
    resolved = set_trainable(model, chosen, weights="none")
    assert model.count_params() == network.total
    assert resolved.trainable_parameters == network.trainable
    assert size_of(model.trainable_weights) == network.trainable
    assert size_of(model.non_trainable_weights) == network.total - network.trainable


@pytest.mark.parametrize("name", [*map(fast_or_large, BACKBONES)])
def test_a_backbone_layer_by_layer(name: str) -> None:
    model = at_224(name)
    set_trainable(model, stage("all", batch_norm=UNFROZEN), weights="none")
    layers = backbone_layers(model)
    pool = model.get_layer("head_pool")
    assert BACKBONES[name] == Backbone(
        layers=len(layers),
        norms=norms_in(layers),
        total=sum(layer.count_params() for layer in layers),
        trainable=size_of(weight for layer in layers for weight in layer.trainable_weights),
        features=pool.input.shape[1:],
    )


@pytest.mark.large
@pytest.mark.parametrize("tail", TAILS, ids=lambda tail: f"{tail.backbone} last {tail.last}")
def test_the_last_layers_are_the_same_ones(tail: Tail) -> None:
    model = at_224(tail.backbone)
    head = sum(layer.count_params() for layer in head_layers(model))
    layers = backbone_layers(model)[-tail.last :]
    trainable = [
        set_trainable(model, stage({"last": tail.last}, batch_norm=frozen), weights="none")
        for frozen in (UNFROZEN, FROZEN)
    ]
    assert tail == Tail(
        tail.backbone,
        tail.last,
        layers[0].name,
        layers[-1].name,
        sum(layer.count_params() for layer in layers),
        trainable[0].trainable_parameters - head,
        trainable[1].trainable_parameters - head,
        norms_in(layers),
        sum(bool(layer.weights) for layer in layers),
    )


@pytest.mark.large
def test_the_first_trainable_layer_of_a_tail_is_the_first_with_weights() -> None:
    model = at_224("efficientnetv2l")
    resolved = set_trainable(model, stage({"last": 20}, batch_norm=UNFROZEN), weights="none")
    assert resolved.first_trainable_layer == "block7g_expand_conv"


@pytest.mark.parametrize(
    ("name", "features"),
    [
        fast_or_large("rafdb4 efficientnetv2l", (4, 4, 1280)),
        fast_or_large("rafdb4 resnet152v2", (4, 4, 2048)),
        fast_or_large("rafdb4 resnet50", (4, 4, 2048)),
        fast_or_large("rafdb4 inceptionresnetv2", (1, 1, 1536)),
        fast_or_large("slides resnet50", (2, 2, 2048)),
        fast_or_large("pisa vgg16", (5, 5, 512)),
    ],
)
def test_the_published_feature_map(name: str, features: tuple[int, int, int]) -> None:
    assert built(NETWORKS[name]).get_layer("head_pool").input.shape[1:] == features


def test_the_cnn_of_slides_on_grey_images() -> None:
    """Ours sees RGB; the published network on one channel is the same layers on another input."""
    model = without_values(Model(backbone="cnn_slides"), 48, 7)
    with keras.StatelessScope(initialize_variables=False):
        grey = keras.models.clone_model(model, input_tensors=keras.Input((48, 48, 1)))
    keras.utils.clear_session(free_memory=False)
    assert (grey.count_params(), size_of(grey.trainable_weights)) == (526_983, 524_999)


def test_dense_layers_have_the_published_number_of_parameters() -> None:
    published = {"pisa vgg16": [3_277_056, 1_799], "slides resnet50": [14_343]}
    for name, counts in published.items():
        model = built(NETWORKS[name])
        dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
        assert [layer.count_params() for layer in dense] == counts


def test_ippm_alone_and_in_its_network() -> None:
    inputs = keras.Input((4, 4, 2048))
    block = keras.Model(inputs, add_neck(inputs, Neck(name="ippm", convolutions=())))
    assert block.count_params() == 1_049_088
    network = without_values(Model(backbone="resnet50_ippm", head=Head()), 128, 8)
    assert len(network.layers) == 192
