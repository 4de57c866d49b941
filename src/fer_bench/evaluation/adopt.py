"""`fer adopt`: predictions of a model that was trained elsewhere become a run like any other."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fer_bench.config.dataset import Dataset
from fer_bench.config.experiment import NAME
from fer_bench.data.load import load_manifest
from fer_bench.data.manifest import Manifest
from fer_bench.errors import RunError, shortened
from fer_bench.evaluation.foreign_table import AdoptionError, ForeignTable, read_table
from fer_bench.labels import SPLITS
from fer_bench.metrics.document import compute
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.predictions import LARGEST_BYTES, read_predictions, write_predictions
from fer_bench.runs.record import (
    DatasetRecord,
    ModelRecord,
    ProtocolRecord,
    RunRecord,
    now,
    versions,
)
from fer_bench.storage.files import read_bounded, why_unreadable, write_atomically, write_json
from fer_bench.storage.replacement import abandoned, discard, working_folder

# As in an experiment: the name is the first part of the run id, and so of a folder's name.
ADOPTING, NEW, OLD = ".adopting-", "new", "old"
UNKNOWN_ORIGIN = (
    "the predictions come from elsewhere: how the model was selected, and whether it was trained "
    "on some of these images, is unknown"
)


@dataclass(frozen=True)
class Adoption:
    """Predictions of another program, and the run that they become.

    Attributes:
        name: the first part of the run id, and the name of the model in tables.
        seed: the seed of the training; runs of one name with different seeds are one experiment.
        source: table with the columns `sample_id`, `label` (unless there is a dataset) and
            `p_<class>` for each class.
        split: the split that the predictions are for.
        dataset: the dataset that has the labels; None where the table has them.
    """

    name: str
    seed: int
    source: Path
    split: str = "test"
    dataset: Dataset | None = None

    @cached_property
    def content(self) -> bytes:
        """The content of the file. Raises: AdoptionError when it cannot be read."""
        try:
            return read_bounded(self.source, LARGEST_BYTES)
        except (OSError, ValueError) as error:
            reason = why_unreadable(error)
            raise AdoptionError(f"{self.source}: cannot be read ({reason}).") from error

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def run_id(self) -> str:
        """`<name>-s<seed>-<first 8 hex digits of the digest>`."""
        return f"{self.name}-s{self.seed}-{self.digest[:8]}"


def adopt(adoption: Adoption, outputs: Path, *, fresh: bool = False) -> RunDirectory:
    """Check predictions and write them as a finished run, with metrics and without a model.

    The run appears complete or not at all.

    Args:
        adoption: the predictions, and the name of the run.
        outputs: the folder of all runs.
        fresh: replace a run that was adopted under this name and seed before.

    Raises:
        AdoptionError: the name, the split or the table is not valid.
        RunError: the run exists already.
        DataError: the dataset is missing or does not have the split.
    """
    if not re.fullmatch(NAME, adoption.name):
        raise AdoptionError(
            f"NAME {shortened(adoption.name)}: expected up to 200 letters, digits, '.', '_' or "
            "'-', beginning with a letter or digit."
        )
    if adoption.split not in SPLITS:
        raise AdoptionError(f"split {adoption.split!r}: expected {', '.join(SPLITS)}.")
    _finish_killed(outputs)
    replaced = _existing(adoption, outputs, fresh)
    table = read_table(adoption.source, adoption.content, needs_labels=not adoption.dataset)
    manifest = load_manifest(adoption.dataset) if adoption.dataset else None
    predictions, remarks = ForeignTable(
        adoption.source, table, adoption.split, manifest
    ).predictions()
    outputs.mkdir(parents=True, exist_ok=True)
    with working_folder(outputs, ADOPTING) as folder:
        run = RunDirectory(folder / NEW / adoption.run_id)
        _write(run, adoption, predictions, manifest, [UNKNOWN_ORIGIN, *remarks])
        _move_into_place(folder, [other.path for other in replaced], outputs)
    return RunDirectory(outputs / run.run_id)


# The place of the run --------------------------------------------------------------------------


def _existing(adoption: Adoption, outputs: Path, fresh: bool) -> list[RunDirectory]:
    """The runs to replace. Raises: RunError when there are some that must not be replaced."""
    pattern = re.compile(rf"{re.escape(adoption.name)}-s{adoption.seed}-[0-9a-f]{{8}}")
    folders = sorted(path.parent for path in outputs.glob("*/run.json"))
    runs = [RunDirectory(folder) for folder in folders if pattern.fullmatch(folder.name)]
    trained = next((run for run in runs if not run.is_adopted()), None)
    if trained:
        raise RunError(
            f"{outputs}: {trained.run_id} was trained here and is not replaced.\nUse another name."
        )
    if runs and not fresh:
        raise RunError(
            f"{outputs}: the run {runs[0].run_id} exists already.\n"
            "Use another name or --seed, or replace it with --fresh."
        )
    return runs


def _move_into_place(folder: Path, replaced: Sequence[Path], outputs: Path) -> None:
    """Move the run that was written in `folder` to the outputs, and those it replaces away."""
    (folder / OLD).mkdir()
    try:
        for path in replaced:
            path.rename(folder / OLD / path.name)
        for path in (folder / NEW).iterdir():
            path.rename(outputs / path.name)
    except BaseException:
        _bring_back(folder, outputs)
        raise


def _bring_back(folder: Path, outputs: Path) -> None:
    for path in sorted((folder / OLD).glob("*")):
        path.rename(outputs / path.name)


def _finish_killed(outputs: Path) -> None:
    """Clean up after killed processes; a replaced run without a successor comes back."""
    for folder in abandoned(outputs, ADOPTING):
        if any((folder / NEW).glob("*")):
            _bring_back(folder, outputs)
        discard(folder)


# Writing ---------------------------------------------------------------------------------------


def _write(
    run: RunDirectory,
    adoption: Adoption,
    predictions: pd.DataFrame,
    manifest: Manifest | None,
    warnings: list[str],
) -> None:
    path = run.predictions(adoption.split)
    write_predictions(path, predictions)
    dataset = _dataset(adoption, predictions, manifest)
    protocol = ProtocolRecord(
        dataset=dataset.name,
        release=dataset.release,
        dataset_fingerprint=dataset.fingerprint,
        split=adoption.split,
        classes=dataset.classes,
        selection="unknown",
        trunk_views=None,
        labels=dataset.labels,
        class_labels=dataset.class_labels,
    )
    metrics = {
        **compute(read_predictions(path)),
        "protocol": protocol.to_json(),
        "warnings": warnings,
    }
    write_json(run.metrics(adoption.split), metrics)
    write_atomically(run.config, yaml.safe_dump(_config(adoption), sort_keys=False))
    write_json(run.run_json, _record(adoption, dataset).to_json())


def _dataset(
    adoption: Adoption, predictions: pd.DataFrame, manifest: Manifest | None
) -> DatasetRecord:
    """Section `dataset` of `run.json`; without a manifest, what the table itself shows."""
    if manifest and adoption.dataset:
        return DatasetRecord.of(manifest, adoption.dataset)
    classes = [name[2:] for name in map(str, predictions) if name.startswith("p_")]
    sizes = Counter(predictions["label"])
    counts = {adoption.split: {name: sizes[name] for name in classes}}
    return DatasetRecord(classes=classes, counts=counts)


def _config(adoption: Adoption) -> dict[str, Any]:
    """`config.yaml`: not an experiment, but where the predictions came from."""
    document: dict[str, Any] = {
        "name": adoption.name,
        "seed": adoption.seed,
        "adopted": True,
        "source": {"file": adoption.source.name, "sha256": adoption.digest},
        "split": adoption.split,
    }
    if adoption.dataset:
        document["dataset"] = adoption.dataset.model_dump(mode="json")
    return document


def _record(adoption: Adoption, dataset: DatasetRecord) -> RunRecord:
    """`run.json` of a model that is only known by its predictions."""
    time = now()
    return RunRecord(
        run_id=adoption.run_id,
        name=adoption.name,
        seed=adoption.seed,
        status="finished",
        started=time,
        ended=time,
        versions=versions("fer-bench", "numpy"),
        dataset=dataset,
        # These weights say that there is no model, see `RunRecord.is_adopted`.
        model=ModelRecord(backbone=adoption.name, weights="adopted"),
        selection="unknown",
    )
