"""What is measured, row by row, and how fast fer-bench ought to be."""

from dataclasses import dataclass
from pathlib import Path

from baselines.task import Augment, Stage, Task

UNCHANGED = Augment()


@dataclass(frozen=True)
class Opponent:
    """A plain script.

    Attributes:
        framework: `keras` or `torch`.
        precision: the arithmetic inside its network.
        target: how many times as fast fer-bench ought to be; None for no opinion.
    """

    framework: str
    precision: str
    target: float | None = None

    @property
    def name(self) -> str:
        """For example `keras float32`."""
        return f"{self.framework} {self.precision}"


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        name: what `--rows` calls it.
        network: as fer-bench calls the backbone; random weights.
        size: height and width of an image in pixels.
        batch_size: images in a step.
        train: number of training images.
        validation: number of validation images.
        stages: what trains.
        opponents: the plain scripts it is measured against.
        augment: random changes of the training images.
        grey: whether the drawn images have one channel.
        whole: everything from the first look at the data to the last epoch is timed, in new
            processes each time; else single epochs of processes that go on.
    """

    name: str
    network: str
    size: int
    batch_size: int
    train: int
    validation: int
    stages: tuple[Stage, ...]
    opponents: tuple[Opponent, ...]
    augment: Augment = UNCHANGED
    grey: bool = False
    whole: bool = False

    @property
    def what(self) -> str:
        """What is timed, in a few words."""
        stages = ", ".join(f"{stage.train} × {stage.epochs}" for stage in self.stages)
        timed = f"whole run: {stages}" if self.whole else f"an epoch: {self.stages[0].train}"
        return f"{timed}; {self.train:,} + {self.validation} images, {self.size} px"

    def task(
        self,
        images: Path,
        precision: str,
        *,
        device: str,
        seed: int,
        rounds: int,
        measured_epochs: int | None = None,
    ) -> Task:
        """The training of one child, in which there are at least `rounds` turns."""
        stages = self.stages
        if not self.whole:
            stages = tuple(Stage(stage.train, max(stage.epochs, rounds)) for stage in stages)
        return Task(
            network=self.network,
            images=images,
            size=self.size,
            batch_size=self.batch_size,
            stages=stages,
            augment=self.augment,
            precision=precision,
            device=device,
            seed=seed,
            whole=self.whole,
            measured_epochs=measured_epochs if self.whole else None,
        )


# How long a stage of which single epochs are timed is said to be: a choice that pays only over
# many epochs is made as in a real run.
PLANNED = 20
FILES = Augment(flip=True, rotation=0.05, zoom=0.1)


def _fine_tuning(last: int, target: float) -> Row:
    stages = (Stage(f"last-{last}", PLANNED),)
    opponents = (Opponent("keras", "float32", target),)
    name = f"effv2l_last{last}"
    return Row(name, "efficientnetv2l", 96, 32, 192, 32, stages, opponents)


def _head(network: str, train: int) -> Row:
    opponents = (Opponent("keras", "float32", 15),)
    stages = (Stage("head", 30),)
    return Row(
        f"head_{network}", network, 96, 32, train, train // 10, stages, opponents, whole=True
    )


def _files(network: str) -> Row:
    opponents = (Opponent("keras", "float32", 1.7), Opponent("torch", "float32", 1.5))
    stages = (Stage("all", PLANNED),)
    name = f"files_{network}"
    return Row(name, network, 48, 64, 4000, 400, stages, opponents, augment=FILES, grey=True)


def _all_layers(network: str, size: int, train: int, opponents: tuple[Opponent, ...]) -> Row:
    stages = (Stage("all", PLANNED),)
    return Row(f"{network}_all", network, size, 32, train, train // 10, stages, opponents)


ROWS = (
    _fine_tuning(45, 5),
    _fine_tuning(20, 9),
    _head("resnet50", 960),
    _head("vgg16", 480),
    _head("mobilenetv3small", 4800),
    Row(
        "slides_schedule",
        "efficientnetv2l",
        96,
        32,
        192,
        32,
        (Stage("head", 5), Stage("last-20", 10), Stage("last-45", 20)),
        (Opponent("keras", "float32", 4.5),),
        whole=True,
    ),
    _files("cnn_slides"),
    _files("cnn_compact"),
    _all_layers(
        "vgg16", 96, 320, (Opponent("keras", "float32", 1.8), Opponent("torch", "float32", 3))
    ),
    _all_layers(
        "resnet50",
        64,
        640,
        (Opponent("keras", "float32", 1.3), Opponent("torch", "bfloat16", 0.95)),
    ),
)
