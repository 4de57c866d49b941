"""Whether two runs are the same run, the same seed, or have the same predictions.

The name of a folder proves nothing: folders are copied, renamed and restored. A run is identified
by the id that it recorded, its seed, and the digest of its predictions.
"""

import hashlib
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_bench.comparison.member import Member, look_up
from fer_bench.comparison.result import PAIR_METRICS, LeftOut
from fer_bench.runs.predictions import LARGEST_BYTES
from fer_bench.storage.files import read_bounded

# Runs of one experiment may differ in these, which do not change what is trained (of the cache,
# only the number of augmented views does).
_NOT_THE_EXPERIMENT = ("seed", "published", "tracking", "cache")


def experiment(member: Member) -> str:
    """A text that is equal for runs that differ only in seed and machine."""
    config = member.config
    if config.get("adopted"):
        # Only its predictions are known, and these differ by seed.
        return f"adopted {member.row.name}"
    rest = {key: value for key, value in config.items() if key not in _NOT_THE_EXPERIMENT}
    rest["views"] = look_up(config, "cache", "trunk", "views") or 1
    rest["dataset"] = _dataset(member)
    rest["model"] = _model(member)
    return json.dumps(rest, sort_keys=True, default=str)


def _dataset(member: Member) -> Any:
    """The dataset by its content, as far as that is recorded, not by its location."""
    dataset = member.config.get("dataset")
    fingerprint = member.record.dataset.fingerprint
    if not isinstance(dataset, dict) or not fingerprint:
        return dataset
    rest = {key: value for key, value in dataset.items() if key != "root"}
    splits = member.record.dataset.split_digest
    if splits and (dataset.get("exclude") or dataset.get("groups")):
        rest |= {"exclude": None, "groups": None, "split_digest": splits}
    return rest | {"fingerprint": fingerprint}


def _model(member: Member) -> Any:
    """The model, with a file of weights by its content."""
    model = member.config.get("model")
    digest = member.record.model.weights_digest
    if isinstance(model, dict) and digest and str(model.get("weights")).endswith((".h5", ".keras")):
        return model | {"weights": digest}
    return model


# Copies ----------------------------------------------------------------------------------------


def without_copies(members: Sequence[Member]) -> tuple[list[Member], list[LeftOut]]:
    """The runs without copies, and the copies that are left out, each with its original."""
    copies: dict[str, LeftOut] = {}
    for same in _with_equal_predictions(members):
        first, *others = sorted(same, key=_originality)
        kept = [first]
        for other in others:
            reasons = [(one, reason) for one in kept if (reason := _is_copy(other, one))]
            if not reasons:
                kept.append(other)
                continue
            twin, reason = reasons[0]
            run_id = other.row.run_id
            text = f"is a copy of {twin.row.run_id} ({reason})"
            copies[run_id] = LeftOut(run_id, text, twin=twin.row.run_id)
    return [one for one in members if one.row.run_id not in copies], list(copies.values())


def _originality(member: Member) -> tuple[bool, bool, str]:
    """Sorts a run in the folder of its own name first, and links to it later."""
    folder = member.path.parents[1]
    return member.recorded_id != folder.name, folder.is_symlink(), folder.name


def _is_copy(member: Member, other: Member) -> str | None:
    """Why two runs with equal predictions are the same run; None where they only agree."""
    if member.recorded_id == other.recorded_id:
        return "same run id and predictions"
    if member.config.get("adopted") and other.config.get("adopted"):
        return "the same predictions, adopted twice"
    if experiment(member) == experiment(other):
        seed = "same seed" if member.row.seed == other.row.seed else "another seed"
        return f"same experiment and predictions, {seed}"
    return None


def _with_equal_predictions(members: Iterable[Member]) -> Iterator[list[Member]]:
    """All sets of two or more runs whose predictions are equal to the last digit.

    Only files whose metrics are equal are read a second time.
    """
    alike: dict[tuple[Any, ...], list[Member]] = defaultdict(list)
    for member in members:
        row = member.row
        metrics = tuple(str(row.metrics.get(name)) for name in PAIR_METRICS)
        alike[member.fingerprint, row.views, row.class_rule, *metrics].append(member)
    for candidates in alike.values():
        if len(candidates) > 1:
            equal: dict[str, list[Member]] = defaultdict(list)
            for member in candidates:
                equal[_digest(member.path)].append(member)
            yield from (same for same in equal.values() if len(same) > 1)


def _digest(path: Path) -> str:
    """SHA-256 of the rows of a table, independent of their order and of the line endings."""
    header, *rows = read_bounded(path, LARGEST_BYTES).splitlines()
    return hashlib.sha256(b"\n".join([header, *sorted(rows)])).hexdigest()


# Seeds ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distinct:
    """The runs of a group that count in means over seeds.

    Attributes:
        members: one run per seed of each experiment.
        remarks: a sentence for every two runs of one seed, or with equal predictions.
    """

    members: tuple[Member, ...]
    remarks: tuple[str, ...]


def distinct_seeds(members: Sequence[Member]) -> Distinct:
    """Take one run per seed of each experiment, the first by name.

    Two runs of one experiment and seed, trained on two machines, differ only by rounding.
    """
    seeds: dict[Any, list[Member]] = defaultdict(list)
    for member in members:
        known = member.row.seed is not None
        seeds[experiment(member), member.row.seed if known else member.row.run_id].append(member)
    repeated: set[str] = set()
    remarks = []
    for same in seeds.values():
        first, *others = sorted(same, key=lambda member: member.row.run_id)
        repeated |= {other.row.run_id for other in others}
        names = " and ".join([first.row.run_id, *(other.row.run_id for other in others)])
        if others:
            remarks.append(
                f"{names} are one experiment with one seed ({first.row.seed}): means over seeds "
                f"take {first.row.run_id}."
            )
    taken = tuple(member for member in members if member.row.run_id not in repeated)
    return Distinct(taken, (*remarks, *_equal_predictions(members)))


def _equal_predictions(members: Sequence[Member]) -> Iterator[str]:
    for same in _with_equal_predictions(members):
        for one, other in itertools.pairwise(same):
            yield (
                f"{one.row.run_id} and {other.row.run_id} have the same predictions to the last "
                "digit: is one a copy of the other?"
            )
