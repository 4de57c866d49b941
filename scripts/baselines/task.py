"""The training of a child process, which the driver passes to it as JSON.

Standard library only: the PyTorch child runs in another interpreter, without fer-bench.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

LEARNING_RATE = 1e-3  # of Adam, in all scripts
LAST = "last-"


@dataclass(frozen=True)
class Stage:
    """A stage of training.

    Attributes:
        train: the trainable part of the backbone: `head` (nothing), `all` or `last-<number of
            layers>`; the head always trains.
        epochs: passes over the training images.
    """

    train: str
    epochs: int

    @property
    def last(self) -> int | None:
        """The number of trainable backbone layers, counted from the end; None for `all`."""
        if self.train == "all":
            return None
        return int(self.train.removeprefix(LAST)) if self.train.startswith(LAST) else 0

    @property
    def freezes_batch_norm(self) -> bool:
        """Fine-tuning freezes BatchNorm; training from random weights cannot."""
        return self.train != "all"


@dataclass(frozen=True)
class Augment:
    """Random changes of training images, in the units of the Keras layers of these names."""

    flip: bool = False
    rotation: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0


@dataclass(frozen=True)
class Task:
    """One training, the same for all children.

    Attributes:
        network: the backbone, by its name in fer-bench.
        size: height and width in pixels of the network's input.
        batch_size: images per step.
        stages: the stages, one after the other.
        images: the folder with `train/<class>/` and `validation/<class>/`.
        augment: random changes of the training images.
        precision: the precision, by its name in the child.
        device: `cpu` or `gpu`.
        seed: the seed of all random numbers.
        whole: train all epochs without a pause; else the child waits for its turn before each one.
        measured_epochs: the number of epochs per stage that a plain script trains; the others,
            which do the same work, are assumed to take as long. None: all.
    """

    network: str
    size: int
    batch_size: int
    stages: tuple[Stage, ...]
    images: Path = Path()
    augment: Augment = Augment()
    precision: str = "float32"
    device: str = "cpu"
    seed: int = 0
    whole: bool = False
    measured_epochs: int | None = None

    def to_json(self) -> str:
        """The argument that `read_task` turns into this task."""
        return json.dumps(asdict(self), default=str)


def read_task(text: str) -> Task:
    """The task of a child process, from its argument."""
    document = json.loads(text)
    document["stages"] = tuple(Stage(**stage) for stage in document["stages"])
    document["augment"] = Augment(**document.get("augment", {}))
    document["images"] = Path(document["images"])
    return Task(**document)
