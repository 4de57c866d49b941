"""Suites: the content of a file, and the runs that it expands to."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from messages import says

from fer_bench.config.experiment import Experiment
from fer_bench.config.loading import load_experiment
from fer_bench.errors import ConfigError
from fer_bench.sweep.suite import Entry, Planned, Suite, load_suite, name_suffix

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SUITES = sorted((CONFIGS / "suites").glob("*.yaml"))
BASE: dict[str, Any] = {
    "seed": 5,
    "dataset": {"name": "drawn", "validation": 0.25},
    "image": {"size": 24},
    "model": {"backbone": "cnn_compact"},
    "stages": [{"name": "all", "epochs": 3, "learning_rate": 1e-3}],
}
PRIOR_WORK = 23

Expand = Callable[..., Suite]


@pytest.fixture
def expand(tmp_path: Path) -> Expand:
    """A suite with these entries, over the experiments base.yaml and other.yaml."""

    def expand(*runs: Any, overrides: tuple[str, ...] = (), **others: Any) -> Suite:
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
        (tmp_path / "other.yaml").write_text(yaml.safe_dump(BASE | {"image": {"size": 32}}))
        path = tmp_path / "suites" / "study.yaml"
        path.parent.mkdir(exist_ok=True)
        document = {"description": "A study.", "runs": list(runs), **others}
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return load_suite(path, overrides)

    return expand


def names(suite: Suite) -> list[str]:
    return [f"{run.experiment.name}-s{run.experiment.seed}" for run in suite.runs]


def experiments(suite: Suite) -> list[Experiment]:
    return [run.experiment for run in suite.runs]


# Entries ---------------------------------------------------------------------------------------


def test_a_path_expands_to_the_run_of_fer_train(expand: Expand, tmp_path: Path) -> None:
    suite = expand("../base.yaml")
    (run,) = suite.runs
    assert (suite.name, suite.description) == ("study", "A study.")
    assert run.run_id == load_experiment(tmp_path / "base.yaml").run_id
    assert run.config == tmp_path / "base.yaml"


def test_seeds_of_an_entry_override_those_of_the_suite(expand: Expand) -> None:
    suite = expand("../base.yaml", {"config": "../other.yaml", "seeds": [9]}, seeds=[1, 2])
    assert names(suite) == ["base-s1", "base-s2", "other-s9"]
    assert names(expand("../base.yaml")) == ["base-s5"]


def test_the_command_line_overrides_the_entry_and_the_entry_the_suite(expand: Expand) -> None:
    entry = {"config": "../base.yaml", "set": {"image.size": 40, "training.batch_size": 8}}
    (run,) = experiments(
        expand(
            entry,
            set={"image.size": 48, "training.precision": "float32"},
            overrides=("training.batch_size=4",),
        )
    )
    assert (run.image.size, run.training.precision, run.training.batch_size) == (40, "float32", 4)


def test_a_grid_makes_every_combination_with_its_own_name(expand: Expand) -> None:
    grid = {"model.head.dropout": [0, 0.3], "dataset.balance": ["none", "undersample"]}
    suite = expand({"config": "../base.yaml", "grid": grid})
    assert names(suite) == [
        "base_balance-none_dropout0-s5",
        "base_balance-none_dropout0.3-s5",
        "base_balance-undersample_dropout0-s5",
        "base_balance-undersample_dropout0.3-s5",
    ]
    heads = [run.model.head for run in experiments(suite)]
    assert [head.dropout for head in heads if head] == [0, 0.3, 0, 0.3]


def test_zipped_keys_change_together_within_every_combination(expand: Expand) -> None:
    suite = expand(
        {
            "config": "../base.yaml",
            "name": "small",
            "grid": {"model.head.dropout": [0, 0.3]},
            "zip": {"image.size": [24, 48], "training.batch_size": [64, 32]},
        }
    )
    found = [(run.image.size, run.training.batch_size) for run in experiments(suite)]
    assert found == [(24, 64), (48, 32)] * 2
    assert names(suite)[1] == "small_size48_dropout0_batch_size32-s5"


def test_whole_stages_can_vary(expand: Expand) -> None:
    stages = [[BASE["stages"][0] | {"epochs": epochs}] for epochs in (1, 2)]
    suite = expand({"config": "../base.yaml", "grid": {"stages": stages}})
    assert [run.stages[0].epochs for run in experiments(suite)] == [1, 2]
    assert len(set(names(suite))) == 2


@pytest.mark.parametrize("where", ["suite", "entry"])
@pytest.mark.parametrize(
    ("seeds", "parts"),
    [
        ([3, 5, 3, 7, 5], ["seeds: ", "3, 5"]),
        ([True, 2], ["seeds.0", "true"]),
        ([0, False], ["seeds.1", "false"]),
    ],
)
def test_invalid_seeds_are_named(
    expand: Expand, where: str, seeds: list[Any], parts: list[str]
) -> None:
    entry = {"config": "../base.yaml"} | ({"seeds": seeds} if where == "entry" else {})
    says(message(expand, entry, **({"seeds": seeds} if where == "suite" else {})), *parts)


def test_the_same_run_is_listed_once(expand: Expand) -> None:
    suite = expand("../base.yaml", {"config": "../base.yaml", "seeds": [5, 6]})
    assert names(suite) == ["base-s5", "base-s6"]


VALUES = st.lists(st.integers(1, 30), min_size=1, max_size=3, unique=True)


@given(
    grid=st.dictionaries(st.sampled_from(["a.b", "a.c", "d", "e.b"]), VALUES, max_size=4),
    data=st.data(),
)
def test_variations_are_the_product_in_an_order_independent_of_the_keys(
    grid: dict[str, list[int]], data: st.DataObject
) -> None:
    varied = Entry.model_validate({"config": "x.yaml", "grid": grid}).variations()
    assert len(varied) == math.prod(len(values) for values in grid.values())
    assert len({name_suffix(values) for values in varied}) == len(varied)
    assert all(values.keys() == grid.keys() for values in varied)
    shuffled = {key: grid[key] for key in data.draw(st.permutations(list(grid)))}
    entry = Entry.model_validate({"config": "x.yaml", "grid": shuffled})
    assert entry.variations() == varied


@pytest.mark.parametrize(
    ("values", "suffix"),
    [
        ({}, ""),
        ({"model.head.dropout": 0.3}, "_dropout0.3"),
        ({"stages.0.learning_rate": 1e-05}, "_learning_rate1e-05"),
        ({"dataset.balance": "class_weights"}, "_balance-class_weights"),
        ({"model.head.dense": [256, 128]}, "_dense256-128"),
        ({"stages.0.train": {"last": 20}}, "_train-last20"),
        ({"image.augment.flip": True}, "_flip-true"),
        ({"training.gradient_clip": None}, "_gradient_clip-none"),
        ({"stages.0.epochs": 1, "stages.1.epochs": 2}, "_0.epochs1_1.epochs2"),
        ({"model.weights": "files/a b.keras"}, "_weights-files-a-b.keras"),
    ],
)
def test_a_variation_is_named_after_its_values(values: dict[str, Any], suffix: str) -> None:
    assert name_suffix(values) == suffix


# Runs that need others -------------------------------------------------------------------------


def test_a_run_waits_for_the_one_whose_weights_it_starts_from(expand: Expand) -> None:
    from_base = {"config": "../other.yaml", "set": {"model.weights": "run:base-s1"}}
    before = {"config": "../base.yaml", "seeds": [1]}
    base, first, second = expand(before, from_base | {"seeds": [1, 2]}).runs
    assert (base.needs, first.needs, second.needs) == (None, base.run_id, base.run_id)
    assert first.experiment.model.weights == f"run:{base.run_id}"


def test_weights_of_a_run_outside_the_suite_are_unchanged(expand: Expand) -> None:
    (run,) = expand("../base.yaml", set={"model.weights": "run:elsewhere-s1-0123abcd"}).runs
    assert (run.needs, run.experiment.model.weights) == (None, "run:elsewhere-s1-0123abcd")


def test_the_parts_of_a_suite_are_all_of_it(expand: Expand) -> None:
    suite = expand("../base.yaml", seeds=[1, 2, 3, 4, 5])
    parts = [names(suite.part(index, 2)) for index in (1, 2)]
    assert parts == [["base-s1", "base-s3", "base-s5"], ["base-s2", "base-s4"]]


def test_a_part_includes_the_runs_that_it_needs(expand: Expand) -> None:
    from_base = {"config": "../other.yaml", "set": {"model.weights": "run:base-s1"}}
    suite = expand({"config": "../base.yaml", "seeds": [1]}, from_base, seeds=[1, 2])
    assert names(suite.part(2, 3)) == ["base-s1", "other-s1"]
    assert names(suite.part(3, 3)) == ["base-s1", "other-s2"]


@pytest.mark.parametrize(("index", "count"), [(0, 2), (3, 2)])
def test_a_part_out_of_range_is_refused(expand: Expand, index: int, count: int) -> None:
    with pytest.raises(ConfigError) as caught:
        expand("../base.yaml").part(index, count)
    says(caught.value, f"--part {index}/{count}", "I/N")


# Errors ----------------------------------------------------------------------------------------


def message(expand: Expand, *runs: Any, **others: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        expand(*runs, **others)
    return str(caught.value)


def test_all_errors_of_the_file_are_listed(expand: Expand) -> None:
    listed = message(
        expand, {"config": "../base.yaml", "sede": 1}, {"seeds": []}, seeds=[-1], descripton="x"
    )
    says(listed, "study.yaml", "5 errors", "seeds.0", "-1", "runs.1.config")
    says(listed, "runs.0.sede", "'seeds'", "descripton", "'description'")


def test_all_errors_of_the_experiments_are_listed_once(expand: Expand) -> None:
    listed = message(
        expand,
        {"config": "../base.yaml", "grid": {"image.size": [24, 2]}},
        {"config": "../none.yaml"},
        {"config": "../other.yaml", "set": {"image.size.x": 1}},
        seeds=[1, 2, 3],
    )
    says(listed, "study.yaml", "3 errors", "none.yaml")
    says(listed, "runs.0: base_size2: image.size", "got 2", "runs.2: set image.size.x", "32")


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ({"zip": {"seed": [1]}}, ["runs.0.zip", "seed", "`seeds`"]),
        ({"grid": {"name": ["a"]}}, ["runs.0.grid", "name", "`name`"]),
        ({"grid": {"image.size": []}}, ["runs.0.grid.image.size"]),
        (
            {"zip": {"image.size": [1, 2], "training.batch_size": [1]}},
            ["zip", "image.size has 2", "training.batch_size has 1"],
        ),
        (
            {"zip": {"image.size": [48]}, "grid": {"image.size": [48]}},
            ["image.size", "grid", "zip"],
        ),
    ],
)
def test_invalid_variations_are_named(
    expand: Expand, entry: dict[str, Any], parts: list[str]
) -> None:
    says(message(expand, {"config": "../base.yaml", **entry}), *parts)


def test_two_experiments_cannot_share_a_name(expand: Expand) -> None:
    listed = message(expand, "../base.yaml", {"config": "../other.yaml", "name": "base"})
    says(listed, "2 different experiments", "base.yaml, other.yaml", "`name`")


def test_an_invalid_override_is_reported_once(expand: Expand) -> None:
    listed = message(expand, "../base.yaml", seeds=[1, 2], overrides=("image.size",))
    says(listed, "--set image.size", "KEY=VALUE")
    assert listed.count("image.size") == 1


# What comes with the project -------------------------------------------------------------------


def shipped(name: str) -> tuple[Planned, ...]:
    return load_suite(CONFIGS / "suites" / f"{name}.yaml").runs


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_shipped_suite_is_valid(path: Path) -> None:
    suite = load_suite(path)
    assert suite.description.endswith(".")
    assert len({run.run_id for run in suite.runs}) == len(suite.runs)
    for run in suite.runs:
        # A user without any runs or weights can still run it.
        assert run.experiment.model.weights.startswith("run:") == (run.needs is not None)


def test_the_prior_work_is_complete() -> None:
    runs = shipped("prior_work")
    assert len(runs) == 3 * PRIOR_WORK
    published = {path.stem for path in CONFIGS.glob("*.yaml") if load_experiment(path).published}
    assert {run.experiment.name for run in runs} == published
    assert {run.experiment.seed for run in runs} == {42, 43, 44}


def test_each_factor_differs_from_the_base_in_one_key_only() -> None:
    by_name = {run.experiment.name: run.experiment for run in shipped("factors")}
    base = by_name["factors_base"].model_dump(exclude={"name"})
    for name, experiment in by_name.items():
        other = experiment.model_dump(exclude={"name"})
        differing = {key for key in base if base[key] != other[key]}
        # The unbalanced images are more, and are trained on for fewer epochs.
        allowed = {"dataset", "stages"} if experiment.dataset.per_class is None else None
        assert differing == allowed if allowed else len(differing) == (name != "factors_base")


def test_the_arms_of_the_ladder_differ_only_in_the_layers_that_train() -> None:
    arms = [run.experiment for run in shipped("unfreeze_ladder") if run.needs]
    trained = {str(experiment.stages[1].train) for experiment in arms}
    assert len(trained) == 4
    alike = {
        experiment.model_copy(update={"name": "", "seed": 0, "stages": ()}).model_dump_json()
        for experiment in arms
    }
    assert len(alike) == 1
    schedules = {
        tuple(stage.model_copy(update={"train": "head"}).model_dump_json() for stage in each.stages)
        for each in arms
    }
    assert len(schedules) == 1


def test_the_run_id_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep needs it several times per second for each of its runs."""
    runs = shipped("prior_work")
    first = [run.run_id for run in runs]
    monkeypatch.setattr(Experiment, "to_yaml", lambda self: pytest.fail("computed again"))
    assert [run.run_id for run in runs] == first
