"""Keras as its own guides use it: `image_dataset_from_directory`, an application, `model.fit`.

Nothing is tuned beyond what they say: no `steps_per_execution`, no `jit_compile`. A frozen network
runs in inference mode, as the guide to transfer learning has it.
"""

import argparse
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from baselines.task import LEARNING_RATE, Augment, Stage, Task, parser, read
from baselines.turns import Turns, open_turns
from fer_bench.config.model import Model
from fer_bench.models.build import backbone_layers, build_model

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# The name in `keras.applications`, and the module whose `preprocess_input` it needs: the others
# rescale what they get by themselves.
APPLICATIONS = {
    "efficientnetv2l": ("EfficientNetV2L", None),
    "mobilenetv3small": ("MobileNetV3Small", None),
    "resnet50": ("ResNet50", "resnet50"),
    "vgg16": ("VGG16", "vgg16"),
}


class TakeTurns(keras.callbacks.Callback):
    """Gives the turn away whenever an epoch, with its validation, is over."""

    def __init__(self, turns: Turns, images: int) -> None:
        super().__init__()
        self.turns, self.images = turns, images

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's own
        """Answer the driver; leave `fit` when it has seen enough."""
        self.turns.end_epoch(self.images, self.model.count_params())
        if self.turns.stopped:
            self.model.stop_training = True


def open_folder(task: Task, split: str) -> Any:
    """Batches of one split, decoded again in every epoch: float32 RGB in [0, 255] and classes."""
    return keras.utils.image_dataset_from_directory(
        task.images / split,
        image_size=(task.size, task.size),
        batch_size=task.batch_size,
        shuffle=split == "train",
        seed=task.seed,
    )


def augmentation(augment: Augment) -> Any:
    """The layers that are asked for; None where that is none."""
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


def prepare(dataset: Any, *, train: bool, cache: bool, augment: Any) -> Any:
    """What the guides do with a dataset before `fit`."""
    if cache:
        dataset = dataset.cache()
        dataset = dataset.shuffle(1000) if train else dataset
    if augment is not None:
        dataset = dataset.map(
            lambda images, classes: (augment(images, training=True), classes),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    return dataset.prefetch(tf.data.AUTOTUNE)


def build(task: Task, classes: int, augment: Any) -> tuple[Any, list[Any]]:
    """A model that ends in logits, and the layers of its backbone; `augment` stands before it."""
    inputs = keras.Input((task.size, task.size, 3))
    x = inputs if augment is None else augment(inputs)
    if task.network in APPLICATIONS:
        outputs, backbone = _application(task, classes, x)
    else:
        model = build_model(Model(backbone=task.network), task.size, classes)
        outputs, backbone = model(x), backbone_layers(model)
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
    """Let the layers of `stage` train."""
    first = 0 if stage.last is None else len(backbone) - stage.last
    for index, layer in enumerate(backbone):
        is_norm = isinstance(layer, layers.BatchNormalization)
        layer.trainable = index >= first and not (is_norm and stage.freezes_batch_norm)


def fit(task: Task, turns: Turns, *, cache: bool, augment_in_model: bool) -> None:
    """Everything from the first look at the data to the last epoch."""
    train, validation = open_folder(task, "train"), open_folder(task, "validation")
    images, classes = len(train.file_paths), len(train.class_names)
    augment = augmentation(task.augment)
    train = prepare(train, train=True, cache=cache, augment=None if augment_in_model else augment)
    validation = prepare(validation, train=False, cache=cache, augment=None)
    model, backbone = build(task, classes, augment if augment_in_model else None)
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


def read_arguments() -> argparse.Namespace:
    """The command line."""
    arguments = parser(__doc__, PRECISIONS)
    arguments.add_argument("--no-cache", action="store_true", help="decode in every epoch")
    arguments.add_argument(
        "--augment-in-model", action="store_true", help="augmentation as layers of the model"
    )
    return arguments.parse_args()


def main() -> None:
    """Train as the command line and the driver say."""
    arguments = read_arguments()
    task = read(arguments)
    turns = open_turns(whole=task.whole)
    keras.utils.set_random_seed(task.seed)
    keras.mixed_precision.set_global_policy(task.precision)
    tf.config.list_logical_devices()  # a GPU is opened now, not on the clock
    turns.ready(versions={"tensorflow": tf.__version__, "keras": keras.__version__})
    fit(
        task,
        turns,
        cache=not arguments.no_cache,
        augment_in_model=arguments.augment_in_model,
    )
    turns.end()


if __name__ == "__main__":
    main()
