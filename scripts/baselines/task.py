"""What a child trains, as flags: the driver writes them, every child reads them.

Standard library only: the PyTorch child has another interpreter, without fer-bench.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LEARNING_RATE = 1e-3  # of Adam, everywhere
LAST = "last-"


@dataclass(frozen=True)
class Stage:
    """A stretch of training.

    Attributes:
        train: what trains of the backbone: `head` (nothing), `all` or `last-<number of layers>`;
            the head always does.
        epochs: passes over the training images.
    """

    train: str
    epochs: int

    @property
    def last(self) -> int | None:
        """How many backbone layers train, counted from the end; None for `all`."""
        if self.train == "all":
            return None
        return int(self.train.removeprefix(LAST)) if self.train.startswith(LAST) else 0

    @property
    def freezes_batch_norm(self) -> bool:
        """Fine-tuning keeps BatchNorm as it is; training from random weights cannot."""
        return self.train != "all"

    def __str__(self) -> str:
        return f"{self.train}:{self.epochs}"


def stage(text: str) -> Stage:
    """`last-45:20` as a stage. Raises: ArgumentTypeError for anything that is none."""
    train, _, epochs = text.partition(":")
    known = train in ("head", "all") or train.removeprefix(LAST).isdecimal()
    if not known or not epochs.isdecimal() or int(epochs) == 0:
        raise argparse.ArgumentTypeError(
            f"expected WHAT:EPOCHS, for example head:5, all:30 or last-45:20; got {text!r}"
        )
    return Stage(train, int(epochs))


@dataclass(frozen=True)
class Augment:
    """Random changes of training images; each part as the Keras layer of that name takes it."""

    flip: bool = False
    rotation: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0


@dataclass(frozen=True)
class Task:
    """One training, the same for every child.

    Attributes:
        network: as fer-bench calls the backbone.
        images: the folder of `train/<class>/` and `validation/<class>/`.
        size: height and width in pixels of what reaches the network.
        batch_size: images in a step.
        stages: what trains, one after the other.
        augment: random changes of the training images.
        precision: as the child calls it.
        device: `cpu` or `gpu`.
        seed: of everything random.
        whole: all epochs at one go; else the child waits for its turn before each.
        measured_epochs: of a stage in a plain script; the others of it, which do the same work,
            are taken to last as long as these did. None: all.
    """

    network: str
    images: Path
    size: int
    batch_size: int
    stages: tuple[Stage, ...]
    augment: Augment = Augment()
    precision: str = "float32"
    device: str = "cpu"
    seed: int = 0
    whole: bool = False
    measured_epochs: int | None = None

    def flags(self) -> list[str]:
        """The command line that `read` makes this task of."""
        values = {
            "network": self.network,
            "images": self.images,
            "size": self.size,
            "batch-size": self.batch_size,
            "rotation": self.augment.rotation,
            "zoom": self.augment.zoom,
            "shift": self.augment.shift,
            "precision": self.precision,
            "device": self.device,
            "seed": self.seed,
        }
        if self.measured_epochs:
            values["measured-epochs"] = self.measured_epochs
        flags = [f"--{name}={value}" for name, value in values.items()]
        flags += [f"--stage={stage}" for stage in self.stages]
        switches = {"flip": self.augment.flip, "whole": self.whole}
        return flags + [f"--{name}" for name, is_on in switches.items() if is_on]


def parser(description: str | None, precisions: Sequence[str]) -> argparse.ArgumentParser:
    """The flags of a task; the first of `precisions` is the default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--network", required=True)
    parser.add_argument(
        "--images", type=Path, required=True, help="folder of train/<class>, validation/<class>"
    )
    parser.add_argument("--size", type=int, required=True, help="pixels")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--stage", type=stage, action="append", required=True, dest="stages")
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--rotation", type=float, default=0.0, help="part of a full turn")
    parser.add_argument("--zoom", type=float, default=0.0)
    parser.add_argument("--shift", type=float, default=0.0, help="part of the image size")
    parser.add_argument("--precision", choices=precisions, default=precisions[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", action="store_true", help="all epochs at one go")
    parser.add_argument("--measured-epochs", type=int, help="of a stage; default all")
    return parser


def read(arguments: argparse.Namespace) -> Task:
    """The task that the command line describes."""
    return Task(
        network=arguments.network,
        images=arguments.images,
        size=arguments.size,
        batch_size=arguments.batch_size,
        stages=tuple(arguments.stages),
        augment=Augment(arguments.flip, arguments.rotation, arguments.zoom, arguments.shift),
        precision=arguments.precision,
        device=arguments.device,
        seed=arguments.seed,
        whole=arguments.whole,
        measured_epochs=arguments.measured_epochs,
    )
