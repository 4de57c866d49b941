"""One run is one run: copies, files adopted twice, and seeds that were trained on two machines."""

import csv
import functools
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from fer_bench.comparison import Comparison
from fer_bench.comparison.collect import collect
from fer_bench.evaluation import adopt as adopt_module
from fer_bench.evaluation.adopt import Adoption, adopt
from fer_bench.metrics.document import compute
from fer_bench.report.pages import comparison_page
from fer_bench.report.paper import latex, markdown

CLASSES = ("happiness", "sadness", "anger")


def answers(path: Path, number: int) -> Path:
    """A table of probabilities for the same 60 images; another `number`, other probabilities."""
    rng = random.Random(number)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample_id", "label", *(f"p_{name}" for name in CLASSES)])
        for index in range(60):
            shares = [rng.random() + (index % 3 == place) * 0.5 for place in range(3)]
            total = sum(shares)
            probabilities = [round(share / total, 6) for share in shares]
            writer.writerow([f"{index:03d}.png", CLASSES[index % 3], *probabilities])
    return path


class Outputs:
    """A folder of runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "outputs"
        self.path.mkdir()

    def adopt(self, name: str, number: int = 0, seed: int = 0) -> Path:
        """A run of predictions from elsewhere."""
        table = answers(self.folder / "answers.csv", number)
        return adopt(Adoption(name, seed, table, "test", None), self.path, fresh=False).path

    def train(
        self, name: str, number: int, seed: int, folder: str | None = None, **changes: Any
    ) -> Path:
        """A run as if trained here: `changes` are keys of its dataset, cache and record."""
        path = self.adopt(f"raw{number}-{seed}", number, seed)
        dataset = {"name": "folder", "root": changes.get("root", "data/folder")}
        config: dict[str, Any] = {
            "name": name,
            "seed": seed,
            "dataset": dataset,
            "model": {"weights": "none"},
            **{key: changes[key] for key in ("cache", "tracking", "training") if key in changes},
        }
        run_id = f"{name}-s{seed}-{changes.get('digest', '00000000')}"
        record = json.loads((path / "run.json").read_text())
        record |= {"run_id": run_id, "name": name, "seed": seed}
        record["dataset"] |= {"fingerprint": changes.get("fingerprint", "f" * 64)}
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        (path / "run.json").write_text(json.dumps(record))
        return path.rename(self.path / (folder or run_id))

    def compare(self) -> Comparison:
        """All of it."""
        return collect(self.path)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here looks at the intervals of a run's own metrics."""
    monkeypatch.setattr(adopt_module, "compute", functools.partial(compute, resamples=20))


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    """An empty folder of runs."""
    return Outputs(tmp_path)


def rows(comparison: Comparison) -> list[str]:
    return [row.run_id for group in comparison.groups for row in group.runs]


def test_a_copied_folder_is_no_second_seed(outputs: Outputs) -> None:
    """The case `copied-run-is-no-seed`: two rows, two seeds with a spread of 0.00, and a pair."""
    run = outputs.adopt("mine")
    copy = shutil.copytree(run, outputs.path / "mine - Copy")
    comparison = outputs.compare()
    assert rows(comparison) == [run.name]
    (left_out,) = comparison.left_out
    assert (left_out.run_id, left_out.twin) == (copy.name, run.name)
    assert left_out.reason == f"is a copy of {run.name} (same run id and predictions)"
    (group,) = comparison.groups
    assert (group.seeds, group.pairs, group.experiments) == ((), (), ())


def test_the_copy_is_told_of_everywhere(outputs: Outputs) -> None:
    run = outputs.adopt("mine")
    shutil.copytree(run, outputs.path / "backup")
    comparison = outputs.compare()
    assert comparison.to_json()["left_out"][0]["twin"] == run.name
    for text in (markdown(comparison), comparison_page(comparison)):
        assert "is a copy of" in text


@pytest.mark.parametrize("names", [("backup", "mine-s0-older", "zz"), ("a", "b", "c")])
def test_of_several_copies_the_folder_of_its_own_name_stays(
    outputs: Outputs, names: tuple[str, ...]
) -> None:
    run = outputs.adopt("mine")
    for name in names:
        shutil.copytree(run, outputs.path / name)
    comparison = outputs.compare()
    assert rows(comparison) == [run.name]
    assert {one.run_id for one in comparison.left_out} == set(names)
    assert {one.twin for one in comparison.left_out} == {run.name}


def test_a_renamed_run_alone_stays(outputs: Outputs) -> None:
    outputs.adopt("mine").rename(outputs.path / "the good one")
    comparison = outputs.compare()
    assert (rows(comparison), comparison.left_out) == (["the good one"], ())


def test_a_link_to_a_run_is_a_copy(outputs: Outputs) -> None:
    run = outputs.adopt("mine")
    (outputs.path / "latest").symlink_to(run)
    comparison = outputs.compare()
    assert rows(comparison) == [run.name]
    assert [one.run_id for one in comparison.left_out] == ["latest"]


@pytest.mark.parametrize(("name", "seed"), [("mine", 1), ("theirs", 0), ("theirs", 1)])
def test_one_table_adopted_twice_counts_once(outputs: Outputs, name: str, seed: int) -> None:
    first = outputs.adopt("mine")
    second = outputs.adopt(name, seed=seed)
    comparison = outputs.compare()
    assert rows(comparison) == [first.name]
    (left_out,) = comparison.left_out
    assert (left_out.run_id, left_out.twin) == (second.name, first.name)


def test_the_order_of_its_rows_makes_no_other_table(outputs: Outputs) -> None:
    run = outputs.adopt("mine")
    copy = shutil.copytree(run, outputs.path / "sorted")
    file = copy / "predictions" / "test.csv"
    header, *lines = file.read_text().splitlines()
    file.write_text("\r\n".join([header, *reversed(lines)]) + "\r\n", newline="")
    assert rows(outputs.compare()) == [run.name]


def test_different_seeds_are_seeds(outputs: Outputs) -> None:
    for seed in range(3):
        outputs.adopt("mine", number=seed, seed=seed)
    comparison = outputs.compare()
    (seeds,) = comparison.groups[0].seeds
    assert (seeds.seeds, comparison.left_out) == ((0, 1, 2), ())
    assert len({row.value("nll") for row in comparison.groups[0].runs}) == 3


def test_the_same_seed_on_two_machines_is_one_seed(outputs: Outputs) -> None:
    first = outputs.train("net", 1, seed=1, root="/home/one/faces", digest="11111111")
    second = outputs.train("net", 2, seed=1, root="/data/faces", digest="22222222")
    third = outputs.train("net", 3, seed=2, root="/data/faces", digest="33333333")
    comparison = outputs.compare()
    (group,) = comparison.groups
    (seeds,) = group.seeds
    assert seeds.run_ids == (first.name, third.name)
    assert seeds.seeds == (1, 2)
    (remark,) = group.remarks
    assert all(name in remark for name in (first.name, second.name, "one seed"))
    for text in (markdown(comparison), latex(comparison), comparison_page(comparison)):
        assert "means over seeds take" in text.replace("\n", " ")


def test_one_seed_trained_twice_has_no_spread(outputs: Outputs) -> None:
    for number in (1, 2):
        outputs.train("net", number, seed=1, folder=f"machine{number}")
    (group,) = outputs.compare().groups
    assert group.seeds == ()
    assert "machine1 and machine2 are one experiment with one seed (1)" in group.remarks[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"root": "/elsewhere/faces"},
        {"cache": {"trunk": "off"}},
        {"cache": {"trunk": "exact"}},
        {"tracking": ["mlflow"]},
    ],
)
def test_where_it_was_trained_is_not_the_experiment(
    outputs: Outputs, changes: dict[str, Any]
) -> None:
    outputs.train("net", 1, seed=1)
    outputs.train("net", 2, seed=2, **changes)
    (seeds,) = outputs.compare().groups[0].seeds
    assert seeds.seeds == (1, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": "a" * 64},  # other faces
        {"cache": {"trunk": {"views": 4}}},
        {"training": {"batch_size": 8}},
    ],
)
def test_what_was_trained_is(outputs: Outputs, changes: dict[str, Any]) -> None:
    outputs.train("net", 1, seed=1)
    outputs.train("net", 2, seed=2, **changes)
    (group,) = outputs.compare().groups
    assert (group.seeds, group.remarks) == ((), ())


def test_different_experiments_that_answer_alike_are_pointed_out(outputs: Outputs) -> None:
    first = outputs.train("one", 1, seed=1)
    shutil.copytree(first, outputs.path / "kept")
    second = outputs.path / "two"
    shutil.copytree(first, second)
    config = yaml.safe_load((second / "config.yaml").read_text())
    (second / "config.yaml").write_text(yaml.safe_dump(config | {"name": "two", "seed": 3}))
    record = json.loads((second / "run.json").read_text())
    (second / "run.json").write_text(json.dumps(record | {"run_id": "two", "name": "two"}))
    comparison = outputs.compare()
    (group,) = comparison.groups
    assert sorted(rows(comparison)) == sorted([first.name, "two"])
    assert [one.run_id for one in comparison.left_out] == ["kept"]
    assert any("the same predictions to the last digit" in remark for remark in group.remarks)
