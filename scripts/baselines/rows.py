"""The rows of the benchmark, and how fast fer-bench should be."""

from dataclasses import dataclass, replace
from pathlib import Path

from baselines.task import Augment, Stage, Task


@dataclass(frozen=True)
class Opponent:
    """A plain script.

    Attributes:
        framework: `keras`, `torch`, or `eigen` for fer-bench itself without oneDNN.
        precision: the precision of its network.
        target: how many times as fast fer-bench should be.
    """

    framework: str
    precision: str
    target: float

    @property
    def name(self) -> str:
        """For example `keras float32`."""
        return f"{self.framework} {self.precision}"


@dataclass(frozen=True)
class Row:
    """One measurement, with random weights.

    If `task.whole`, everything from the first access to the data to the last epoch is timed, in new
    processes each time; else single epochs of processes that keep running.

    Attributes:
        name: the name in `--rows`.
        task: the training.
        train: number of training images.
        validation: number of validation images.
        opponents: the plain scripts to compare with.
        grey: whether the images have one channel.
    """

    name: str
    task: Task
    train: int
    validation: int
    opponents: tuple[Opponent, ...]
    grey: bool = False

    @property
    def what(self) -> str:
        """A short description of what is timed."""
        stages = ", ".join(f"{stage.train} × {stage.epochs}" for stage in self.task.stages)
        is_whole = self.task.whole
        timed = f"whole run: {stages}" if is_whole else f"an epoch: {self.task.stages[0].train}"
        return f"{timed}; {self.train:,} + {self.validation} images, {self.task.size} px"

    def task_of(
        self,
        images: Path,
        precision: str,
        *,
        device: str,
        seed: int,
        rounds: int,
        measured_epochs: int | None = None,
    ) -> Task:
        """The task of one child, with at least `rounds` turns."""
        stages = self.task.stages
        if not self.task.whole:
            stages = tuple(Stage(stage.train, max(stage.epochs, rounds)) for stage in stages)
        return replace(
            self.task,
            images=images,
            stages=stages,
            precision=precision,
            device=device,
            seed=seed,
            measured_epochs=measured_epochs if self.task.whole else None,
        )


# The length of stages of which single epochs are timed. A realistic length: fer-bench makes some
# choices that only pay off over many epochs.
PLANNED = 20
AUGMENTED = Augment(flip=True, rotation=0.05, zoom=0.1)


def _fine_tuning(last: int, target: float) -> Row:
    task = Task("efficientnetv2l", 96, 32, (Stage(f"last-{last}", PLANNED),))
    return Row(f"effv2l_last{last}", task, 192, 32, (Opponent("keras", "float32", target),))


def _head(network: str, train: int) -> Row:
    task = Task(network, 96, 32, (Stage("head", 30),), whole=True)
    return Row(f"head_{network}", task, train, train // 10, (Opponent("keras", "float32", 15),))


def _files(network: str) -> Row:
    task = Task(network, 48, 64, (Stage("all", PLANNED),), augment=AUGMENTED)
    opponents = (Opponent("keras", "float32", 1.7), Opponent("torch", "float32", 1.5))
    return Row(f"files_{network}", task, 4000, 400, opponents, grey=True)


def _all_layers(network: str, size: int, train: int, *opponents: Opponent) -> Row:
    task = Task(network, size, 32, (Stage("all", PLANNED),))
    return Row(f"{network}_all", task, train, train // 10, opponents)


def _free(network: str, size: int, batch_size: int, train: int) -> Row:
    """All layers train; against plain scripts with their defaults, and against Eigen's kernels."""
    task = Task(network, size, batch_size, (Stage("all", PLANNED),), augment=AUGMENTED)
    opponents = (
        Opponent("keras", "float32", 2),
        Opponent("torch", "float32", 1.5),
        Opponent("eigen", "float32", 1),
    )
    return Row(f"free_{network}", task, train, train // 8, opponents)


_SLIDES = (Stage("head", 5), Stage("last-20", 10), Stage("last-45", 20))
ROWS = (
    _fine_tuning(45, 5),
    _fine_tuning(20, 9),
    _head("resnet50", 960),
    _head("vgg16", 480),
    _head("mobilenetv3small", 4800),
    Row(
        "slides_schedule",
        Task("efficientnetv2l", 96, 32, _SLIDES, whole=True),
        192,
        32,
        (Opponent("keras", "float32", 4.5),),
    ),
    _files("cnn_slides"),
    _files("cnn_compact"),
    _all_layers(
        "vgg16", 96, 320, Opponent("keras", "float32", 1.8), Opponent("torch", "float32", 3)
    ),
    _all_layers(
        "resnet50", 64, 640, Opponent("keras", "float32", 1.3), Opponent("torch", "bfloat16", 0.95)
    ),
    _free("cnn_compact", 48, 64, 512),
    _free("cnn_slides", 48, 64, 1024),
    _free("resnet50", 64, 32, 192),
    _free("vgg16", 96, 32, 96),
    _free("mobilenetv3small", 96, 32, 512),
    _free("efficientnetb3", 96, 32, 96),
)
