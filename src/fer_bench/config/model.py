"""The sections `image` and `model` of an experiment: the input and the network."""

from typing import Annotated, Literal, get_args

from pydantic import (
    Field,
    field_validator,
)

from fer_bench.config.dataset import written_path
from fer_bench.config.section import Section, is_none, registered_name
from fer_bench.errors import shortened
from fer_bench.registry import BACKBONES
from fer_bench.spelling import did_you_mean, known_as
from fer_bench.storage.files import is_name


class Augment(Section):
    """Random changes of training images, composed into one affine warp and one intensity map."""

    flip: bool = Field(False, description="mirror left and right with probability 1/2")
    rotation: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="maximum rotation in either direction, as a fraction of a full turn",
    )
    zoom: float = Field(0.0, ge=0, lt=1, description="maximum change of scale in either direction")
    shear: float = Field(0.0, ge=0, lt=1, description="maximum tangent of the shear angle")
    shift: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="maximum shift in either direction, as a fraction of the image size",
    )
    brightness: float = Field(
        0.0, ge=0, le=1, description="maximum added intensity, as a fraction of 255"
    )
    contrast: float = Field(
        0.0, ge=0, lt=1, description="maximum change of contrast around the image mean"
    )
    fill: Literal["reflect", "nearest", "constant"] = Field(
        "reflect", description="how to fill the area outside a warped image; constant is black"
    )

    @property
    def warps(self) -> bool:
        """Whether any pixel moves."""
        return self.flip or any((self.rotation, self.zoom, self.shear, self.shift))

    @property
    def changes(self) -> bool:
        """Whether an image may differ from one epoch to the next."""
        return self.warps or any((self.brightness, self.contrast))


class Image(Section):
    """The images as the model receives them."""

    size: int = Field(ge=8, le=1024, description="height and width in pixels")
    augment: Augment = Field(Augment(), description="random changes of training images")


class Head(Section):
    """From the backbone's features to the logits."""

    pooling: Literal["avg", "max", "flatten", "none"] = Field(
        "avg",
        description="how to pool a feature map into a vector; none if there is no feature map",
    )
    dense: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (), description="widths of dense layers before the classifier"
    )
    activation: Literal["relu", "gelu", "silu", "linear"] = Field(
        "relu", description="activation of the dense layers"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout rate before the classifier")
    l2: float = Field(0.0, ge=0, description="L2 penalty on the kernels of the dense layers")


class Neck(Section):
    """Between the backbone's feature map and the head; trains with the head."""

    name: Literal["ippm"] = Field(description="ippm, the inverted pyramid pooling of prior work")
    form: Literal["published", "conv1x1", "pyramid"] = Field(
        "published",
        description="published: as in its published code; conv1x1: the single convolution that is "
        "equivalent to that; pyramid: a true pyramid of several scales",
    )
    factors: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (2, 3, 4, 6), min_length=1, description="scale of each level"
    )
    filters: int = Field(128, gt=0, description="filters of each level")
    convolutions: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (128, 64), description="filters of the 3x3 convolutions after the levels"
    )


Target = Literal["expression", "valence_arousal"]


class Model(Section):
    """The network."""

    backbone: str = Field(description="registered name of the backbone, for example cnn_compact")
    weights: str = Field(
        "none",
        description="initial weights of the backbone: none (random), imagenet, "
        "a file (.weights.h5, .h5 or .keras), or run:<run_id>",
    )
    neck: Neck | None = Field(None, description="null: the backbone's own neck, usually none")
    batch_norm_momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        exclude_if=is_none,
        description="momentum of the running statistics of BatchNorm in the backbone; null: the "
        "network's own",
    )
    head: Head | None = Field(None, description="null: the default head of the backbone")
    targets: tuple[Target, ...] = Field(
        ("expression",), min_length=1, max_length=2, description="what the model predicts"
    )

    @field_validator("weights")
    @classmethod
    def _known_source(cls, weights: str) -> str:
        weights = known_as(weights, ("none", "imagenet"))
        run = weights.removeprefix("run:")
        if weights in ("none", "imagenet") or weights.endswith((".h5", ".keras")):
            return str(written_path(weights)) if "$" in weights or "~" in weights else weights
        if run != weights and is_name(run):
            return weights
        hint = did_you_mean(weights, ("none", "imagenet"))
        raise ValueError(
            "must be none, imagenet, a file (.weights.h5, .h5, .keras) or run:<run_id>, "
            f"got {shortened(weights)}. {hint}".rstrip(". ")
        )

    @field_validator("targets")
    @classmethod
    def _in_order(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        if len(set(targets)) < len(targets):
            raise ValueError(f"names a target twice: {', '.join(targets)}")
        return tuple(target for target in get_args(Target) if target in targets)

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, name: str) -> str:
        return registered_name(BACKBONES, BACKBONES.known_as(name))
