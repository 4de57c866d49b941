"""Predictions from elsewhere as runs: what is accepted, what is refused, what comparisons see."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from messages import says
from tiers import some_fast

from fer_bench.comparison.collect import collect
from fer_bench.config.dataset import Dataset
from fer_bench.config.experiment import NAME, Experiment
from fer_bench.data.load import load_manifest
from fer_bench.errors import DataError, FerError, RunError
from fer_bench.evaluation.adopt import Adoption, adopt
from fer_bench.evaluation.foreign_table import AdoptionError
from fer_bench.metrics.document import compute
from fer_bench.report.pages import write_run_report
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.predictions import read_predictions
from fer_bench.runs.record import ProtocolRecord, RunRecord

CLASSES = ("neutral", "happiness", "anger")
Adopt = Callable[..., RunDirectory]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Other tests check intervals, apart from the one here that compares them."""
    if "trained_run" not in request.fixturenames:
        monkeypatch.setattr(
            "fer_bench.evaluation.adopt.compute", lambda saved: compute(saved, resamples=20)
        )


def table_of(
    labels: list[str], ids: list[str], classes: tuple[str, ...], seed: int = 1
) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(ids), len(classes)))
    logits[np.arange(len(ids)), [classes.index(label) for label in labels]] += 1
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    columns = {f"p_{name}": shares[:, code] for code, name in enumerate(classes)}
    return pd.DataFrame({"sample_id": ids, "label": labels, **columns})


@pytest.fixture
def table() -> pd.DataFrame:
    """30 predictions with labels."""
    ids = [f"{index:03d}" for index in range(30)]
    return table_of([CLASSES[index % 3] for index in range(30)], ids, CLASSES)


@pytest.fixture
def dataset(drawn_root: Path) -> Dataset:
    return Dataset(name="drawn", root=drawn_root)


@pytest.fixture
def drawn(dataset: Dataset) -> pd.DataFrame:
    """Predictions of all eight classes for the test split of the drawn faces, without labels."""
    manifest = load_manifest(dataset)
    rows = manifest.split("test")
    whole = table_of(rows["label"].tolist(), rows["sample_id"].tolist(), manifest.classes)
    return whole.drop(columns="label")


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def adopted(tmp_path: Path, outputs: Path) -> Adopt:
    """Write a table and adopt it."""

    def call(
        table: pd.DataFrame, name: str = "other", fresh: bool = False, **more: Any
    ) -> RunDirectory:
        path = tmp_path / "their predictions.csv"
        table.to_csv(path, index=False)
        more = {"seed": 0} | more
        return adopt(Adoption(name, source=path, **more), outputs, fresh=fresh)

    return call


@pytest.fixture
def refused(adopted: Adopt, outputs: Path) -> Callable[..., str]:
    """The message when a table is refused; nothing is left behind."""

    def call(table: pd.DataFrame, error: type[FerError] = AdoptionError, **more: Any) -> str:
        before = sorted(outputs.rglob("*"))
        with pytest.raises(error) as raised:
            adopted(table, **more)
        assert sorted(outputs.rglob("*")) == before
        return str(raised.value)

    return call


Refused = Callable[..., str]


# What is written -------------------------------------------------------------------------------


def test_a_run_is_written(
    adopted: Adopt, table: pd.DataFrame, tmp_path: Path, outputs: Path
) -> None:
    run = adopted(table, seed=3)
    digest = hashlib.sha256((tmp_path / "their predictions.csv").read_bytes()).hexdigest()
    assert run.path == outputs / f"other-s3-{digest[:8]}"
    assert [path.name for path in outputs.iterdir()] == [run.run_id]
    assert run.status() == "finished"
    assert run.is_adopted()
    record = run.read_json(run.run_json)
    assert (record["run_id"], record["name"], record["seed"]) == (run.run_id, "other", 3)
    assert record["dataset"]["counts"] == {"test": dict.fromkeys(CLASSES, 10)}
    assert yaml.safe_load(run.config.read_text()) == {
        "name": "other",
        "seed": 3,
        "adopted": True,
        "source": {"file": "their predictions.csv", "sha256": digest},
        "split": "test",
    }
    document = run.read_json(run.metrics("test"))
    assert document["n"] == 30
    assert document["protocol"]["classes"] == list(CLASSES)
    assert document["protocol"]["selection"] == "unknown"
    assert document["protocol"]["dataset"] is None


def test_values_are_kept(adopted: Adopt, table: pd.DataFrame) -> None:
    saved = read_predictions(adopted(table).predictions("test"))
    assert saved.sample_ids == tuple(table["sample_id"])  # 007 stays 007
    assert saved.label_names.tolist() == table["label"].tolist()
    assert saved.expression is not None
    expected = table[[f"p_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(saved.expression.probabilities, expected, atol=1e-8)
    np.testing.assert_array_equal(saved.expression.predicted, expected.argmax(axis=1))


def test_spellings_and_order_of_classes_do_not_matter(adopted: Adopt, table: pd.DataFrame) -> None:
    plain = adopted(table)
    spelled = table.rename(columns={"p_anger": "p_0_Angry", "p_happiness": "p_Happy"})
    spelled["label"] = spelled["label"].replace({"anger": "ANGRY", "happiness": "1 - happy"})
    other = adopted(spelled[[*spelled.columns[::-1]]], name="spelled")
    first, second = (run.predictions("test").read_text() for run in (plain, other))
    assert first == second


def test_labels_come_from_the_dataset(
    adopted: Adopt, drawn: pd.DataFrame, dataset: Dataset
) -> None:
    run = adopted(drawn.sample(frac=1, random_state=0), dataset=dataset)
    manifest = load_manifest(dataset)
    expected = manifest.split("test").set_index("sample_id")["label"].sort_index()
    saved = read_predictions(run.predictions("test"))
    assert dict(zip(saved.sample_ids, saved.label_names, strict=True)) == expected.to_dict()
    protocol = run.read_json(run.metrics("test"))["protocol"]
    assert protocol["dataset_fingerprint"] == manifest.fingerprint
    record = run.read_json(run.run_json)
    run.check_dataset(manifest.root, manifest.fingerprint)
    assert record["dataset"]["counts"] == manifest.counts()
    assert Dataset(**yaml.safe_load(run.config.read_text())["dataset"]) == dataset


@pytest.mark.parametrize("before", ["", "./", "{root}/"])
def test_paths_are_recognised_as_ids(
    adopted: Adopt, drawn: pd.DataFrame, dataset: Dataset, before: str
) -> None:
    by_id = adopted(drawn, dataset=dataset)
    paths = load_manifest(dataset).split("test").set_index("sample_id")["path"]
    begin = before.format(root=dataset.root)
    drawn["sample_id"] = begin + drawn["sample_id"].map(paths)
    by_path = adopted(drawn, name="by_path", dataset=dataset)
    first, second = (run.predictions("test").read_text() for run in (by_id, by_path))
    assert first == second


@pytest.mark.parametrize("root", ["{root}", "{near}/link", "relative"])
def test_absolute_paths_of_the_images_are_recognised_whatever_the_root_looks_like(
    adopted: Adopt,
    drawn: pd.DataFrame,
    drawn_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    root: str,
) -> None:
    monkeypatch.chdir(drawn_root.parent)
    (tmp_path / "link").symlink_to(drawn_root)
    place = Path(root.format(root=drawn_root, near=tmp_path).replace("relative", drawn_root.name))
    there = Dataset(name="drawn", root=place)
    paths = load_manifest(there).split("test").set_index("sample_id")["path"]
    drawn["sample_id"] = f"{drawn_root}/" + drawn["sample_id"].map(paths)
    saved = read_predictions(adopted(drawn, dataset=there).predictions("test"))
    assert set(saved.sample_ids) == set(paths.index)


def test_paths_of_another_machine_are_recognised_by_their_ends(
    adopted: Adopt, drawn: pd.DataFrame, dataset: Dataset
) -> None:
    paths = load_manifest(dataset).split("test").set_index("sample_id")["path"]
    drawn["sample_id"] = "C:\\\\faces\\\\" + drawn["sample_id"].map(paths).str.replace("/", "\\")
    assert len(read_predictions(adopted(drawn, dataset=dataset).predictions("test"))) == len(paths)


def test_unknown_paths_are_shown_beside_known_ones(
    refused: Refused, drawn: pd.DataFrame, dataset: Dataset
) -> None:
    paths = load_manifest(dataset).split("test").set_index("sample_id")["path"]
    drawn["sample_id"] = "/else/" + drawn["sample_id"].map(paths).str.rpartition("/")[2]
    message = refused(drawn, dataset=dataset)
    assert "The file has paths such as /else/" in message


@pytest.mark.parametrize("mark", [";", "\t", "|", ", "])
@pytest.mark.parametrize("comma", [False, True])
def test_separators_and_decimal_commas(
    table: pd.DataFrame, outputs: Path, tmp_path: Path, mark: str, comma: bool
) -> None:
    rows = [list(table), *table.astype(str).to_numpy().tolist()]
    if comma and mark != ", ":
        rows = [[cell.replace(".", ",") for cell in row] for row in rows]
    path = tmp_path / "theirs.csv"
    path.write_text("\n".join(map(mark.join, rows)), encoding="utf-8-sig")
    run = adopt(Adoption("other", 0, path), outputs)
    saved = read_predictions(run.predictions("test"))
    assert saved.expression is not None
    expected = table[[f"p_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(saved.expression.probabilities, expected, atol=1e-8)


def test_it_has_every_key_that_a_trained_run_has(adopted: Adopt, table: pd.DataFrame) -> None:
    run = adopted(table)
    record, protocol = run.read_json(run.run_json), run.read_json(run.metrics("test"))["protocol"]
    assert set(record) == {field.name for field in dataclasses.fields(RunRecord)}
    assert set(protocol) == {field.name for field in dataclasses.fields(ProtocolRecord)}
    assert set(record["dataset"]) >= {"split_digest", "fingerprint"}


def test_a_given_prediction_that_is_not_the_most_probable_is_reported(
    adopted: Adopt, table: pd.DataFrame
) -> None:
    shares = table[[f"p_{name}" for name in CLASSES]].to_numpy()
    chosen = np.array(CLASSES)[shares.argmax(axis=1)]
    right = adopted(table.assign(predicted=chosen))
    wrong = adopted(table.assign(predicted="happy"), name="wrong")
    remarks = [run.read_json(run.metrics("test"))["warnings"] for run in (right, wrong)]
    assert [len(lines) for lines in remarks] == [1, 2]
    differ = int((chosen != "happiness").sum())
    assert f"in {differ} of 30 rows" in remarks[1][1]
    accuracies = [run.read_json(run.metrics("test"))["accuracy"]["value"] for run in (right, wrong)]
    assert accuracies[0] == accuracies[1]


# What is refused -------------------------------------------------------------------------------


def changed(table: pd.DataFrame, column: str, value: object, row: int = 4) -> pd.DataFrame:
    values = list(table[column])
    values[row] = value
    return table.assign(**{column: values})


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda t: changed(t, "p_anger", "nan"), ("p_anger", "'004'", "'nan'")),
        (lambda t: changed(t, "p_anger", ""), ("p_anger", "'004'", "''")),
        (lambda t: changed(t, "p_anger", 0.9), ("'004'", "adds up to")),
        (lambda t: changed(t, "p_anger", -0.5), ("'004'", "-0.5")),
        (lambda t: pd.concat([t, t[4:5]]), ("1 sample id occurs", "004")),
        (lambda t: t.drop(columns="sample_id"), ("column sample_id", "label", "p_neutral")),
        (lambda t: t.drop(columns="label"), ("column label", "--data")),
        (lambda t: t[["sample_id", "label", "p_anger"]], ("p_<class>", "p_anger")),
        (lambda t: t.rename(columns={"p_anger": "p_angr"}), ("p_angr", "Did you mean 'angry'?")),
        (lambda t: t.assign(p_angry=t.p_anger), ("p_anger", "p_angry", "class anger")),
        (lambda t: changed(t, "label", "fine"), ("label 'fine'", "neutral")),
        (lambda t: changed(t, "label", "fear"), ("fear", "neutral, happiness, anger", "0")),
        (lambda t: t[:0], ("no rows",)),
    ],
)
def test_a_bad_file(
    refused: Refused,
    table: pd.DataFrame,
    change: Callable[[Any], pd.DataFrame],
    parts: tuple[str, ...],
) -> None:
    says(refused(change(table)), "their predictions.csv", *parts)


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (lambda p: np.log(p), "softmax"),
        (lambda p: 10 * p, "softmax"),
        (lambda p: 100 * p, "by 100"),
        (lambda p: p * 0.99, "four decimals"),
        (lambda p: p * 0.5, "by their sum"),
    ],
)
def test_values_that_are_not_probabilities_come_with_advice(
    refused: Refused, table: pd.DataFrame, change: Callable[[Any], Any], advice: str
) -> None:
    columns = [f"p_{name}" for name in CLASSES]
    table[columns] = change(table[columns])
    says(refused(table), advice)


def test_ids_of_another_split(refused: Refused, drawn: pd.DataFrame, dataset: Dataset) -> None:
    train = load_manifest(dataset).split("train")["sample_id"].tolist()
    drawn.loc[:1, "sample_id"] = [train[0], "nobody"]
    message = refused(drawn, dataset=dataset)
    says(message, "2 sample ids", "the test split of dataset 'drawn'", "1 in train", train[0])
    says(message, "2 samples")


def test_an_incomplete_split(refused: Refused, drawn: pd.DataFrame, dataset: Dataset) -> None:
    message = refused(drawn[:-3], dataset=dataset)
    says(message, "3 samples of the test split of dataset 'drawn'", "missing")
    assert "are not in" not in message


def test_labels_that_contradict_the_dataset(
    refused: Refused, drawn: pd.DataFrame, dataset: Dataset
) -> None:
    message = refused(drawn.assign(label="fear"), dataset=dataset)
    says(message, "42 of 48 labels", "dataset 'drawn'", "is fear, there ", "column label")


def test_classes_that_are_not_those_of_the_dataset(
    refused: Refused, drawn: pd.DataFrame, dataset: Dataset
) -> None:
    message = refused(drawn.drop(columns="p_contempt"), dataset=dataset)
    says(message, "p_contempt", "dataset 'drawn'", "probability 0")
    without = dataset.model_copy(update={"contempt": "drop"})
    rows = load_manifest(without).split("test")["sample_id"]
    message = refused(drawn[drawn["sample_id"].isin(rows)], dataset=without)
    says(message, "contempt", "dataset 'drawn'", "divide the others by their sum")


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "../a", "ä"])
def test_an_invalid_name(refused: Refused, table: pd.DataFrame, name: str) -> None:
    says(refused(table, name=name), repr(name), "letters, digits")


def test_a_name_that_is_too_long(refused: Refused, table: pd.DataFrame) -> None:
    """It was the name of a folder, and ended in a traceback."""
    says(refused(table, name="x" * 300), "'xxx", "200")


def test_names_are_those_of_experiments() -> None:
    (pattern,) = [item.pattern for item in Experiment.model_fields["name"].metadata]
    assert pattern == f"^{NAME}$"


def test_an_unknown_split(refused: Refused, table: pd.DataFrame) -> None:
    says(refused(table, split="testing"), "'testing'", "train, validation, test")


def test_a_dataset_that_is_missing(refused: Refused, table: pd.DataFrame, tmp_path: Path) -> None:
    refused(table, DataError, dataset=Dataset(name="rafdb", root=tmp_path / "none"))


def test_a_file_that_is_missing(outputs: Path, tmp_path: Path) -> None:
    with pytest.raises(AdoptionError, match=r"none\.csv: cannot be read"):
        adopt(Adoption("other", 0, tmp_path / "none.csv"), outputs)
    assert not outputs.exists()


# Names that are taken --------------------------------------------------------------------------


def test_a_run_is_not_overwritten(adopted: Adopt, refused: Refused, table: pd.DataFrame) -> None:
    run = adopted(table)
    message = refused(changed(table, "sample_id", "other"), RunError)
    says(message, run.run_id, "--seed", "--fresh")
    adopted(table, seed=1)
    adopted(table, name="other-s0")


def test_fresh_replaces_what_was_adopted(
    adopted: Adopt, table: pd.DataFrame, outputs: Path
) -> None:
    before = adopted(table)
    after = adopted(changed(table, "sample_id", "other"), fresh=True)
    assert before.run_id != after.run_id
    assert [path.name for path in outputs.iterdir()] == [after.run_id]
    assert adopted(changed(table, "sample_id", "other"), fresh=True).run_id == after.run_id


def test_fresh_never_replaces_what_was_trained(
    adopted: Adopt, refused: Refused, table: pd.DataFrame
) -> None:
    run = adopted(table)
    record = run.read_json(run.run_json)
    record["model"]["weights"] = "imagenet"
    run.run_json.write_text(json.dumps(record))
    says(refused(table, RunError, fresh=True), run.run_id, "trained here", "another name")


def test_a_bad_file_replaces_nothing(adopted: Adopt, refused: Refused, table: pd.DataFrame) -> None:
    adopted(table)
    refused(changed(table, "p_anger", "nan"), fresh=True)


def contents(outputs: Path) -> dict[str, bytes]:
    return {
        path.relative_to(outputs).as_posix(): path.read_bytes()
        for path in outputs.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("failing", range(2))
def test_a_failure_while_replacing_leaves_all_as_it_was(
    adopted: Adopt,
    table: pd.DataFrame,
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    same: bool,
    failing: int,
) -> None:
    before = adopted(table)
    files = contents(outputs)
    calls, real = iter(range(100)), Path.rename

    def fail_once(path: Path, target: Path) -> Path:
        if path.name.startswith("other-s0") and next(calls) == failing:
            raise OSError(28, "No space left on device")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(OSError, match="No space left"):
        adopted(table if same else changed(table, "sample_id", "other"), fresh=True)
    assert contents(outputs) == files
    assert [path.name for path in outputs.iterdir()] == [before.run_id]


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("killed_at", range(2))
def test_what_a_killed_process_had_moved_comes_back(
    adopted: Adopt,
    table: pd.DataFrame,
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    same: bool,
    killed_at: int,
) -> None:
    """Killed: nothing that would clean up comes to be called."""
    adopted(table)
    files = contents(outputs)
    calls, real = iter(range(100)), Path.rename

    def die(path: Path, target: Path) -> Path:
        if path.name.startswith("other-s0") and next(calls) == killed_at:
            raise SystemExit
        return real(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", die)
        patched.setattr("fer_bench.evaluation.adopt._bring_back", lambda *_: None)
        patched.setattr("fer_bench.storage.replacement.discard", lambda _: None)
        with pytest.raises(SystemExit):
            adopted(table if same else changed(table, "sample_id", "other"), fresh=True)
    adopted(table, name="another")
    assert {
        name: text for name, text in contents(outputs).items() if "another" not in name
    } == files
    assert len(list(outputs.iterdir())) == 2


# Beside other runs -----------------------------------------------------------------------------


def test_runs_of_one_name_count_as_seeds(
    adopted: Adopt, table: pd.DataFrame, outputs: Path
) -> None:
    for seed in (1, 2):
        ids, labels = table["sample_id"].tolist(), table["label"].tolist()
        adopted(table_of(labels, ids, CLASSES, seed=seed), seed=seed)
    (group,) = collect(outputs).groups
    assert [entry.seeds for entry in group.seeds] == [(1, 2)]


@pytest.mark.parametrize("with_dataset", some_fast([True, False], False))
def test_it_has_a_page(
    adopted: Adopt,
    table: pd.DataFrame,
    drawn: pd.DataFrame,
    dataset: Dataset,
    with_dataset: bool,
) -> None:
    run = adopted(drawn, dataset=dataset) if with_dataset else adopted(table)
    page = write_run_report(run).read_text()
    assert run.run_id in page
    assert "adopted" in page


@pytest.mark.slow
def test_a_trained_run_adopted_again_is_the_same(trained_run: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    trained = RunDirectory(Path(shutil.copytree(trained_run, outputs / trained_run.name)))
    config = yaml.safe_load(trained.config.read_text())
    dataset = Dataset(**config["dataset"])
    run = adopt(Adoption("again", 7, trained.predictions("test"), dataset=dataset), outputs)
    ours, theirs = (one.read_json(one.metrics("test")) for one in (trained, run))
    shared = set(theirs) - {"protocol", "warnings"}
    assert {"accuracy", "macro_f1", "per_class", "fingerprint", "interval"} <= shared
    assert {key: theirs[key] for key in shared} == {key: ours[key] for key in shared}
    (group,) = collect(outputs).groups
    assert {row.run_id for row in group.runs} == {trained.run_id, run.run_id}
    assert {pair.difference for pair in group.pairs} == {0.0}
