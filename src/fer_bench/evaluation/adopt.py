"""`fer adopt`: predictions of a model that was trained elsewhere become a run like any other."""

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from fer_bench.config.dataset import Dataset
from fer_bench.data.files.folders import listed
from fer_bench.data.load import load_manifest
from fer_bench.data.manifest import Manifest
from fer_bench.data.sample_matching import how_paths_differ, sample_ids
from fer_bench.errors import FerError, RunError
from fer_bench.labels import EXPRESSIONS, SPELLINGS, SPLITS, canonical, ordered
from fer_bench.metrics.document import compute
from fer_bench.registry import did_you_mean
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.predictions import (
    TOLERANCE,
    predictions_frame,
    read_predictions,
    write_predictions,
)
from fer_bench.runs.record import (
    DatasetRecord,
    ModelRecord,
    ProtocolRecord,
    RunRecord,
    now,
    versions,
)
from fer_bench.storage.delimited import TableFormatError, numbers, read_delimited
from fer_bench.storage.files import write_atomically, write_json
from fer_bench.storage.replacement import abandoned, working_folder

# As in an experiment: the name is the first part of a folder's.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Sums this near to 1 come from rounding, not from something else than probabilities.
ROUNDED = 0.05
ADOPTING, NEW, OLD = ".adopting-", "new", "old"
NEVER_ANSWERED = "Give a class that the model cannot answer the probability 0."
UNKNOWN_ORIGIN = (
    "the predictions come from elsewhere: how the model was chosen, and whether it was trained "
    "on some of these images, is not known"
)

FloatArray = NDArray[np.float64]


class AdoptionError(FerError):
    """Predictions from elsewhere that cannot become a run."""


@dataclass(frozen=True)
class Adoption:
    """What is adopted, and as what.

    Attributes:
        name: the first part of the run id, and what the model is called in tables.
        seed: of the training; runs of one name that differ in it count as one experiment.
        source: CSV file with the columns `sample_id`, `label` (unless there is a dataset) and
            `p_<class>` for each class.
        split: the name of the split that the predictions are about.
        dataset: where the labels come from; None where the file has them.
    """

    name: str
    seed: int
    source: Path
    split: str = "test"
    dataset: Dataset | None = None

    @cached_property
    def content(self) -> bytes:
        """The file. Raises: AdoptionError when it cannot be read."""
        try:
            return self.source.read_bytes()
        except OSError as error:
            raise self.error(f"cannot be read ({error.strerror}).") from error

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def run_id(self) -> str:
        """`<name>-s<seed>-<first 8 hex of the digest>`."""
        return f"{self.name}-s{self.seed}-{self.digest[:8]}"

    def error(self, text: str) -> AdoptionError:
        """An error about the file."""
        return AdoptionError(f"{self.source}: {text}")


def adopt(adoption: Adoption, outputs: Path, *, fresh: bool = False) -> RunDirectory:
    """Check predictions and write them as a finished run, with metrics and without a model.

    The run appears complete or not at all.

    Args:
        adoption: what is adopted.
        outputs: the folder of all runs.
        fresh: replace a run that was adopted under this name and seed before.

    Raises:
        AdoptionError: the name or the file is not as it should be.
        RunError: there is such a run already.
        DataError: the dataset is missing or has no such split.
    """
    if not NAME.fullmatch(adoption.name):
        raise AdoptionError(
            f"NAME {adoption.name!r}: expected letters, digits, '.', '_' or '-', with a letter or "
            "digit at the beginning."
        )
    if adoption.split not in SPLITS:
        raise AdoptionError(f"split {adoption.split!r}: expected {', '.join(SPLITS)}.")
    _finish_killed(outputs)
    replaced = _taken(adoption, outputs, fresh)
    table = _read(adoption)
    manifest = load_manifest(adoption.dataset) if adoption.dataset else None
    columns = _columns(adoption, table, manifest)
    probabilities = _probabilities(adoption, table, columns)
    labels = _labels(adoption, table, tuple(columns), manifest)
    frame = predictions_frame(labels, tuple(columns), probabilities, None)
    warnings = [UNKNOWN_ORIGIN, *_remarks(table, frame, probabilities)]
    outputs.mkdir(parents=True, exist_ok=True)
    with working_folder(outputs, ADOPTING) as folder:
        run = RunDirectory(folder / NEW / adoption.run_id)
        _write(run, adoption, frame, manifest, warnings)
        _put_in_place(folder, [other.path for other in replaced], outputs)
    return RunDirectory(outputs / run.run_id)


def _put_in_place(folder: Path, replaced: Sequence[Path], outputs: Path) -> None:
    """Let the run that was written in `folder` take the place of others."""
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
    """Clear what killed processes left behind; what none had a successor for yet comes back."""
    for folder in abandoned(outputs, ADOPTING):
        if any((folder / NEW).glob("*")):
            _bring_back(folder, outputs)
        shutil.rmtree(folder)


def _taken(adoption: Adoption, outputs: Path, fresh: bool) -> list[RunDirectory]:
    """The runs to replace. Raises: RunError when there are some that must not be."""
    pattern = re.compile(rf"{re.escape(adoption.name)}-s{adoption.seed}-[0-9a-f]{{8}}")
    folders = sorted(path.parent for path in outputs.glob("*/run.json"))
    runs = [RunDirectory(folder) for folder in folders if pattern.fullmatch(folder.name)]
    trained = next((run for run in runs if not run.is_adopted()), None)
    if trained:
        raise RunError(
            f"{outputs}: {trained.run_id} was trained here, and stays as it is.\nTake another name."
        )
    if runs and not fresh:
        raise RunError(
            f"{outputs}: there is a run {runs[0].run_id} already.\n"
            "Take another name or --seed, or replace it with --fresh."
        )
    return runs


# Reading ---------------------------------------------------------------------------------------


def _read(adoption: Adoption) -> pd.DataFrame:
    """The file as text, with at least one row, and a different `sample_id` in each."""
    try:
        table = read_delimited(adoption.content, "sample_id")
    except TableFormatError as error:
        raise adoption.error(str(error)) from error
    wanted = ["sample_id"] if adoption.dataset else ["sample_id", "label"]
    missing = [name for name in wanted if name not in table]
    if missing:
        advice = ""
        if len(table.columns) == 1:
            advice = "\nDivide the columns by commas."
        elif "label" in missing:
            advice = "\nGive the labels, or the dataset that has them with --data."
        raise adoption.error(
            f"lacks the column {' and '.join(missing)}; its columns are {listed(table.columns)}."
            f"{advice}"
        )
    if table.empty:
        raise adoption.error("has no rows.")
    twice = table.loc[table["sample_id"].duplicated(), "sample_id"].unique().tolist()
    if twice:
        raise adoption.error(
            f"{_counted(twice, 'sample id', 'occurs', 'occur')} more than once: {listed(twice)}.\n"
            "Give each sample one row; average over views of one image first."
        )
    return table


def _counted(names: Sequence[str], noun: str, one: str, many: str) -> str:
    """`1 sample id occurs`, `3 sample ids occur`."""
    return f"1 {noun} {one}" if len(names) == 1 else f"{len(names):,} {noun}s {many}"


def _columns(adoption: Adoption, table: pd.DataFrame, manifest: Manifest | None) -> dict[str, str]:
    """The column of each class, by its name, in the order of the dataset or of `labels.ordered`."""
    found: dict[str, str] = {}
    for column in [name for name in map(str, table) if name.startswith("p_")]:
        spelled = column.removeprefix("p_")
        name = _class_name(spelled, manifest)
        if name is None:
            raise adoption.error(
                f"column {column} is of no known class; {_known(spelled, manifest)}"
            )
        if name in found:
            raise adoption.error(f"columns {found[name]} and {column} are both of class {name}.")
        found[name] = column
    if len(found) < 2:
        raise adoption.error(
            f"lacks the probabilities, one column p_<class> for each class; its columns are "
            f"{listed(table.columns)}."
        )
    if manifest:
        _check_classes(adoption, found, manifest)
    return {name: found[name] for name in (manifest.classes if manifest else ordered(found))}


def _class_name(text: str, manifest: Manifest | None) -> str | None:
    """The class that `text` names: one of the dataset as it calls it, or else an expression."""
    return text if manifest and text in manifest.classes else canonical(text)


def _known(text: str, manifest: Manifest | None) -> str:
    """The names that there are, for a message about `text`."""
    others = [name for name in manifest.classes if name not in EXPRESSIONS] if manifest else []
    hint = did_you_mean(text, [*SPELLINGS, *others])
    names = ", ".join([*others, *EXPRESSIONS])
    return f"known are {names} and their adjectives. {hint}".rstrip()


def _check_classes(adoption: Adoption, found: Iterable[str], manifest: Manifest) -> None:
    missing = [f"p_{name}" for name in manifest.classes if name not in found]
    if missing:
        raise adoption.error(
            f"lacks {', '.join(missing)}: dataset '{manifest.name}' has the classes "
            f"{', '.join(manifest.classes)}.\n{NEVER_ANSWERED}"
        )
    beyond = [name for name in found if name not in manifest.classes]
    if beyond:
        raise adoption.error(
            f"has probabilities of {', '.join(beyond)}, and dataset '{manifest.name}' has only "
            f"{', '.join(manifest.classes)}.\n"
            "Leave these columns out, and divide the others by their sum."
        )


def _probabilities(adoption: Adoption, table: pd.DataFrame, columns: dict[str, str]) -> FloatArray:
    """Shape (n, C), in the order of `columns`, each row summing to 1 within `TOLERANCE`."""
    found = np.stack([numbers(table[column]) for column in columns.values()], axis=1)
    names, ids = list(columns.values()), table["sample_id"]
    for row, column in np.argwhere(~np.isfinite(found))[:1]:
        text = table[names[column]].iloc[row]
        count = int((~np.isfinite(found)).any(axis=1).sum())
        raise adoption.error(
            f"{names[column]} of sample {ids.iloc[row]!r} is {text!r}, not a number"
            f"{f', and {count - 1:,} more rows have such' if count > 1 else ''}."
        )
    totals = found.sum(axis=1)
    for row in np.flatnonzero((np.abs(totals - 1) > TOLERANCE) | (found < 0).any(axis=1))[:1]:
        least = found[row].min()
        said = f"holds {least:g}" if least < 0 else f"adds up to {totals[row]:.4f}"
        raise adoption.error(
            f"sample {ids.iloc[row]!r} {said}; probabilities are not negative and add up to 1.\n"
            f"{_mended(found)}"
        )
    return found


def _mended(numbers: FloatArray) -> str:
    """How something that is no probabilities becomes some. `numbers` has shape (n, C)."""
    totals = numbers.sum(axis=1)
    if np.allclose(totals, 100, rtol=0, atol=100 * ROUNDED):
        return "They look like percentages: divide them by 100."
    if ((numbers >= 0) & (numbers <= 1)).all():
        if (np.abs(totals - 1) < ROUNDED).all():
            return "They look rounded too far: write at least four decimals."
        return "Give all classes; where each has a score of its own, divide these by their sum."
    return "They look like logits: apply softmax over the classes first."


# Labels ----------------------------------------------------------------------------------------


def _labels(
    adoption: Adoption, table: pd.DataFrame, classes: tuple[str, ...], manifest: Manifest | None
) -> pd.DataFrame:
    """Columns `sample_id` and `label`, a row for each of the file, in its order."""
    given = _given_labels(adoption, table, manifest) if "label" in table else None
    if manifest is None:
        assert given is not None  # checked where the file is read
        if beyond := [name for name in ordered(given) if name not in classes]:
            raise adoption.error(
                f"labels say {', '.join(beyond)}, and the columns p_<class> have only "
                f"{', '.join(classes)}.\n{NEVER_ANSWERED}"
            )
        return pd.DataFrame({"sample_id": table["sample_id"], "label": given})
    rows = manifest.split(adoption.split)
    ids = _matched(adoption, table["sample_id"].tolist(), manifest)
    labels = pd.Series(ids).map(rows.set_index("sample_id")["label"])
    if given is not None and (given.to_numpy() != labels.to_numpy()).any():
        differ = np.flatnonzero(given.to_numpy() != labels.to_numpy())
        examples = listed(
            f"{ids[index]} is {given.iloc[index]}, there {labels.iloc[index]}" for index in differ
        )
        raise adoption.error(
            f"{len(differ):,} of {len(ids):,} labels are not those of dataset '{manifest.name}': "
            f"{examples}.\nIs it the same release? Leave the column label out to take those."
        )
    return pd.DataFrame({"sample_id": ids, "label": labels})


def _given_labels(
    adoption: Adoption, table: pd.DataFrame, manifest: Manifest | None
) -> "pd.Series[str]":
    names = {text: _class_name(text, manifest) for text in table["label"].unique()}
    unknown = [text for text, name in names.items() if name is None]
    if unknown:
        raise adoption.error(
            f"label {unknown[0]!r} is of no known class; {_known(unknown[0], manifest)}"
        )
    return table["label"].map(names)


def _matched(adoption: Adoption, given: list[str], manifest: Manifest) -> list[str]:
    """The sample ids of a split that `given` names in some way, all of them."""
    known = set(manifest.split(adoption.split)["sample_id"])
    ids = sample_ids(given, manifest, adoption.split)
    unknown = [name for name in ids if name not in known]
    missing = sorted(known - set(ids))
    if unknown or missing:
        where = f"the {adoption.split} split of dataset '{manifest.name}'"
        hint = how_paths_differ(unknown, manifest, adoption.split)
        said = _not_the_same(unknown, missing, where, manifest)
        raise adoption.error(f"{said}\n{hint}" if hint else said)
    return ids


def _not_the_same(
    unknown: Sequence[str], missing: Sequence[str], where: str, manifest: Manifest
) -> str:
    parts = []
    if unknown:
        split_of = manifest.samples.set_index("sample_id")["split"]
        others = Counter(split_of.reindex(list(unknown)).dropna())
        elsewhere = ", ".join(f"{count:,} in {split}" for split, count in others.items())
        found = f"{_counted(unknown, 'sample id', 'is', 'are')} not in {where}"
        parts.append(f"{found}{f' ({elsewhere})' if elsewhere else ''}: {listed(unknown)}")
    if missing:
        place = "it" if unknown else where
        found = _counted(missing, "sample", f"of {place} is", f"of {place} are")
        parts.append(f"{found} missing: {listed(missing)}")
    return f"{'; '.join(parts)}.\nGive one row for each sample of the split, by its id or its path."


# Writing ---------------------------------------------------------------------------------------


def _remarks(table: pd.DataFrame, frame: pd.DataFrame, probabilities: FloatArray) -> list[str]:
    """What the file says beyond what is taken from it."""
    if "predicted" not in table:
        return []
    columns = set(frame.columns[3:])
    said = table["predicted"].map(
        lambda text: f"p_{text}" if f"p_{text}" in columns else f"p_{canonical(text)}"
    )
    code = pd.Index(frame.columns[3:]).get_indexer(pd.Index(said))
    chosen = np.where(code >= 0, probabilities[np.arange(len(code)), code], -1.0)
    differ = int((probabilities.max(axis=1) - chosen > TOLERANCE).sum())
    if not differ:
        return []
    return [
        f"the column predicted is not the most probable class in {differ:,} of {len(frame):,} "
        "rows; the most probable class is what counts here"
    ]


def _write(
    run: RunDirectory,
    adoption: Adoption,
    frame: pd.DataFrame,
    manifest: Manifest | None,
    warnings: list[str],
) -> None:
    path = run.predictions(adoption.split)
    write_predictions(path, frame)
    dataset = _dataset(adoption, frame, manifest)
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


def _dataset(adoption: Adoption, frame: pd.DataFrame, manifest: Manifest | None) -> DatasetRecord:
    """Section `dataset` of `run.json`; without a manifest, what the file itself shows."""
    if manifest and adoption.dataset:
        return DatasetRecord.of(manifest, adoption.dataset)
    classes = [str(name).removeprefix("p_") for name in frame.columns[3:]]
    sizes = Counter(frame["label"])
    counts = {adoption.split: {name: sizes[name] for name in classes}}
    return DatasetRecord(classes=classes, counts=counts)


def _config(adoption: Adoption) -> dict[str, Any]:
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
    """What `run.json` says of a model that is only known by its answers."""
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
        # The weights say that there is no model, see `RunRecord.is_adopted`.
        model=ModelRecord(backbone=adoption.name, weights="adopted"),
        selection="unknown",
    )
