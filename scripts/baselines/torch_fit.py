"""PyTorch as in its guides: `ImageFolder`, `DataLoader`, torchvision or timm, Adam.

The networks match those of Keras as closely as possible: the same layers, except for the biases of
the convolutions of ResNet50 in Keras. `last-<n>` counts modules without children; about as many
as layers in Keras.
"""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import timm
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from baselines.task import LEARNING_RATE, Augment, Stage, Task, read_task
from baselines.turns import Turns, open_turns

WORKERS = 2
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
NORMALIZATION = {
    "cnn_compact": HALVES,
    "mobilenetv3small": HALVES,
    "efficientnetv2l": HALVES,
    "efficientnetb3": IMAGENET,
    "resnet50": IMAGENET,
    "vgg16": IMAGENET,
}  # cnn_slides takes [0, 1]

# Filters and residual blocks of each stage of fer-bench's cnn_compact.
COMPACT = ((64, 2), (128, 2), (256, 1))


def slides(size: int) -> tuple[nn.Module, int]:
    """`cnn_slides` of fer-bench, and the number of its features."""
    modules: list[nn.Module] = []
    before, width = 3, size
    for filters in (32, 64, 128, 256):
        modules += [
            nn.Conv2d(before, filters, 3),
            nn.ReLU(),
            nn.BatchNorm2d(filters, eps=1e-3, momentum=0.01),
            nn.MaxPool2d(2),
            nn.Dropout(0.2),
        ]
        before, width = filters, (width - 2) // 2
    modules += [
        nn.Flatten(),
        nn.Linear(before * width * width, 512),
        nn.ReLU(),
        nn.BatchNorm1d(512, eps=1e-3, momentum=0.01),
        nn.Dropout(0.2),
    ]
    return nn.Sequential(*modules), 512


class Residual(nn.Module):
    """A residual block of `cnn_compact`."""

    def __init__(self, before: int, filters: int, stride: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *convolution(before, filters, stride=stride),
            nn.ReLU(),
            *convolution(filters, filters),
        )
        shortcut: list[nn.Module] = []
        if stride > 1:
            shortcut.append(nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False))
        if before != filters:
            shortcut += convolution(before, filters, kernel=1)
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Any) -> Any:
        """Feature map to feature map, (n, channels, h, w)."""
        return torch.relu(self.convolutions(x) + self.shortcut(x))


def convolution(before: int, filters: int, *, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution without bias, and BatchNorm."""
    return [
        nn.Conv2d(before, filters, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(filters, eps=1e-3, momentum=0.05),
    ]


def compact(size: int) -> tuple[nn.Module, int]:  # noqa: ARG001 - common signature
    """`cnn_compact` of fer-bench, and the number of its features."""
    modules = [*convolution(3, 32), nn.ReLU()]
    before = 32
    for filters, blocks in COMPACT:
        for block in range(blocks):
            modules.append(Residual(before, filters, stride=2 if block == 0 else 1))
            before = filters
    return nn.Sequential(*modules, *pooled()), before


def pooled() -> list[nn.Module]:
    """Global average pooling of a feature map."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def resnet50(size: int) -> tuple[nn.Module, int]:  # noqa: ARG001 - common signature
    """ResNet50 without its classifier."""
    network = torchvision.models.resnet50(weights=None)
    features = network.fc.in_features
    network.fc = nn.Identity()
    return network, features


def efficientnetv2l(size: int) -> tuple[nn.Module, int]:  # noqa: ARG001 - common signature
    """EfficientNetV2-L without its classifier, padded as TensorFlow pads."""
    network = timm.create_model("tf_efficientnetv2_l", pretrained=False, num_classes=0)
    return network, network.num_features


def efficientnetb3(size: int) -> tuple[nn.Module, int]:  # noqa: ARG001 - common signature
    """EfficientNet-B3 without its classifier, padded as TensorFlow pads."""
    network = timm.create_model("tf_efficientnet_b3", pretrained=False, num_classes=0)
    return network, network.num_features


def vgg16(size: int) -> tuple[nn.Module, int]:  # noqa: ARG001 - common signature
    """The convolutions of VGG16 with average pooling."""
    return nn.Sequential(torchvision.models.vgg16(weights=None).features, *pooled()), 512


def mobilenetv3small(size: int) -> tuple[nn.Module, int]:  # noqa: ARG001 - common signature
    """The convolutions of MobileNetV3-Small with average pooling."""
    network = torchvision.models.mobilenet_v3_small(weights=None)
    return nn.Sequential(network.features, *pooled()), 576


NETWORKS: dict[str, Callable[[int], tuple[nn.Module, int]]] = {
    "cnn_compact": compact,
    "cnn_slides": slides,
    "efficientnetb3": efficientnetb3,
    "efficientnetv2l": efficientnetv2l,
    "mobilenetv3small": mobilenetv3small,
    "resnet50": resnet50,
    "vgg16": vgg16,
}


def preparation(task: Task, augment: Augment) -> Any:
    """The transforms from an image to the input of the network."""
    steps: list[Any] = [transforms.Resize((task.size, task.size))]
    if augment.flip:
        steps.append(transforms.RandomHorizontalFlip())
    if augment.rotation or augment.zoom or augment.shift:
        steps.append(
            transforms.RandomAffine(
                degrees=360 * augment.rotation,
                translate=(augment.shift, augment.shift),
                scale=(1 - augment.zoom, 1 + augment.zoom),
                interpolation=transforms.InterpolationMode.BILINEAR,
            )
        )
    steps.append(transforms.ToTensor())
    if task.network in NORMALIZATION:
        steps.append(transforms.Normalize(*NORMALIZATION[task.network]))
    return transforms.Compose(steps)


def open_folder(task: Task, split: str) -> Any:
    """A `DataLoader` of one split: float32 images (n, 3, h, w) and classes (n,)."""
    is_train = split == "train"
    augment = task.augment if is_train else Augment()
    return DataLoader(
        datasets.ImageFolder(task.images / split, preparation(task, augment)),
        batch_size=task.batch_size,
        shuffle=is_train,
        num_workers=WORKERS,
        persistent_workers=True,
        pin_memory=task.device == "gpu",
    )


class Fit:
    """A network in training."""

    def __init__(self, task: Task, classes: int) -> None:
        self.device = torch.device("cuda" if task.device == "gpu" else "cpu")
        self.autocast = task.precision == "bfloat16"
        self.backbone, features = NETWORKS[task.network](task.size)
        model = nn.Sequential(self.backbone, nn.Linear(features, classes))
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.loss = nn.CrossEntropyLoss()

    @property
    def parameters(self) -> int:
        """All numbers saved with the network, including the statistics of BatchNorm."""
        statistics = [value for value in self.model.buffers() if value.is_floating_point()]
        return sum(value.numel() for value in [*self.model.parameters(), *statistics])

    def enter(self, stage: Stage) -> None:
        """Make the layers of `stage` trainable, with a new optimizer."""
        parts = [module for module in self.backbone.modules() if not list(module.children())]
        first = 0 if stage.last is None else len(parts) - stage.last
        for index, part in enumerate(parts):
            is_frozen = index < first or (is_norm(part) and stage.freezes_batch_norm)
            part.requires_grad_(not is_frozen)
        self.frozen = stage.freezes_batch_norm
        trainable = [value for value in self.model.parameters() if value.requires_grad]
        self.optimizer = torch.optim.Adam(trainable, LEARNING_RATE)

    def train(self, batches: Any) -> None:
        """One pass over the training images."""
        self.model.train()
        if self.frozen:
            self.backbone.eval()
        for images, classes in self._on_device(batches):
            self.optimizer.zero_grad()
            with self._autocast():
                loss = self.loss(self.model(images), classes)
            loss.backward()
            self.optimizer.step()

    def validate(self, batches: Any) -> float:
        """Accuracy over the validation images."""
        self.model.eval()
        correct = 0
        with torch.no_grad(), self._autocast():
            for images, classes in self._on_device(batches):
                correct += int((self.model(images).argmax(1) == classes).sum())
        return correct / len(batches.dataset)

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast)

    def _on_device(self, batches: Any) -> Iterator[tuple[Any, Any]]:
        for images, classes in batches:
            moved = images.to(self.device, memory_format=torch.channels_last, non_blocking=True)
            yield moved, classes.to(self.device, non_blocking=True)


def is_norm(module: nn.Module) -> bool:
    """Whether `module` has running statistics."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def fit(task: Task, turns: Turns) -> None:
    """Everything from the first access to the data to the last epoch."""
    train, validation = open_folder(task, "train"), open_folder(task, "validation")
    training = Fit(task, len(train.dataset.classes))
    for stage in task.stages:
        training.enter(stage)
        for epoch in range(stage.epochs):
            if turns.stopped:
                return
            training.train(train)
            accuracy = training.validate(validation)
            print(f"epoch {epoch + 1}: val_accuracy {accuracy:.4f}")
            turns.end_epoch(len(train.dataset), training.parameters)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    """Train the task of the command line, in turns."""
    task = read_task(sys.argv[1])
    turns = open_turns(whole=task.whole)
    torch.manual_seed(task.seed)
    torch.set_num_threads(usable_cores())
    if task.device == "gpu":
        torch.zeros(1, device="cuda")  # opens the GPU before the clock starts
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    turns.ready(versions={**versions, "timm": timm.__version__})
    fit(task, turns)
    turns.end()


if __name__ == "__main__":
    main()
