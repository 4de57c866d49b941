"""What frozen trunks make of images: right, each from the one before, and found again."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_bench.config.model import Head, Model
from fer_bench.config.training import Stage
from fer_bench.models import freezing, inference
from fer_bench.models.build import build_model
from fer_bench.storage import cache
from fer_bench.storage.array_cache import Store
from fer_bench.training import frozen_features
from fer_bench.training.frozen_features import Images

IMAGES = np.random.default_rng(5).uniform(0, 255, (7, 24, 24, 3)).astype(np.float32)
CONFIG = Model(backbone="cnn_compact", head=Head(dropout=0.5))
STRATEGY = tf.distribute.get_strategy()


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FER_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def built(seed: int = 1, policy: str = "float32") -> Any:
    keras.utils.clear_session(free_memory=False)
    keras.mixed_precision.set_global_policy(policy)
    keras.utils.set_random_seed(seed)
    return build_model(CONFIG, 24, 7)


def resolved(model: Any, *trains: Any) -> list[freezing.ResolvedStage]:
    stages = [
        Stage(name=str(number), train=train, epochs=1, learning_rate=0.1)
        for number, train in enumerate(trains)
    ]
    return freezing.resolve_stages(model, stages, CONFIG)


class Shown:
    """Images that count how often a trunk is shown them."""

    def __init__(self, split: str = "train", key: str = "these") -> None:
        self.times, self.images = 0, Images(split, key, len(IMAGES), self.batches)

    def batches(self, size: int) -> Any:
        def batch() -> Any:
            self.times += 1
            for start in range(0, len(IMAGES), size):
                yield IMAGES[start : start + size]

        signature = tf.TensorSpec((None, 24, 24, 3), tf.float32)
        return tf.data.Dataset.from_generator(batch, output_signature=signature)


class Heard:
    """The calls of `on_progress`: (end, split, done, total)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, int, int]] = []

    def __call__(self, end: str, split: str, done: int, total: int) -> None:
        self.calls.append((end, split, done, total))

    @property
    def computed(self) -> list[str]:
        return [end for end, _, done, total in self.calls if done == total]


def kept(
    model: Any, ends: list[str], shown: Shown, heard: Heard, *, limit: int = 10**9
) -> dict[str, Any]:
    splits = [shown.images]
    rows = frozen_features.keep_features(
        model, ends, splits, Store(limit, print), STRATEGY, 3, heard
    )
    return rows[shown.images.split]


ENDS = ["re_lu_8", "head_pool"]


def of_model(model: Any, end: str) -> Any:
    """What the model itself gives there, in test mode."""
    return np.asarray(keras.Model(model.input, model.get_layer(end).output)(IMAGES))


# Which trunks ------------------------------------------------------------------------------------


def test_the_trunks_of_a_ladder_are_all_computed_at_its_beginning() -> None:
    model = built()
    stages = resolved(model, "head", {"last": 5}, {"last": 20}, "all")
    shallower = stages[2].trunk
    assert frozen_features.trunks_from(stages, 0, model) == [shallower, *ENDS]
    assert frozen_features.trunks_from(stages, 1, model) == [shallower, "re_lu_8"]
    assert frozen_features.trunks_from(stages, 3, model) == []


def test_a_trunk_that_trains_before_its_stage_waits() -> None:
    model = built()
    stages = resolved(model, {"last": 5}, "head")
    assert frozen_features.trunks_from(stages, 0, model) == ["re_lu_8"]
    assert frozen_features.trunks_from(stages, 1, model) == ["head_pool"]
    stages = resolved(model, "all", "head")
    assert frozen_features.trunks_from(stages, 0, model) == []


def test_equal_trunks_of_several_stages_are_one() -> None:
    model = built()
    assert frozen_features.trunks_from(resolved(model, "head", "head"), 0, model) == ["head_pool"]


# What is kept ------------------------------------------------------------------------------------


def test_rows_are_what_the_model_gives_each_from_the_one_before() -> None:
    model, shown, heard = built(), Shown(), Heard()
    rows = kept(model, ENDS, shown, heard)
    assert list(rows) == ENDS
    for end in ENDS:
        np.testing.assert_allclose(rows[end].values, of_model(model, end), rtol=1e-4, atol=1e-5)
        assert rows[end].values.nbytes == frozen_features.row_bytes(model, end) * len(IMAGES)
    assert shown.times == 1  # the second continues from the first
    assert heard.calls == [(end, "train", done, 7) for end in ENDS for done in (3, 6, 7)]


@pytest.mark.slow
def test_kept_features_are_reused_and_deeper_trunks_continue_from_them() -> None:
    first, shown, heard = built(), Shown(), Heard()
    shallow = kept(first, ENDS[:1], shown, heard)
    again = kept(built(), ENDS[:1], shown, heard)
    np.testing.assert_array_equal(shallow["re_lu_8"].values, again["re_lu_8"].values)
    assert heard.computed == ENDS[:1]
    kept(built(), ENDS, shown, heard)
    assert heard.computed == ENDS
    assert shown.times == 1


@pytest.mark.slow
def test_a_trunk_is_traced_once_for_all_splits_and_not_at_all_where_its_rows_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced, trace = [], inference.build_predict_step

    def counted(strategy: Any, part: Any, targets: tuple[str, ...]) -> Any:
        traced.append(part.output.name)
        return trace(strategy, part, targets)

    monkeypatch.setattr(inference, "build_predict_step", counted)
    splits = [Shown().images, Shown("validation", "those").images]
    for _ in range(2):
        heard, store = Heard(), Store(10**9, print)
        rows = frozen_features.keep_features(built(), ENDS, splits, store, STRATEGY, 3, heard)
        assert [list(of_split) for of_split in rows.values()] == [ENDS, ENDS]
    assert len(traced) == len(ENDS)


@pytest.mark.slow
def test_other_weights_images_or_arithmetic_are_kept_apart() -> None:
    heard = Heard()
    kept(built(), ["head_pool"], Shown(), heard)
    kept(built(seed=2), ["head_pool"], Shown(), heard)
    kept(built(), ["head_pool"], Shown(key="others"), heard)
    kept(built(policy="mixed_float16"), ["head_pool"], Shown(), heard)
    assert heard.computed == ["head_pool"] * 4
    assert len(cache.entries(["trunk"])) == 4


@pytest.mark.slow
def test_weights_after_the_trunk_do_not_matter() -> None:
    heard, model = Heard(), built()
    kept(model, ["re_lu_8"], Shown(), heard)
    for name in ("conv2d_13", "head_logits"):
        kernel = model.get_layer(name).kernel
        kernel.assign(kernel.value + 1)
    kept(model, ["re_lu_8"], Shown(), heard)
    assert heard.computed == ["re_lu_8"]


@pytest.mark.slow
@pytest.mark.bfloat16
def test_bfloat16_is_kept_to_the_bit() -> None:
    model = built(policy="mixed_bfloat16")
    rows = kept(model, ["head_pool"], Shown(), Heard())["head_pool"]
    assert (rows.dtype, rows.values.dtype) == ("bfloat16", np.uint16)
    assert rows.values.nbytes == frozen_features.row_bytes(model, "head_pool") * len(IMAGES)
    bits = tf.bitcast(tf.constant(np.array(rows.values)), tf.bfloat16)
    expected = of_model(model, "head_pool").astype(np.float32)
    np.testing.assert_allclose(tf.cast(bits, tf.float32), expected, rtol=0.03, atol=0.03)


@pytest.mark.slow
def test_one_without_room_is_left_out_and_the_next_comes_from_the_images() -> None:
    model, shown, heard = built(), Shown(), Heard()
    deep = frozen_features.row_bytes(model, "head_pool") * len(IMAGES)
    rows = kept(model, ENDS, shown, heard, limit=deep + 4000)
    assert list(rows) == ["head_pool"]
    assert heard.computed == ["head_pool"]
    np.testing.assert_allclose(
        rows["head_pool"].values, of_model(model, "head_pool"), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_an_earlier_edge_does_not_go_to_make_room_for_the_next() -> None:
    model = built()
    shallow = frozen_features.row_bytes(model, "re_lu_8") * len(IMAGES)
    rows = kept(model, ENDS, Shown(), Heard(), limit=shallow + 100)
    assert list(rows) == ["re_lu_8"]


@pytest.mark.slow
def test_stopping_while_computing_leaves_nothing_behind() -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    shown = Shown()
    with pytest.raises(KeyboardInterrupt):
        kept(built(), ["head_pool"], shown, stop)  # type: ignore[arg-type]
    assert cache.entries(["trunk"]) == []
    assert cache.unfinished() == []


@pytest.mark.slow
def test_rows_stay_when_another_process_removes_their_files() -> None:
    def removing(*_: Any) -> None:
        for entry in cache.entries(["trunk"]):
            cache.remove(entry.path)

    model = built()
    rows = kept(model, ENDS, Shown(), removing)  # type: ignore[arg-type]
    for end in ENDS:
        np.testing.assert_allclose(rows[end].values, of_model(model, end), rtol=1e-4, atol=1e-5)
    assert len(cache.entries(["trunk"])) == 1


def test_the_cache_says_what_an_entry_is() -> None:
    kept(built(), ["head_pool"], Shown("validation"), Heard())
    (entry,) = cache.entries(["trunk"])
    assert entry.note == {
        "network": "cnn_compact",
        "up to": "head_pool",
        "split": "validation",
        "images": 7,
    }
