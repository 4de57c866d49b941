"""Where a network is cut: as deep as one tensor carries all, with no layer before that moves."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from fer_bench.config.model import Head, Model
from fer_bench.config.training import Stage
from fer_bench.models import freezing, trunk
from fer_bench.models.build import build_model, inputs_of

IMAGES = np.random.default_rng(0).uniform(0, 255, (3, 4, 4, 3)).astype(np.float32)


def dense(name: str, x: Any, *, trains: bool = False, units: int = 3) -> Any:
    return layers.Dense(units, name=name, trainable=trains)(x)


def with_head(x: Any, inputs: Any, dropout: float = 0.0) -> Any:
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    if dropout:
        x = layers.Dropout(dropout, name="head_dropout")(x)
    return keras.Model(inputs, layers.Dense(2, name="head_logits")(x))


@pytest.fixture
def inputs() -> Any:
    return keras.Input((4, 4, 3), name="images")


def assert_whole(model: Any, cut: str) -> None:
    """The trunk and the tail together are the model."""
    both = trunk.part(model, cut, None)(trunk.part(model, None, cut)(IMAGES))
    np.testing.assert_allclose(both, model(IMAGES), rtol=1e-5, atol=1e-5)


def test_a_chain_is_cut_before_the_first_layer_that_trains(inputs: Any) -> None:
    x = dense("second", dense("first", inputs))
    model = with_head(dense("third", x, trains=True), inputs)
    assert trunk.find_cut(model) == "second"
    assert_whole(model, "second")


def test_a_residual_block_is_cut_at_the_add_only(inputs: Any) -> None:
    x = dense("before", inputs)
    inside = dense("inside_2", dense("inside_1", x), trains=True)
    model = with_head(layers.Add(name="add")([x, inside]), inputs)
    assert trunk.find_cut(model) == "before"  # what skips the block is needed behind it
    for layer in model.layers[:-1]:
        layer.trainable = False
    last = with_head(layers.Add(name="add")([x, dense("inside_3", x)]), inputs)
    assert trunk.find_cut(last) == "head_pool"
    after = dense("after", layers.Add(name="add")([x, dense("inside_4", x)]), trains=True)
    assert trunk.find_cut(with_head(after, inputs)) == "add"


def test_of_two_branches_one_that_trains_keeps_the_other_out(inputs: Any) -> None:
    x = dense("common", inputs)
    frozen = dense("frozen_2", dense("frozen_1", x))
    both = layers.Concatenate(name="join")([frozen, dense("lively", x, trains=True)])
    model = with_head(both, inputs)
    assert trunk.find_cut(model) == "common"
    assert_whole(model, "common")


def test_dropout_of_the_head_is_no_part_of_the_trunk(inputs: Any) -> None:
    model = with_head(dense("first", inputs), inputs, dropout=0.5)
    assert trunk.find_cut(model) == "head_pool"
    assert trunk.find_cut(with_head(dense("other", inputs), inputs)) == "head_pool"


def test_dropout_of_the_backbone_is_and_computes_as_at_test_time(inputs: Any) -> None:
    x = layers.Dropout(0.5, name="dropout")(dense("first", inputs))
    model = with_head(dense("second", x, trains=True), inputs)
    assert trunk.find_cut(model) == "dropout"


def test_nothing_frozen_is_no_trunk(inputs: Any) -> None:
    model = with_head(dense("first", inputs, trains=True), inputs)
    assert trunk.find_cut(model) is None


def test_scaling_alone_is_no_trunk(inputs: Any) -> None:
    x = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0])(inputs)
    x = layers.Rescaling(0.1)(x)
    assert trunk.find_cut(with_head(dense("first", x, trains=True), inputs)) is None
    statistics = layers.Normalization()
    statistics.adapt(IMAGES)  # with these as weights
    model = with_head(dense("other", statistics(inputs), trains=True), inputs)
    assert trunk.find_cut(model) is None


def test_a_bare_operation_can_end_a_trunk(inputs: Any) -> None:
    x = dense("first", inputs) - np.array([1.0, 2.0, 3.0], np.float32)
    model = with_head(dense("second", x, trains=True), inputs)
    cut = trunk.find_cut(model)
    assert cut is not None
    assert cut.startswith("subtract")
    assert_whole(model, cut)
    np.testing.assert_allclose(
        trunk.part(model, None, cut)(IMAGES),
        keras.Model(inputs, trunk.output_of(model, cut))(IMAGES),
        rtol=1e-5,
        atol=1e-5,
    )


def test_the_tail_has_no_weight_of_the_trunk(inputs: Any) -> None:
    model = with_head(dense("second", dense("first", inputs), trains=True), inputs)
    front, rest = (trunk.part(model, *ends) for ends in ((None, "first"), ("first", None)))
    paths = [[variable.path for variable in part.weights] for part in (front, rest)]
    assert paths == [
        ["first/kernel", "first/bias"],
        ["second/kernel", "second/bias", "head_logits/kernel", "head_logits/bias"],
    ]


@pytest.mark.parametrize(
    ("backbone", "train", "end"),
    [
        ("cnn_compact", "head", "head_pool"),
        ("cnn_compact", {"last": 5}, "re_lu_8"),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (
                ("cnn_compact", "all", None),
                ("cnn_slides", {"last": 5}, "flatten"),
                ("mobilenetv3small", {"last": 5}, "expanded_conv_9_add"),
                ("vgg16", "all", None),  # its first steps are bare operations
            )
        ),
    ],
)
def test_real_networks(backbone: str, train: Any, end: str | None) -> None:
    keras.utils.clear_session(free_memory=False)
    model = build_model(Model(backbone=backbone), 48, 7)
    stage = Stage(name="only", train=train, epochs=1, learning_rate=0.1)
    assert freezing.set_trainable(model, stage, weights="none").trunk == end


# Random graphs ---------------------------------------------------------------------------------

Block = tuple[str, bool]  # its kind, and whether one of its layers trains


def grow(blocks: list[Block], dropout: float) -> Any:
    """A network of a chain of blocks, some with branches."""
    inputs = keras.Input((4, 4, 3))
    x = inputs
    for number, (kind, trains) in enumerate(blocks):
        lively = dense(f"main_{number}", x, trains=trains)
        match kind:
            case "plain":
                x = lively
            case "dropout":
                x = layers.Dropout(0.5, name=f"dropout_{number}")(lively)
            case "residual":
                x = layers.Add(name=f"add_{number}")([x, dense(f"deep_{number}", lively)])
            case "branches":
                x = layers.Add(name=f"add_{number}")([lively, dense(f"side_{number}", x)])
            case "shared":  # what an early layer gives is used again two layers later
                middle = dense(f"middle_{number}", lively)
                x = layers.Add(name=f"add_{number}")([lively, middle, x])
    return with_head(x, inputs, dropout)


def frozen_single_edges(model: Any, live: set[str]) -> set[str]:
    """By brute force: the layers without whose output no image reaches the end.

    Only those which no live layer comes before, nor is.
    """
    sources = {
        layer.name: [source.name for source in inputs_of(layer)] for layer in model.operations
    }

    def above(name: str, without: str = "") -> set[str]:
        """The layers that `name` is computed from, itself included."""
        if name == without:
            return set()
        return {name}.union(*(above(source, without) for source in sources[name]))

    (first, *_), last = model.operations, "head_logits"
    return {
        name
        for name in sources
        if name != last and first.name not in above(last, without=name) and not above(name) & live
    }


blocks = st.lists(
    st.tuples(
        st.sampled_from(["plain", "dropout", "residual", "branches", "shared"]),
        st.sampled_from([False, False, True]),
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.slow
@settings(max_examples=25)
@given(blocks, st.sampled_from([0.0, 0.3]))
def test_the_cut_is_the_deepest_and_the_parts_are_the_whole(
    grown: list[Block], dropout: float
) -> None:
    model = grow(grown, dropout)
    live = {layer.name for layer in model.layers if layer.trainable_variables} | {"head_dropout"}
    places = [layer.name for layer in model.operations]
    edges = frozen_single_edges(model, live) - {places[0]}
    cut = trunk.find_cut(model)
    assert cut == max(edges, key=places.index, default=None)
    if cut:
        assert_whole(model, cut)
        assert not trunk.part(model, None, cut).trainable_variables


# Identity --------------------------------------------------------------------------------------


def front(change: Callable[[Any], Any] = lambda x: x, **settings_: Any) -> Any:
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    inputs = keras.Input((4, 4, 3), name="images")
    x = layers.Conv2D(2, 3, **({"name": "convolution"} | settings_))(inputs)
    return keras.Model(inputs, change(x))


def digest(model: Any) -> str:
    """Of the whole of `model`."""
    end = model.operations[-1].name
    return trunk.digests(model, [end])[end]


def test_the_digest_depends_on_the_trunk_and_not_on_later_layers() -> None:
    model, longer = front(), front(layers.ReLU(name="behind"))
    shallow, deep = (operation.name for operation in model.operations[-2:])
    digests = trunk.digests(model, [shallow, deep])
    assert digests[shallow] != digests[deep] == digest(model)
    assert trunk.digests(longer, [shallow])[shallow] == digests[shallow]


def test_equal_trunks_have_an_equal_digest_whether_they_train_or_not() -> None:
    assert digest(front()) == digest(front())
    frozen = front()
    frozen.trainable = False
    assert digest(frozen) == digest(front())


@pytest.mark.parametrize(
    "other",
    [
        lambda: front(activation="relu"),
        lambda: front(strides=2),
        lambda: front(dtype="mixed_bfloat16"),
        lambda: front(layers.ReLU()),
        lambda: front(lambda x: layers.Add()([x, layers.ReLU()(x)])),
    ],
    ids=["activation", "stride", "arithmetic", "one layer more", "another graph"],
)
def test_another_computation_has_another_digest(other: Callable[[], Any]) -> None:
    assert digest(other()) != digest(front())


def test_another_weight_has_another_digest() -> None:
    changed = front()
    kernel = changed.weights[0]
    kernel.assign(kernel.value * (1 + 1e-6))
    assert digest(changed) != digest(front())


def test_statistics_that_do_not_train_are_part_of_the_digest() -> None:
    normal = front(layers.BatchNormalization(name="norm"))
    before = digest(normal)
    normal.get_layer("norm").moving_mean.assign([0.5, 0.5])
    assert digest(normal) != before


def test_the_head_is_not_mistaken_for_the_backbone() -> None:
    config = Model(backbone="cnn_compact", head=Head(dense=(4,), dropout=0.5))
    model = build_model(config, 24, 7)
    stage = Stage(name="only", train="head", epochs=1, learning_rate=0.1)
    assert freezing.set_trainable(model, stage, weights="none").trunk == "head_pool"
