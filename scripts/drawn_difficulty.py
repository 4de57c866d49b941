"""How difficult the drawn faces are: for a linear model on pixels, and for a small CNN.

The dataset is useful as long as the first stays below 0.80 and the second reaches 0.92.
"""

from typing import Any

import numpy as np
from measuring import parser_of, timed
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fer_bench.data.datasets.drawn import TEST_FACES, TRAIN_FACES
from fer_bench.data.datasets.drawn.face import IMAGE_SIZE, draw_face
from fer_bench.labels import EXPRESSIONS

BATCH_SIZE = 32
LINEAR_SIZE = 32  # pixels


def faces(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All faces, the test faces first: images (n, 64, 64, 3) in [0, 255], class indices (n,)."""
    drawn = [draw_face(seed, index) for index in range(TEST_FACES + TRAIN_FACES)]
    images = np.stack([face.image for face in drawn]).astype(np.float32)
    return images, np.array([EXPRESSIONS.index(face.label) for face in drawn])


def linear_accuracy(images: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
    """Test accuracy of logistic regression on standardized pixels, by kind of pixel."""
    step = IMAGE_SIZE // LINEAR_SIZE
    small = images.reshape(-1, LINEAR_SIZE, step, LINEAR_SIZE, step, 3).mean(axis=(2, 4))
    accuracies = {}
    for kind, pixels in (("colour", small), ("grey", small.mean(axis=3))):
        flat = pixels.reshape(len(pixels), -1)
        for strength in (1e-2, 1e-1):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
            model.fit(flat[TEST_FACES:], labels[TEST_FACES:])
            score = model.score(flat[:TEST_FACES], labels[:TEST_FACES])
            accuracies[f"{kind} pixels, C={strength:g}"] = float(score)
    return accuracies


def small_cnn(steps: int) -> Any:
    """A compiled Keras model with 0.3 million parameters and strided convolutions."""
    import keras

    layers = [keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3)), keras.layers.Rescaling(1 / 127.5, -1)]
    shapes = ((16, 5, 2), (32, 3, 2), (64, 3, 2), (64, 3, 1), (128, 3, 2), (128, 3, 1))
    for filters, kernel, stride in shapes:
        layers += [
            keras.layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
        ]
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dropout(0.4),
        keras.layers.Dense(len(EXPRESSIONS), activation="softmax"),
    ]
    model = keras.Sequential(layers)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def cnn_accuracy(
    images: NDArray[np.float32], labels: NDArray[np.int64], seed: int, epochs: int
) -> tuple[float, float, int]:
    """The test accuracy of the small CNN, its training time in seconds and its parameters."""
    import keras

    keras.utils.set_random_seed(seed)
    model = small_cnn(epochs * TRAIN_FACES // BATCH_SIZE)
    train = images[TEST_FACES:], labels[TEST_FACES:]
    seconds = timed(lambda: model.fit(*train, BATCH_SIZE, epochs, verbose=0)).wall
    _, accuracy = model.evaluate(images[:TEST_FACES], labels[:TEST_FACES], verbose=0)
    return float(accuracy), seconds, model.count_params()


def main() -> None:
    """Draw, fit both, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the faces and of the CNN")
    parser.add_argument("--epochs", type=int, default=12, help="of the CNN")
    options = parser.parse_args()
    images, labels = faces(options.seed)
    print(f"{TRAIN_FACES} training and {TEST_FACES} test faces, seed {options.seed}")
    for kind, accuracy in linear_accuracy(images, labels).items():
        print(f"linear model, {kind}: test accuracy {accuracy:.3f}")
    accuracy, seconds, parameters = cnn_accuracy(images, labels, options.seed, options.epochs)
    print(
        f"small CNN, {parameters} parameters, {options.epochs} epochs in {seconds:.0f} s: "
        f"test accuracy {accuracy:.3f}"
    )


if __name__ == "__main__":
    main()
