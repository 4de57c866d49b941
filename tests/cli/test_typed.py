"""Runs, folders, options and names as people type them."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from messages import says
from typed_files import EXPERIMENT
from typer.testing import Result

from fer_bench.config.loading import load_experiment
from fer_bench.errors import ConfigError
from fer_bench.registry import BACKBONES, DATASETS
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.names import named_run

Fer = Callable[..., Result]


@pytest.fixture
def run(here: Path) -> RunDirectory:
    """The run called `one`."""
    return RunDirectory(next(Path("outputs").glob("one-*")))


# One way to name a run ---------------------------------------------------------------------------


@pytest.fixture(
    params=[
        *("{id}", "one", "on", "outputs/{id}", "./outputs/{id}", "outputs/{id}/", "{absolute}"),
        *("outputs/{id}/run.json", "outputs/{id}/predictions/test.csv"),
    ]
)
def typed(request: pytest.FixtureRequest, run: RunDirectory) -> str:
    """Everything that one run is called."""
    return str(request.param).format(id=run.run_id, absolute=run.path.absolute())


def test_every_name_of_a_run_is_that_run(typed: str, run: RunDirectory) -> None:
    """The case `paths-and-runs-as-typed`: only the id and the absolute path were accepted."""
    assert named_run(Path("outputs"), typed).path.resolve() == run.path.resolve()


@pytest.mark.slow
def test_commands_take_every_name_of_a_run(typed: str, run: RunDirectory, fer: Fer) -> None:
    for command in (["report"], ["compare"]):
        result = fer(*command, typed)
        assert result.exit_code == 0, result.output
        assert run.run_id in result.stdout


def test_from_inside_its_folder(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run.path.resolve()
    monkeypatch.chdir(folder)
    for name in (".", "run.json", str(folder)):
        assert named_run(Path("outputs"), name).run_id == run.run_id


def test_the_latest_is_the_one_that_began_last(here: Path) -> None:
    for name, started in (("one", "2030-01-01"), ("other", "2031-01-01"), ("third", "2029-01-01")):
        path = next((here / "outputs").glob(f"{name}-*")) / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"started": started}))
    assert named_run(Path("outputs"), "latest").run_id.startswith("other-")


def test_several_that_begin_so_are_named(here: Path, fer: Fer) -> None:
    result = fer("report", "o")
    assert result.exit_code == 2
    says(result.stderr, "2 runs", "'o'", "one-s0-", "other-s1-")


def test_a_run_that_is_not_there_names_those_that_are(here: Path, fer: Fer) -> None:
    result = fer("report", "nothing")
    assert result.exit_code == 2
    says(result.stderr, "'nothing'", "one-s0-")


def test_several_runs_at_once_and_all_errors_at_the_end(here: Path, fer: Fer) -> None:
    result = fer("report", "one", "nothing", "third", "nowhere")
    assert result.exit_code == 2
    assert len(result.stdout.splitlines()) == 2
    assert "'nothing'" in result.stderr
    assert "'nowhere'" in result.stderr


@pytest.mark.parametrize("arguments", [["one", "third"], ["outputs/one-*", "outputs/third-*"]])
def test_compare_takes_runs(here: Path, fer: Fer, arguments: list[str]) -> None:
    paths = [str(path) for name in arguments for path in here.glob(name)] or arguments
    document = json.loads(fer("compare", "--json", *paths).stdout)
    assert {row["name"] for row in document["groups"][0]["runs"]} == {"one", "third"}


def test_compare_takes_all_that_a_pattern_names(here: Path, fer: Fer) -> None:
    (here / "outputs" / "sweeps").mkdir()
    (here / "outputs" / "notes.txt").write_text("x")
    document = json.loads(fer("compare", "--json", *(here / "outputs").iterdir()).stdout)
    assert len(document["groups"][0]["runs"]) == 3


def test_compare_takes_several_folders(here: Path, fer: Fer) -> None:
    """Of two runs with one id the folder tells which is which; a copy is still left out."""
    shutil.copytree(here / "outputs", here / "theirs")
    path = next((here / "theirs").glob("one-*")) / "predictions" / "test.csv"
    document = json.loads(fer("compare", "--json", "outputs", "theirs").stdout)
    assert len(document["groups"][0]["runs"]) == 3
    assert len(document["left_out"]) == 3
    assert all(one["twin"] for one in document["left_out"]), path


@pytest.mark.parametrize(
    ("option", "where"),
    [
        (["--csv", "-"], "stderr"),
        (["--latex", "-"], "stderr"),
        (["--json"], "stdout"),
        (["--markdown", "-"], "stdout"),
        (["--csv", "runs.csv"], "stdout"),
        (["--latex", "runs.tex"], "stdout"),
    ],
)
def test_a_copy_that_is_left_out_is_named(
    here: Path, fer: Fer, option: list[str], where: str
) -> None:
    """In a backup two levels down, too, if that is given."""
    original = next((here / "outputs").glob("one-*"))
    shutil.copytree(original, here / "outputs" / "backup" / "2026" / original.name)
    result = fer("compare", "outputs", "outputs/backup/2026", *option)
    assert result.exit_code == 0, result.output
    says(getattr(result, where), "is a copy of", "same run id and predictions", "backup")
    silent = fer("compare", "outputs", *option)
    assert "is a copy of" not in silent.output


# Paths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["~/faces", "$PLACE/faces", "${PLACE}/faces"])
def test_home_and_variables_in_a_config(
    here: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("PLACE", str(here))
    Path("tiny.yaml").write_text(
        EXPERIMENT.replace("root: faces", f"root: '{root}', exclude: '{root}'")
    )
    dataset = load_experiment(Path("tiny.yaml")).dataset
    assert (dataset.root, dataset.exclude) == (here / "faces", here / "faces")
    assert load_experiment(Path("tiny.yaml"), [f"model.weights={root}.h5"]).model.weights == (
        f"{here}/faces.h5"
    )


@pytest.mark.parametrize("option", ["--outputs=~/outputs", "--outputs=$PLACE/outputs"])
def test_home_and_variables_in_an_option(
    here: Path, fer: Fer, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("PLACE", str(here))
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert fer("report", "one", option).exit_code == 0
    assert fer("compare", option.partition("=")[2]).exit_code == 0


def test_a_variable_that_is_not_set_is_an_error(here: Path, fer: Fer) -> None:
    Path("tiny.yaml").write_text(EXPERIMENT.replace("root: faces", "root: $NOWHERE/faces"))
    result = fer("validate", "tiny.yaml")
    assert result.exit_code == 2
    says(result.stderr, "dataset.root", "$NOWHERE")
    result = fer("report", "one", "--outputs", "$NOWHERE/outputs")
    assert (result.exit_code, "$NOWHERE is not set" in result.stderr) == (2, True)


def test_a_path_that_is_there_as_written_stays(here: Path) -> None:
    (here / "$RECYCLE").mkdir()
    Path("tiny.yaml").write_text(EXPERIMENT.replace("root: faces", "root: $RECYCLE"))
    assert load_experiment(Path("tiny.yaml")).dataset.root == Path("$RECYCLE")


# Folders and runs for files ----------------------------------------------------------------------


@pytest.mark.slow
def test_an_audit_takes_a_folder(here: Path, fer: Fer) -> None:
    result = fer("data", "audit", "faces", "--quarantine", "q.csv", "--groups", "g.csv")
    assert result.exit_code == 0, result.output


def test_statistics_take_a_folder(here: Path, fer: Fer) -> None:
    stats = json.loads(fer("data", "stats", "faces", "--json").stdout)
    assert stats["dataset"] == "drawn"
    assert sum(stats["counts"]["test"].values()) == 48
    dropped = fer("data", "stats", "faces", "--set", "dataset.contempt=drop", "--json")
    assert "contempt" not in json.loads(dropped.stdout)["classes"]


def test_a_folder_without_a_dataset_says_what_is_missing(here: Path, fer: Fer) -> None:
    (here / "empty").mkdir()
    result = fer("data", "stats", "empty")
    assert result.exit_code == 2
    says(result.stderr, "layout of affectnet")


def test_a_folder_for_a_config_says_what_it_holds(here: Path, fer: Fer) -> None:
    for command in (["train"], ["validate"], ["sweep"], ["adopt", "x", "one.csv", "--data"]):
        result = fer(*command, ".")
        assert result.exit_code == 2
        says(result.stderr, "tiny.yaml")
        assert "Errno" not in result.stderr


def test_an_adopted_run_has_no_experiment(here: Path, fer: Fer) -> None:
    result = fer("train", "one")
    assert (result.exit_code, "has no experiment" in result.stderr) == (2, True)


@pytest.mark.slow
def test_a_run_stands_for_its_own_config(
    trained_run: Path, fer: Fer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = shutil.copytree(trained_run, tmp_path / "elsewhere" / trained_run.name)
    for typed in (copy, copy / "run.json", copy / "config.yaml"):
        result = fer("train", typed)
        assert result.exit_code == 0, result.output
        assert result.stdout.strip() == trained_run.name
    for name in (trained_run.name, "tiny", "latest"):
        assert fer("train", name, "--outputs", "elsewhere").stdout.strip() == trained_run.name
        assert fer("validate", name, "--outputs", "elsewhere").exit_code == 0
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_one_after_the_other(trained_run: Path, fer: Fer, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(trained_run, outputs / trained_run.name)
    result = fer(
        *("train", trained_run / "config.yaml", tmp_path / "missing.yaml"), "--outputs", outputs
    )
    assert (result.exit_code, result.stdout.strip()) == (2, trained_run.name)
    says(result.stderr, "missing.yaml", "no such file")
    result = fer("evaluate", "tiny", trained_run.name, "--outputs", outputs, "--json")
    assert [one["n"] for one in json.loads(result.stdout)] == [48, 48]


# Options and keys --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "answers"),
    [
        (
            ["--epochs", "8"],
            ["--set stages.0.epochs=8  (stage head, now 1)", "--set stages.1.epochs=8  (stage all"],
        ),
        (["--lr=0.1"], ["--set stages.0.learning_rate=0.1  (stage head, now 0.001)"]),
        (["--learning-rate", "0.1"], ["--set stages.1.learning_rate=0.1"]),
        (["--batch-size", "8"], ["--set training.batch_size=8  (now 16)"]),
        (["--batch_size=8"], ["--set training.batch_size=8  (now 16)"]),
        (["--backbone", "vgg16"], ["--set model.backbone=vgg16  (now cnn_compact)"]),
        (["--dropout", "0.5"], ["--set model.head.dropout=0.5"]),
        (["--resume"], ["fer train", "--fresh"]),
        (["--gpus", "1"], ["--device gpu:0"]),
    ],
)
def test_an_option_from_habit_is_answered_with_the_key(
    here: Path, fer: Fer, option: list[str], answers: list[str]
) -> None:
    result = fer("train", "tiny.yaml", *option)
    assert result.exit_code == 2
    assert all(answer in result.stderr for answer in answers), result.stderr


def test_an_option_that_nobody_knows_stays_unknown(here: Path, fer: Fer) -> None:
    result = fer("train", "tiny.yaml", "--nonsense", "3")
    assert (result.exit_code, "No such option: --nonsense" in result.stderr) == (2, True)


def test_a_bare_key_is_answered_with_the_option(here: Path, fer: Fer) -> None:
    for command in (["train"], ["validate", "tiny.yaml"]):
        result = fer(*command, "training.batch_size=8")
        assert result.exit_code == 2
        assert "--set training.batch_size=8" in result.stderr


@pytest.mark.parametrize(
    "override",
    [
        *("stages[1].epochs=3", "stages.1.epochs=3", "stages.all.epochs=3"),
        *("stages.1.epochs = 3", " stages.1.epochs =3"),
    ],
)
def test_every_spelling_of_a_place(here: Path, override: str) -> None:
    assert [stage.epochs for stage in load_experiment(Path("tiny.yaml"), [override]).stages] == [
        1,
        3,
    ]


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("training.lr=1", "stages.0.learning_rate"),
        ("training.epochs=3", "stages.0.epochs"),
        ("lr=1", "stages.0.learning_rate"),
        ("batch_size=8", "training.batch_size"),
    ],
)
def test_a_key_in_the_wrong_place_is_told_where_it_is(here: Path, override: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown key\. It is {key}\."):
        load_experiment(Path("tiny.yaml"), [override])


def test_a_key_by_another_name_in_its_place(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key\. Did you mean 'learning_rate'\?"):
        load_experiment(Path("tiny.yaml"), ["stages.0.lr=1"])


@pytest.mark.slow
def test_a_seed_is_an_option(trained_run: Path, fer: Fer) -> None:
    result = fer("train", trained_run, "--seed", "7")
    assert (result.exit_code, result.stdout.strip()) == (0, trained_run.name)  # its own seed


@pytest.mark.parametrize(
    "arguments",
    [
        ["-h"],
        ["train", "-h"],
        ["help", "train"],
        ["help"],
        ["data", "-h"],
        ["help", "data", "stats"],
    ],
)
def test_help_is_asked_for_in_every_way(fer: Fer, arguments: list[str]) -> None:
    result = fer(*arguments)
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


@pytest.mark.parametrize("command", ["train", "evaluate", "compare", "validate"])
def test_every_command_can_say_less_or_more(fer: Fer, command: str) -> None:
    text = fer(command, "--help").stdout
    assert "--quiet" in text
    assert "--verbose" in text


def test_quiet_leaves_results_and_errors(here: Path, fer: Fer) -> None:
    usual = fer("adopt", "new", "one.csv")
    quiet = fer("adopt", "newer", "one.csv", "-q")
    assert usual.stderr != ""
    assert (quiet.stderr, quiet.exit_code) == ("", 0)
    assert quiet.stdout.startswith("newer-s0-")
    assert "no run called" in fer("report", "nothing", "-q").stderr
    assert fer("adopt", "newest", "one.csv").stderr != ""


# Names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("My Experiment (final) ü", "my-experiment-final-u"),
        ("-x", "x"),
        ("a b", "a-b"),
        ("怒", "experiment"),
        ("Tiny_1.2-b", "Tiny_1.2-b"),
    ],
)
def test_a_name_is_made_from_the_file(
    here: Path, caplog: pytest.LogCaptureFixture, stem: str, name: str
) -> None:
    path = here / f"{stem}.yaml"
    path.write_text(EXPERIMENT)
    with caplog.at_level("INFO"):
        first, second = load_experiment(path), load_experiment(path)
    assert first.run_id == second.run_id
    assert first.name == name
    assert caplog.text.count("the run is called") == (stem != name)


def spellings(name: str) -> Iterator[str]:
    yield name.upper()
    yield name.capitalize()
    yield name.replace("_", "-")
    yield name.replace("_", " ")
    yield f"{name[:3]}-{name[3:]}"
    yield f"{name[:-1]} {name[-1]}"


@pytest.mark.parametrize("registry", [DATASETS, BACKBONES], ids=lambda one: one.kind)
def test_a_name_can_only_mean_one(registry: Any) -> None:
    for name in registry.names():
        assert {registry.known_as(typed) for typed in spellings(name)} == {name}


@pytest.mark.parametrize(
    ("key", "typed", "canonical"),
    [
        ("model.backbone", "ResNet50", "resnet50"),
        ("model.backbone", "EfficientNetV2-L", "efficientnetv2l"),
        ("dataset.name", "RAF-DB", "rafdb"),
        ("dataset.name", "OpenCV Emotion", "opencv_emotion"),
        ("training.optimizer", "Adam", "adam"),
        ("training.optimizer", "SGD", "sgd"),
        ("stages.0.schedule", "Cosine", "cosine"),
        ("training.select", "val macro F1", "val_macro_f1"),
        ("training.precision", "BFloat16", "bfloat16"),
        ("dataset.balance", "Class-Weights", "class_weights"),
        ("model.weights", "ImageNet", "imagenet"),
        ("model.targets", "[Expression, Valence-Arousal]", "[expression, valence_arousal]"),
        ("stages.0.train", "Head", "head"),
    ],
)
def test_another_spelling_is_the_same_run(here: Path, key: str, typed: str, canonical: str) -> None:
    document = yaml.safe_load(EXPERIMENT)
    del document["dataset"]["root"]
    document["image"]["size"] = 96
    Path("big.yaml").write_text(yaml.safe_dump(document))
    one, other = (
        load_experiment(Path("big.yaml"), [f"{key}={text}"]) for text in (typed, canonical)
    )
    assert one.to_yaml() == other.to_yaml()
    assert one.run_id == other.run_id


@pytest.mark.parametrize("typed", ["resnet", "mobilenetv3", "Adamm"])
def test_a_name_that_means_none_or_several_is_refused(here: Path, typed: str) -> None:
    key = "training.optimizer" if typed.startswith("A") else "model.backbone"
    with pytest.raises(ConfigError, match=typed):
        load_experiment(Path("tiny.yaml"), [f"{key}={typed}"])


# Files that are none, and damaged ones -----------------------------------------------------------


@pytest.fixture(params=["pipe", "device", "folder", "loop"])
def no_file(request: pytest.FixtureRequest, here: Path) -> str:
    """The name of something that cannot be read as a file, and would hang or fill the memory."""
    path = here / "none.yaml"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if request.param == "device" else path)
    return path.name


@pytest.mark.parametrize(
    "command",
    [["validate"], ["sweep", "--dry-run"], ["check-table"], ["adopt", "name"], ["data", "stats"]],
    ids=" ".join,
)
def test_what_is_no_file_is_refused_by_every_command(
    no_file: str, fer: Fer, command: list[str]
) -> None:
    result = fer(*command, no_file)
    assert (result.exit_code, result.stdout) == (2, "")
    says(result.stderr, no_file)


@pytest.mark.parametrize("part", ["run.json", "config.yaml", "metrics", "predictions"])
def test_a_run_with_a_pipe_in_it_is_left_out(run: RunDirectory, fer: Fer, part: str) -> None:
    places = {"metrics": run.metrics("test"), "predictions": run.predictions("test")}
    path = places.get(part, run.path / part)
    path.unlink()
    os.mkfifo(path)
    result = fer("compare", "--json", "outputs")
    (reason,) = [one["reason"] for one in json.loads(result.stdout)["left_out"]]
    says(reason, path, "a named pipe")


def test_anchors_of_a_config_are_not_unfolded(run: RunDirectory, fer: Fer) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    run.config.write_text("\n".join(lines))
    result = fer("compare", "--json", "outputs")
    (reason,) = [one["reason"] for one in json.loads(result.stdout)["left_out"]]
    says(reason, run.config, "100,000")
    assert fer("report", "one").exit_code == 0


@pytest.mark.parametrize("name", ["x" * 300, "d/" * 1500, "d/" * 3000])
def test_a_path_that_is_too_long_is_named(here: Path, fer: Fer, name: str) -> None:
    commands = (
        ["report", "one", "--outputs", name], ["adopt", "a", "one.csv", "--outputs", name],
        ["validate", name], ["compare", name], ["compare", "outputs", "--csv", f"{name}/x.csv"],
    )  # fmt: skip
    for command in commands:
        result = fer(*command)
        assert result.exit_code == 2, result.exception
        says(result.stderr, name[:20])


# Options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["tset", "../../x", "..", "", "test+flop", "test@..", "x" * 300])
def test_compare_does_not_take_what_is_no_evaluation(here: Path, fer: Fer, split: str) -> None:
    result = fer("compare", "outputs", "--split", split)
    assert (result.exit_code, result.stdout) == (2, "")
    says(result.stderr, "--split", "test")


@pytest.mark.parametrize("name", ["a.jpg", "a", ".", "a.png.pdf"])
def test_a_figure_is_a_png(here: Path, fer: Fer, name: str) -> None:
    for command in (["show", "tiny.yaml", "-o", name], ["stats", "tiny.yaml", "--plot", name]):
        result = fer("data", *command)
        assert (result.exit_code, result.stdout) == (2, "")
        says(result.stderr, name, ".png")
    result = fer("models", "show", "tiny.yaml", "--plot", name)
    assert result.exit_code == 2


def test_what_is_no_run_and_no_folder_is_named(here: Path, fer: Fer) -> None:
    result = fer("compare", "tiny.yaml")
    assert result.exit_code == 2
    says(result.stderr, "tiny.yaml")
