"""Keras as in its guides: `image_dataset_from_directory`, `keras.applications`, `model.fit`.

Nothing is tuned beyond the guides: no `steps_per_execution`, no `jit_compile`. A frozen network
runs in inference mode, as in the guide to transfer learning.
"""

import sys
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from baselines.task import LEARNING_RATE, Augment, Stage, Task, read_task
from baselines.turns import Turns, open_turns
from fer_bench.config.model import Model
from fer_bench.models.build import backbone_layers, build_model

# The name in `keras.applications`, and the module of the `preprocess_input` it needs, if any.
APPLICATIONS = {
    "efficientnetb3": ("EfficientNetB3", None),
    "efficientnetv2l": ("EfficientNetV2L", None),
    "mobilenetv3small": ("MobileNetV3Small", None),
    "resnet50": ("ResNet50", "resnet50"),
    "vgg16": ("VGG16", "vgg16"),
}


class TakeTurns(keras.callbacks.Callback):
    """Ends the turn after each epoch with its validation."""

    def __init__(self, turns: Turns, images: int) -> None:
        super().__init__()
        self.turns, self.images = turns, images

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - signature of Keras
        """Answer the driver; leave `fit` if it says so."""
        self.turns.end_epoch(self.images, self.model.count_params())
        if self.turns.stopped:
            self.model.stop_training = True


def open_folder(task: Task, split: str) -> Any:
    """Batches of one split: float32 RGB in [0, 255] and classes."""
    return keras.utils.image_dataset_from_directory(
        task.images / split,
        image_size=(task.size, task.size),
        batch_size=task.batch_size,
        shuffle=split == "train",
        seed=task.seed,
    )


def augmentation(augment: Augment) -> Any:
    """The augmentation layers; None without any."""
    wanted = {
        layers.RandomFlip: "horizontal" if augment.flip else None,
        layers.RandomRotation: augment.rotation,
        layers.RandomZoom: augment.zoom,
        layers.RandomTranslation: (augment.shift, augment.shift) if augment.shift else None,
    }
    chosen = [
        kind(*value) if isinstance(value, tuple) else kind(value)
        for kind, value in wanted.items()
        if value
    ]
    return keras.Sequential(chosen) if chosen else None


def prepare(dataset: Any, *, train: bool, augment: Any) -> Any:
    """Prepare a dataset for `fit` as in the guides."""
    dataset = dataset.cache()
    dataset = dataset.shuffle(1000) if train else dataset
    if augment is not None:
        dataset = dataset.map(
            lambda images, classes: (augment(images, training=True), classes),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    return dataset.prefetch(tf.data.AUTOTUNE)


def build(task: Task, classes: int) -> tuple[Any, list[Any]]:
    """A model that ends in logits, and the layers of its backbone."""
    if task.network not in APPLICATIONS:
        model = build_model(Model(backbone=task.network), task.size, classes)
        return model, backbone_layers(model)
    inputs = keras.Input((task.size, task.size, 3))
    outputs, backbone = _application(task, classes, inputs)
    return keras.Model(inputs, outputs), backbone


def _application(task: Task, classes: int, x: Any) -> tuple[Any, list[Any]]:
    name, module = APPLICATIONS[task.network]
    shape = (task.size, task.size, 3)
    base = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=shape)
    if module:
        x = getattr(keras.applications, module).preprocess_input(x)
    fine_tunes = all(stage.freezes_batch_norm for stage in task.stages)
    x = base(x, training=False) if fine_tunes else base(x)
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(classes, dtype="float32")(x), base.layers


def set_trainable(backbone: list[Any], stage: Stage) -> None:
    """Make the layers of `stage` trainable."""
    first = 0 if stage.last is None else len(backbone) - stage.last
    for index, layer in enumerate(backbone):
        is_norm = isinstance(layer, layers.BatchNormalization)
        layer.trainable = index >= first and not (is_norm and stage.freezes_batch_norm)


def fit(task: Task, turns: Turns) -> None:
    """Everything from the first access to the data to the last epoch."""
    train, validation = open_folder(task, "train"), open_folder(task, "validation")
    images, classes = len(train.file_paths), len(train.class_names)
    train = prepare(train, train=True, augment=augmentation(task.augment))
    validation = prepare(validation, train=False, augment=None)
    model, backbone = build(task, classes)
    for stage in task.stages:
        if turns.stopped:
            return
        set_trainable(backbone, stage)
        model.compile(
            keras.optimizers.Adam(LEARNING_RATE),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        measured = min(stage.epochs, task.measured_epochs or stage.epochs)
        model.fit(
            train,
            validation_data=validation,
            epochs=measured,
            verbose=2,
            callbacks=[TakeTurns(turns, images)],
        )
        if measured < stage.epochs:
            turns.assume(stage.epochs - measured, measured)


def main() -> None:
    """Train the task of the command line, in turns."""
    task = read_task(sys.argv[1])
    turns = open_turns(whole=task.whole)
    keras.utils.set_random_seed(task.seed)
    keras.mixed_precision.set_global_policy(task.precision)
    tf.config.list_logical_devices()  # opens a GPU before the clock starts
    turns.ready(versions={"tensorflow": tf.__version__, "keras": keras.__version__})
    fit(task, turns)
    turns.end()


if __name__ == "__main__":
    main()
