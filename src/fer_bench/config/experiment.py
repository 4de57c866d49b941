"""The whole experiment: its sections, their consistency, and the run id."""

import hashlib
from typing import Any, Literal

import yaml
from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema

from fer_bench.config.dataset import Dataset, is_validation
from fer_bench.config.model import Image, Model
from fer_bench.config.section import Section, about_key, is_none
from fer_bench.config.training import Cache, Select, Stage, Training, keeps_by_itself
from fer_bench.registry import BACKBONES

SCHEMA_ID = "urn:fer-bench:schema:experiment"

# Run ids begin with it, and are the names of folders: those have at most 255 characters.
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}"


class Published(Section):
    """A published result for this experiment; shown beside ours, never mixed with it."""

    source: str = Field(description="where it was published")
    metric: str = Field(description="the metric, for example val_accuracy")
    value: float = Field(description="the published value")
    metric_as: str | None = Field(
        None,
        exclude_if=is_none,
        description="the metric of this project that it is, where the source has another name for "
        "it. Not part of the run id",
    )
    n: int | None = Field(
        None,
        gt=0,
        exclude_if=is_none,
        description="number of images it was measured on. Not part of the run id",
    )
    caveat: str | None = Field(None, description="why it is not fully comparable")


Watcher = Literal["tensorboard", "mlflow"]


class Experiment(Section):
    """The whole experiment. Equal experiments have equal run ids."""

    name: str = Field(
        pattern=f"^{NAME}$",
        description="first part of the run id; default: the name of the file",
    )
    seed: int = Field(
        42, ge=0, lt=2**31, description="seed of the weights, the sample order and the augmentation"
    )
    dataset: Dataset = Field(description="the samples, and how they are split and balanced")
    image: Image = Field(description="the images as the model receives them")
    model: Model = Field(description="the network")
    training: Training = Field(Training(), description="settings of all stages")
    stages: tuple[Stage, ...] = Field(
        min_length=1, description="the parts of the training, in order"
    )
    selection: Literal["validation", "test_split"] = Field(
        "validation",
        # The run ids of experiments without this key stay as they were before it existed.
        exclude_if=is_validation,
        description="the split that selects the model, stops a stage early and lowers its learning "
        "rate. Many papers use test_split: its scores are too high, and every table says so",
    )
    cache: Cache = Field(
        Cache(),
        exclude_if=keeps_by_itself,
        description="intermediate results that are kept on the disk",
    )
    published: tuple[Published, ...] = Field((), description="published results")
    # Not part of the identity of a run.
    tracking: tuple[Watcher, ...] = Field(
        (),
        exclude=True,
        description="trackers that mirror the run while it trains: tensorboard writes event files "
        "into the run's folder, mlflow sends to the server in the environment variable "
        "MLFLOW_TRACKING_URI. Not part of the run id",
    )

    @model_validator(mode="before")
    @classmethod
    def _loss_of_the_labels(cls, data: Any) -> Any:
        """FERPlus defines its multi-target labels together with a loss."""
        match data:
            case {"dataset": {"labels": "multi_target"}}:
                training = data.get("training") or {}
                if isinstance(training, dict) and training.get("loss") is None:
                    return data | {"training": training | {"loss": "multi_target"}}
        return data

    @field_validator("stages")
    @classmethod
    def _distinct_names(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        names = [stage.name for stage in stages]
        if len(set(names)) < len(names):
            raise ValueError(f"two stages have the same name: {', '.join(names)}")
        return stages

    @field_validator("tracking")
    @classmethod
    def _distinct_watchers(cls, names: tuple[Watcher, ...]) -> tuple[Watcher, ...]:
        if len(set(names)) < len(names):
            raise ValueError(f"names a tracker twice: {', '.join(names)}")
        return names

    @field_validator("model")
    @classmethod
    def _fits_backbone(cls, model: Model, info: ValidationInfo) -> Model:
        spec, image = BACKBONES[model.backbone], info.data.get("image")
        if image and image.size < spec.smallest_size:
            raise about_key(
                "image.size",
                f"{model.backbone} needs at least {spec.smallest_size} pixels, got {image.size}",
            )
        return model

    @model_validator(mode="after")
    def _selects_what_is_predicted(self) -> "Experiment":
        select, targets = self.training.select, self.model.targets
        if select in ("val_macro_f1", "val_accuracy") and "expression" not in targets:
            raise about_key("training.select", f"{select} needs expression among model.targets")
        if select and select.endswith("_ccc") and "valence_arousal" not in targets:
            raise about_key(
                "training.select", f"{select} needs valence_arousal among model.targets"
            )
        return self

    @model_validator(mode="after")
    def _loss_fits_the_labels(self) -> "Experiment":
        if self.training.loss != "multi_target":
            return self
        if self.dataset.labels != "multi_target":
            raise about_key("training.loss", "multi_target needs dataset.labels: multi_target")
        if self.training.label_smoothing:
            raise about_key(
                "training.label_smoothing",
                "must be 0 with the loss multi_target, which has its own smoothing; or set "
                "training.loss: cross_entropy",
            )
        return self

    @model_validator(mode="after")
    def _caches_only_fixed_images(self) -> "Experiment":
        if self.cache.trunk == "exact" and self.image.augment.changes:
            raise about_key(
                "cache.trunk",
                "cannot be exact while image.augment changes images at random, since every epoch "
                "shows different ones; use auto, cache fixed views with {views: NUMBER}, or remove "
                "image.augment",
            )
        return self

    @model_validator(mode="after")
    def _has_selection_split(self) -> "Experiment":
        dataset = self.dataset
        if dataset.split is None and dataset.validation is None and self.selection == "validation":
            raise about_key(
                "dataset.validation",
                "must be a fraction or `validation`: null leaves no split to select the model on",
            )
        return self

    @property
    def selection_split(self) -> str:
        """The name of the split that selects the model."""
        return "test" if self.selection == "test_split" else "validation"

    @property
    def select(self) -> Select:
        """The validation metric that selects the model."""
        if self.training.select:
            return self.training.select
        return "val_macro_f1" if "expression" in self.model.targets else "val_mean_ccc"

    @property
    def run_id(self) -> str:
        """`<name>-s<seed>-<first 8 hex of the SHA-256 of to_yaml()>`.

        `n` and `metric_as` of published results are left out of the digest: they came later.
        """
        later = {"published": {"__all__": {"n", "metric_as"}}}
        digest = hashlib.sha256(self._yaml(exclude=later).encode()).hexdigest()
        return f"{self.name}-s{self.seed}-{digest[:8]}"

    def to_yaml(self) -> str:
        """The resolved experiment: every key, in the order of the schema.

        Newer keys are left out if they have their default, so that the run ids of older
        experiments stay the same.
        """
        return self._yaml()

    def _yaml(self, exclude: dict[str, Any] | None = None) -> str:
        document = self.model_dump(mode="json", by_alias=True, exclude=exclude)
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of an experiment file, for editors and other programs."""
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": SCHEMA_ID,
        **Experiment.model_json_schema(),
    }
