"""A stage and a small network, for tests of what trains, when, and how fast."""

from typing import Any

from fer_bench.config.training import Stage


def stage(**changes: Any) -> Stage:
    return Stage.model_validate(
        {"name": "s", "train": "all", "epochs": 4, "learning_rate": 0.1, **changes}
    )


def small_model() -> Any:
    """Two layers and a BatchNorm between them, an activation, and a head."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,), name="images")
    x = keras.layers.Dense(4, name="block1_dense")(inputs)
    x = keras.layers.BatchNormalization(name="block1_norm")(x)
    x = keras.layers.ReLU(name="block1_relu")(x)
    x = keras.layers.Dense(4, name="block2_dense")(x)
    x = keras.layers.ReLU(name="block2_relu")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="head_logits")(x))
