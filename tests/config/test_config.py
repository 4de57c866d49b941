"""The experiment file: what is accepted, what is refused with which words, and what its id is."""

import copy
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import says
from pydantic import ValidationError

from fer_bench.config.dataset import Dataset
from fer_bench.config.experiment import Experiment
from fer_bench.config.loading import load_experiment
from fer_bench.config.messages import explain
from fer_bench.config.overrides import with_override
from fer_bench.errors import ConfigError
from fer_bench.registry import BACKBONES, DATASETS

SMALL: dict[str, Any] = {
    "dataset": {"name": "drawn"},
    "image": {"size": 48},
    "model": {"backbone": "cnn_compact"},
    "stages": [
        {"name": "head", "train": "head", "epochs": 1, "learning_rate": 0.001},
        {"name": "all", "epochs": 2, "learning_rate": 0.0001},
    ],
}
Load = Callable[..., Experiment]
Refusal = Callable[..., list[str]]


def changed(**changes: Any) -> dict[str, Any]:
    """`SMALL` with other values: `changed(model__backbone="x", stages__1__epochs=0)`."""
    document = copy.deepcopy(SMALL)
    for dotted, value in changes.items():
        *parents, last = [int(part) if part.isdigit() else part for part in dotted.split("__")]
        place: Any = document
        for part in parents:
            place = place[part] if isinstance(part, int) else place.setdefault(part, {})
        place[last] = value
    return document


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a document, or the text of one, from a file called `small.yaml`."""

    def load_one(document: Any, *overrides: str) -> Experiment:
        path = tmp_path / "small.yaml"
        is_text = isinstance(document, str)
        path.write_text(document if is_text else yaml.safe_dump(document, sort_keys=False))
        return load_experiment(path, overrides)

    return load_one


@pytest.fixture
def refusal(load: Load) -> Refusal:
    """The lines of the message with which a document is refused."""

    def refused(document: dict[str, Any] | str, *overrides: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(document, *overrides)
        return [line.strip() for line in str(caught.value).splitlines()]

    return refused


@pytest.fixture
def complaint(refusal: Refusal) -> Callable[..., str]:
    """The one and only error of a document."""

    def only(document: dict[str, Any] | str, *overrides: str) -> str:
        head, line, advice = refusal(document, *overrides)
        assert head.endswith("small.yaml: 1 error")
        assert "fer schema" in advice
        return line

    return only


Complaint = Callable[..., str]


# What is accepted ------------------------------------------------------------------------------


def test_what_is_left_out_has_its_default(load: Load) -> None:
    experiment = load(SMALL)
    assert experiment.name == "small"
    assert experiment.seed == 42
    assert experiment.dataset.root == Path("data/drawn")
    assert experiment.training.batch_size == 32
    assert experiment.stages[1].train == "all"
    assert experiment.model.head is None


def test_a_root_of_null_is_the_default_root(load: Load) -> None:
    assert load(changed(dataset__root=None)) == load(SMALL)


@pytest.mark.parametrize("number", ["1e-3", "1.0e-3", "0.001", "'0.001'"])
def test_every_spelling_of_a_number_is_the_same_number(load: Load, number: str) -> None:
    text = yaml.safe_dump(SMALL).replace("0.001", number)
    assert number in text
    assert load(text) == load(SMALL)
    assert load(text).run_id == load(SMALL).run_id


@pytest.mark.parametrize("train", ["head", "all", {"last": 3}, {"from": "conv2d"}])
def test_every_form_of_train(load: Load, train: Any) -> None:
    document = changed(stages__0__train=train)
    dumped = yaml.safe_load(load(document).to_yaml())
    assert dumped["stages"][0]["train"] == train


def test_validation_by_part_or_by_name(load: Load) -> None:
    assert load(changed(dataset__validation=0.25)).dataset.validation == 0.25
    assert load(changed(dataset__validation="1e-1")).dataset.validation == 0.1
    assert load(changed(dataset__validation="validation")).dataset.validation == "validation"


def test_anchors_and_merge_keys_may_be_used(load: Load) -> None:
    text = """
    dataset: {name: drawn}
    image: {size: 48}
    model: {backbone: cnn_compact}
    stages:
      - &first {name: head, train: head, epochs: 1, learning_rate: 1e-3}
      - {<<: *first, name: all, train: all, epochs: 2, learning_rate: 1e-4}
    """
    assert load(text) == load(SMALL)


def test_an_experiment_cannot_be_changed(load: Load) -> None:
    experiment = load(SMALL)
    for section, key in ((experiment, "seed"), (experiment.stages[0], "epochs")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, key, 3)


# What is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sede": 1}, "sede: unknown key. Did you mean 'seed'?"),
        ({"training__batchsize": 1}, "training.batchsize: unknown key. Did you mean 'batch_size'?"),
        ({"stages__1__lerning_rate": 1}, "stages.1.lerning_rate: unknown key. Did you mean "),
        ({"image__augment": {"flipp": 1}}, "image.augment.flipp: unknown key. Did you mean 'flip'"),
        ({"model__head": {"dropuot": 0}}, "model.head.dropuot: unknown key. Did you mean 'dropout"),
        ({"published": [{"source": "x", "metric": "y", "value": 1, "cavaet": "z"}]}, "published.0"),
        ({"xyz": 1}, "xyz: unknown key. Known keys: name, seed, dataset, image, model, training,"),
        (
            {"dataset__name": "drwn"},
            "dataset.name: unknown dataset 'drwn'; known: affectnet, drawn,",
        ),
        ({"dataset__name": "drwn"}, "Did you mean 'drawn'?"),
        ({"model__backbone": "cnn_compct"}, "model.backbone: unknown backbone 'cnn_compct'; "),
        ({"model__backbone": "cnn_compct"}, "Did you mean 'cnn_compact'?"),
        ({"training__optimizer": "adan"}, "training.optimizer: must be 'adam', 'adamw', 'sgd' or"),
        ({"training__optimizer": "adan"}, "got 'adan'. Did you mean 'adam'?"),
        ({"stages__0__optimizer": "sdg"}, "stages.0.optimizer: must be 'adam', 'adamw', 'sgd' or"),
        ({"training__select": "macro_f1"}, "Did you mean 'val_macro_f1'?"),
        (
            {"dataset__balance": 3},
            "dataset.balance: must be none, class_weights, under",
        ),
        ({"training__batch_size": "many"}, "training.batch_size: must be a whole number"),
        ({"training__batch_size": 1.5}, "training.batch_size: must be a whole number"),
        ({"training__batch_size": True}, "training.batch_size: must not be a boolean, got true"),
        ({"training__batch_size": 0}, "training.batch_size: must be greater than 0, got 0"),
        ({"stages__1__learning_rate": -1}, "stages.1.learning_rate: must be greater than 0, got -"),
        ({"stages__1__learning_rate": "x"}, "stages.1.learning_rate: must be a number"),
        (
            {"training__weight_decay": float("inf")},
            "training.weight_decay: must be a finite number",
        ),
        ({"training__momentum": float("nan")}, "training.momentum: must be "),
        ({"image__size": 4}, "image.size: must be greater than or equal to 8, got 4"),
        ({"seed": 2**31}, "seed: must be less than 2147483648, got 2147483648"),
        ({"name": "my faces"}, "name: must be up to 200 letters, digits, '.', '_' or '-', with a "),
        ({"name": "../x"}, "name: must be up to 200 letters"),
        ({"name": 7}, "name: must be a text, got 7"),
        ({"training": "adam"}, "training: must be a mapping of keys, got 'adam'"),
        ({"model__head": "avg"}, "model.head: must be a mapping of keys, got 'avg'"),
        ({"model__head": {"pooling": "averge"}}, "model.head.pooling: must be 'avg', 'max', "),
        ({"model__head": {"dense": 512}}, "model.head.dense: must be a list, got 512"),
        ({"model__head": {"dense": [0]}}, "model.head.dense.0: must be greater than 0, got 0"),
        (
            {"model__targets": ["age"]},
            "model.targets.0: must be 'expression' or 'valence_arousal', got 'age'",
        ),
        ({"stages": {"epochs": 1}}, "stages: must be a list, got {'epochs': 1}"),
        ({"stages": []}, "stages: must have at least 1 entry, got []"),
        ({"model__targets": []}, "model.targets: must have at least 1 entry, got []"),
        ({"name": "x" * 201}, "name: must be up to 200 letters"),
        ({"model__head": {"dense": [True]}}, "model.head.dense.0: must not be a boolean, got true"),
        ({"model__head": {"dense": [16, False]}}, "model.head.dense.1: must not be a boolean, got"),
        ({"dataset__root": ""}, "dataset.root: must be a path, got ''"),
        ({"dataset__root": "  "}, "dataset.root: must be a path, got '  '"),
        ({"dataset__root": 3}, "dataset.root: must be a path, got 3"),
        ({"model__weights": "run:.."}, "model.weights: must be none, imagenet, a file"),
        ({"model__weights": "run:../x"}, "model.weights: must be none, imagenet, a file"),
        ({"model__weights": f"run:{'x' * 300}"}, "model.weights: must be none, imagenet, a file"),
        ({"stages__0__name": "\x1b[2J"}, "stages.0.name: must not hold control characters, got"),
        ({"stages__0": 3}, "stages.0: must be a mapping of keys, got 3"),
        ({"stages__1__name": "head"}, "stages: two stages have the same name: head, head"),
        ({"image__size": 15}, "image.size: cnn_compact needs at least 16 pixels, got 15"),
    ],
)
def test_one_mistake_is_one_line(complaint: Complaint, changes: dict[str, Any], line: str) -> None:
    assert line in complaint(changed(**changes))


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("image..size=3", "empty"),
        (".image.size=3", "empty"),
        ("image.size.=3", "empty"),
        ("image. .size=3", "empty"),
        ("dataset.root=", "dataset.root=null"),
        ("dataset.root= ", "dataset.root=null"),
        ("training.batch_size=", "training.batch_size=null"),
    ],
)
def test_an_override_with_a_hole(override: str, part: str) -> None:
    """`--set dataset.root=$DATA` without the variable was the default folder, without a word."""
    with pytest.raises(ConfigError) as raised:
        with_override({"image": {"size": 40}}, override)
    says(raised.value, f"--set {override.strip()}", part)


def test_no_message_is_in_the_words_of_the_library() -> None:
    """All that pydantic calls by names of Python."""
    wrong: dict[str, Any] = {
        "name": [], "seed": "x", "dataset": {"name": "folder", "root": [3], "exclude": {}},
        "image": {"size": [], "augment": {"flip": 3, "rotation": "x"}},
        "model": {"backbone": 3, "weights": [], "head": {"dense": 3}, "targets": {}},
        "training": {"batch_size": {}, "optimizer": [], "clip_norm": "y"},
        "stages": [{"name": 3, "train": 4, "epochs": 1.5, "learning_rate": []}, 4],
        "published": "x", "tracking": 5,
    }  # fmt: skip
    with pytest.raises(ValidationError) as raised:
        Experiment.model_validate(wrong)
    lines = explain(raised.value)
    assert len(lines) > 15
    for line in lines:
        for word in (
            "Tuple",
            "List",
            "Dictionary",
            "Input",
            "valid ",
            "pathlib",
            "<class",
            "after",
        ):
            assert word not in line


@pytest.mark.parametrize(
    "value",
    [
        "last",
        "everything",
        None,
        3,
        ["head"],
        {"last": "x"},
        {"last": 0},
        {"last": True},
        {"from": 3},
        {"lst": 3},
        {"last": 1, "from": "x"},
    ],
)
def test_a_wrong_train_is_one_line(complaint: Complaint, value: Any) -> None:
    line = complaint(changed(stages__0__train=value))
    expected = "stages.0.train: must be head, all, {last: NUMBER} or {from: LAYER}, got "
    assert line == expected + repr(value)


@pytest.mark.parametrize("value", ["test", 0, 1, -0.1, [0.1], float("nan"), "x"])
def test_a_wrong_validation_is_one_line(complaint: Complaint, value: Any) -> None:
    line = complaint(changed(dataset__validation=value))
    assert line.startswith("dataset.validation: must be a number between 0 and 1, or `validation`,")
    assert line.endswith(f"got {value!r}")


@pytest.mark.parametrize(
    "key", ["dataset", "image", "model", "stages", "dataset__name", "stages__1__epochs"]
)
def test_a_missing_key_is_named(complaint: Complaint, key: str) -> None:
    document = copy.deepcopy(SMALL)
    *parents, last = [int(part) if part.isdigit() else part for part in key.split("__")]
    place: Any = document
    for part in parents:
        place = place[part]
    del place[last]
    assert complaint(document) == f"{key.replace('__', '.')}: missing"


def test_all_mistakes_are_told_at_once(refusal: Refusal) -> None:
    head, *lines, _ = refusal(
        changed(
            sede=1,
            image__size=10,
            dataset__name="drwn",
            training__optimizer="adan",
            stages__0__epochs="x",
            stages__1__learning_rate=0,
        )
    )
    assert head.endswith("small.yaml: 6 errors")
    assert [line.partition(":")[0] for line in lines] == [
        "dataset.name",
        "image.size",
        "training.optimizer",
        "stages.0.epochs",
        "stages.1.learning_rate",
        "sede",
    ]


def test_a_long_value_is_not_repeated_in_full(complaint: Complaint) -> None:
    line = complaint(changed(training=["x" * 1000]))
    assert line.startswith("training: must be a mapping of keys, got ['xxx")
    assert line.endswith("...")
    assert len(line) < 120


@pytest.mark.parametrize("key", ["1", "2.5", "null"])
def test_a_key_that_is_no_text_is_an_unknown_key(complaint: Complaint, key: str) -> None:
    assert "unknown key" in complaint(yaml.safe_dump(SMALL) + f"{key}: x\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a mapping of keys, found nothing"),
        ("# only a comment", "expected a mapping of keys, found nothing"),
        ("- a\n- b\n", "expected a mapping of keys, found a list"),
        ("words", "expected a mapping of keys, found a str"),
        ("a: [", "not valid YAML"),
        ("a: !!int few", "is no int"),
        ("dataset: {name: drawn, root: x, name: drawn}", "duplicate key 'name'"),
        ("yes: 1\non: 2\n", "duplicate key True"),
        ("? [a]\n: b\n", "a list or mapping cannot be a key"),
        ("a: !!python/object/apply:os.system ['exit 3']", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_mapping_of_keys(refusal: Refusal, text: str, words: str) -> None:
    message = "\n".join(refusal(text))
    assert "small.yaml: " in message
    assert words in message


def test_an_unsafe_tag_is_not_carried_out(refusal: Refusal, tmp_path: Path) -> None:
    victim = tmp_path / "made"
    refusal(f"a: !!python/object/apply:pathlib.Path.touch [{victim}]")
    refusal(f"a: !!python/object/apply:os.system ['touch {victim}']")
    with pytest.raises(ConfigError):
        load_experiment(
            tmp_path / "small.yaml", [f"seed=!!python/object/apply:os.system ['touch {victim}']"]
        )
    assert not victim.exists()


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "rafdb_head.yaml").write_text("")
    for name in ("rafdb_haed.yaml", "rafdb_head"):
        with pytest.raises(ConfigError, match=r"no such file\. Did you mean 'rafdb_head.yaml'\?"):
            load_experiment(tmp_path / name)


def test_a_missing_file_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file\.$"):
        load_experiment(tmp_path / "nowhere" / "x.yaml")
    (tmp_path / "abc.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"no such file. Found there: abc\.yaml"):
        load_experiment(tmp_path / "zzzzzzzzzz.yaml")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder; it is empty"):
        load_experiment(tmp_path)


@pytest.mark.parametrize("name", BACKBONES.names())
def test_an_image_too_small_for_its_backbone(complaint: Complaint, name: str) -> None:
    size = BACKBONES[name].smallest_size - 1
    line = complaint(changed(model__backbone=name, image__size=size))
    assert line == f"image.size: {name} needs at least {size + 1} pixels, got {size}"


# Overrides -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ("seed=7", {"seed": 7}),
        ("training.batch_size=16", {"training__batch_size": 16}),
        ("image.augment.rotation=1e-2", {"image__augment__rotation": 0.01}),
        ("model.head.dropout=0.5", {"model__head__dropout": 0.5}),
        ("model.head={dense: [64], l2: 0.1}", {"model__head": {"dense": [64], "l2": 0.1}}),
        ("stages.1.epochs=9", {"stages__1__epochs": 9}),
        ("stages.0.train={last: 4}", {"stages__0__train": {"last": 4}}),
        ("stages.0.optimizer=sgd", {"stages__0__optimizer": "sgd"}),
        ("dataset.root=a=b", {"dataset__root": "a=b"}),
        ("training.gradient_clip=null", {}),
        ("name=other", {"name": "other"}),
    ],
)
def test_an_override_is_as_if_written_in_the_file(
    load: Load, override: str, changes: dict[str, Any]
) -> None:
    assert load(SMALL, override) == load(changed(**changes))


def test_overrides_apply_in_their_order(load: Load) -> None:
    experiment = load(
        SMALL, "training={batch_size: 3}", "training.batch_size=4", "seed=1", "seed=2"
    )
    assert (experiment.seed, experiment.training.batch_size) == (2, 4)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", "--set seed: expected KEY=VALUE, for example training.batch_size=16."),
        ("=3", "--set =3: expected KEY=VALUE"),
        ("seed=[", "--set seed=[: the value is not valid YAML."),
        ("seed=2024-13-45", "2024-13-45: YAML reads a date."),
        ("stages.2.epochs=1", "'2' is no position in a list of 2; use 0 to 1."),
        ("stages.-1.epochs=1", "'-1' is no position in a list of 2; use 0 to 1."),
        ("stages.al.epochs=1", "'al' is no position in a list of 2; use 0 to 1. Or a name: head"),
        ("stages.²=1", "'²' is no position in a list of 2; use 0 to 1."),
        ("name.first=x", "--set name.first=x: 'name' holds 'small', which has no keys."),
        ("stages.0.epochs.x=1", "'epochs' holds 1, which has no keys."),
        ("model.bakbone=x", "model.bakbone: unknown key. Did you mean 'backbone'?"),
        ("trainig.batch_size=1", "trainig: unknown key. Did you mean 'training'?"),
        ("published.0.value=1", "published: must be a list"),
    ],
)
def test_a_wrong_override(refusal: Refusal, override: str, words: str) -> None:
    assert words in "\n".join(refusal(SMALL, override))


def test_an_override_below_a_list_element_without_keys(refusal: Refusal) -> None:
    message = "\n".join(refusal(changed(model__head={"dense": [8]}), "model.head.dense.0.x=1"))
    assert "'0' holds 8, which has no keys." in message
    message = "\n".join(refusal(changed(published=[]), "published.0=1"))
    assert "the list is empty" in message


# The schema ------------------------------------------------------------------------------------


def sections(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "Experiment", schema
    yield from schema["$defs"].items()


def test_every_key_is_explained() -> None:
    for section, schema in sections(Experiment.model_json_schema()):
        assert schema["description"], section
        assert schema["additionalProperties"] is False, section
        for key, value in schema["properties"].items():
            assert len(value.get("description", "")) > 10, f"{section}.{key}"


def test_explaining_needs_no_file() -> None:
    with pytest.raises(ValidationError) as caught:
        Experiment.model_validate({"name": "x", **SMALL, "sede": 1})
    assert explain(caught.value) == ["sede: unknown key. Did you mean 'seed'?"]


# Dataset ---------------------------------------------------------------------------------------


def dataset(**keys: Any) -> Dataset:
    experiment = Experiment.model_validate(
        {"name": "x", **SMALL, "dataset": SMALL["dataset"] | keys}
    )
    return experiment.dataset


THIRDS = {"train": 0.7, "validation": 0.2, "test": 0.1}


def test_split_takes_the_place_of_validation() -> None:
    section = dataset(split=THIRDS)
    assert section.validation is None
    again = Dataset.model_validate(section.model_dump(mode="json"))
    assert again == section


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"split": THIRDS, "validation": 0.1}, "dataset.validation: must be left out beside"),
        ({"validation": None}, "dataset.validation: must be a fraction or `validation`: null"),
        ({"split": THIRDS | {"test": 0.2}}, "dataset.split: the fractions must add up to 1"),
        ({"split": THIRDS | {"test": 0}}, "dataset.split.test: must be greater than 0, got 0"),
        ({"balance": "oversampel"}, "dataset.balance: must be none, .* Did you mean 'oversample'"),
        ({"balance": ["oversample", "undersample"]}, "dataset.balance: cannot be oversample and"),
        ({"balance": ["none", "oversample"]}, "dataset.balance: cannot be none and something"),
        ({"balance": ["oversample", "oversample"]}, "dataset.balance: cannot be oversample and"),
        (
            {"balance": ["class_weights", "oversample"]},
            "dataset.balance: oversample and class_weights together correct twice; choose one, or "
            "set allow_double_balance",
        ),
        ({"per_class": 5}, "dataset.per_class: has no effect without balance"),
        ({"images": "original"}, "dataset.images: has no effect on dataset 'drawn'"),
        ({"labels": "csv"}, "dataset.labels: has no effect on dataset 'drawn'"),
        ({"table": "a.csv"}, "dataset.table: has no effect on dataset 'drawn'"),
        (
            {"name": "fer2013", "labels": "csv"},
            "dataset.labels: must be majority, probability, multi_target for 'fer2013', got 'csv'",
        ),
        (
            {"name": "affectnet", "labels": "probability"},
            "dataset.labels: must be csv, folder for 'affectnet', got 'probability'",
        ),
        ({"labels": "probabilty"}, "dataset.labels: must be .* Did you mean 'probability'"),
    ],
)
def test_keys_of_the_dataset_that_do_not_fit(
    complaint: Complaint, keys: dict[str, Any], message: str
) -> None:
    document = SMALL | {"dataset": SMALL["dataset"] | keys}
    assert re.match(message, complaint(document))


def test_both_corrections_can_be_asked_for() -> None:
    section = dataset(balance=["class_weights", "oversample"], allow_double_balance=True)
    assert section.balances == ("class_weights", "oversample")


def test_a_list_of_one_balance_is_that_balance() -> None:
    assert dataset(balance=["undersample"]) == dataset(balance="undersample")


# Labels ----------------------------------------------------------------------------------------

FERPLUS = {"name": "fer2013", "validation": "validation"}


def test_the_labels_of_ferplus_bring_their_loss(load: Load) -> None:
    losses = {
        rule: load(changed(dataset=FERPLUS | {"labels": rule})).training.loss
        for rule in ("majority", "probability", "multi_target")
    }
    assert losses == {
        "majority": "cross_entropy",
        "probability": "cross_entropy",
        "multi_target": "multi_target",
    }
    multi_target = changed(dataset=FERPLUS | {"labels": "multi_target"})
    written = load(multi_target)
    assert yaml.safe_load(written.to_yaml())["training"]["loss"] == "multi_target"
    assert Experiment.model_validate(yaml.safe_load(written.to_yaml())) == written
    plain = load(multi_target, "training.loss=cross_entropy", "training.label_smoothing=0.1")
    assert plain.training.loss == "cross_entropy"


def test_the_loss_of_several_right_classes_needs_them(complaint: Complaint) -> None:
    message = complaint(changed(training__loss="multi_target"))
    assert message.startswith("training.loss: multi_target needs dataset.labels: multi_target")
    smooth = changed(
        dataset=FERPLUS | {"labels": "multi_target"}, training={"label_smoothing": 0.1}
    )
    assert complaint(smooth).startswith("training.label_smoothing: must be 0 with the loss")


@pytest.mark.parametrize("key", ["classes", "table"])
def test_the_schema_knows_the_keys_of_labels(key: str) -> None:
    assert SCHEMA["$defs"]["Dataset"]["properties"][key]["description"]


def test_classes_change_the_run_id_and_their_absence_does_not(load: Load) -> None:
    """The ids are those from before the keys were there."""
    assert load(changed(dataset__classes=None)).run_id == load(SMALL).run_id
    shipped = Path(__file__).resolve().parents[2] / "configs"
    for run_id in ("drawn_compact-s42-85401374", "affectnet_noamsegal_compact-s42-4f3b4be6"):
        assert load_experiment(shipped / f"{run_id.partition('-')[0]}.yaml").run_id == run_id
    one = load(SMALL, "dataset.classes=[happy, sad]").run_id
    assert one == load(SMALL, "dataset.classes={sadness: [sad], happy: happy}").run_id
    assert one != load(SMALL).run_id


# Cache -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("trunk", ["auto", "off", "exact", {"views": 4}])
def test_every_form_of_the_cache_of_the_trunk(load: Load, trunk: Any) -> None:
    experiment = load(changed(cache__trunk=trunk))
    again = Experiment.model_validate(yaml.safe_load(experiment.to_yaml()))
    assert again == experiment
    assert experiment.cache.views == (4 if isinstance(trunk, dict) else 1)


def test_the_off_of_yaml_which_is_false_is_off(load: Load) -> None:
    text = yaml.safe_dump(SMALL) + "cache: {trunk: off}\n"
    assert load(text) == load(changed(cache__trunk="off"))
    assert load(SMALL, "cache.trunk=off").cache.trunk == "off"


@pytest.mark.parametrize(
    "value",
    [
        "on",
        None,
        4,
        [],
        {"views": 1},
        {"views": 0},
        {"views": 1001},
        {"views": True},
        {"views": "four"},
        {"view": 4},
        {"views": 4, "more": 1},
    ],
)
def test_a_wrong_cache_of_the_trunk_is_one_line(complaint: Complaint, value: Any) -> None:
    line = complaint(changed(cache__trunk=value))
    expected = "must be auto, off, exact or {views: NUMBER} with a number from 2 to 1000, got "
    assert line == f"cache.trunk: {expected}{value!r}"


def test_the_on_of_yaml_which_is_true_is_no_form_of_it(complaint: Complaint) -> None:
    line = complaint(yaml.safe_dump(SMALL) + "cache: {trunk: on}\n")
    assert line.endswith("with a number from 2 to 1000, got 'on'")


def test_exact_needs_images_that_stay_the_same(load: Load, complaint: Complaint) -> None:
    line = complaint(changed(cache__trunk="exact", image__augment={"brightness": 0.1}))
    assert line.startswith("cache.trunk: cannot be exact while image.augment changes images")
    says(line, "auto", "{views: NUMBER}", "image.augment")
    still = changed(cache__trunk="exact", image__augment={"fill": "constant"})
    assert load(still).cache.trunk == "exact"
    for trunk in ("auto", "off", {"views": 2}):
        load(changed(cache__trunk=trunk, image__augment={"flip": True}))


def test_room_for_the_cache_says_nothing_about_the_experiment(load: Load) -> None:
    small = load(changed(cache__max_gb=0.5))
    assert small.cache.max_bytes == 500_000_000
    assert small.run_id == load(SMALL).run_id
    assert small.to_yaml() == load(SMALL).to_yaml()
    exact = changed(cache={"trunk": "exact", "max_gb": 3})
    assert "max_gb" not in load(exact).to_yaml()
    assert load(exact).run_id == load(changed(cache__trunk="exact")).run_id


def test_no_room_is_allowed_but_less_is_not(load: Load, complaint: Complaint) -> None:
    assert load(changed(cache__max_gb=0)).cache.max_bytes == 0
    assert load(changed(training={"keep_state_mb": 0})).run_id == load(SMALL).run_id
    line = complaint(changed(cache__max_gb=-1))
    assert line == "cache.max_gb: must be greater than or equal to 0, got -1"


def test_what_the_cache_of_the_trunk_changes_has_another_run_id(load: Load) -> None:
    forms: list[Any] = ["auto", "off", "exact", {"views": 2}, {"views": 3}]
    ids = [load(changed(cache__trunk=form)).run_id for form in forms]
    assert len(set(ids)) == len(forms)
    assert ids[0] == load(SMALL).run_id


# Identity --------------------------------------------------------------------------------------

SCHEMA = Experiment.model_json_schema()
# What the JSON Schema cannot say.
PRINTABLE = st.characters(exclude_categories=["Cc", "Cs"], include_characters="\n\t")
SPECIAL = {
    ("Experiment", "name"): st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    ("Dataset", "name"): st.sampled_from(DATASETS.names()),
    ("Dataset", "validation"): st.one_of(st.floats(0.01, 0.99), st.just("validation")),
    ("Dataset", "balance"): st.sampled_from(["none", "class_weights", "undersample"]),
    **{("Dataset", key): st.none() for key in ("split", "images", "labels", "table", "per_class")},
    ("Dataset", "contempt"): st.just("keep"),
    ("Dataset", "classes"): st.sampled_from(
        [None, ["happiness", "zufrieden"], {"other": ["fear", 1], "happy": "happy", "ü": ["no"]}]
    ),
    ("Training", "loss"): st.just("cross_entropy"),
    ("Model", "backbone"): st.sampled_from(BACKBONES.names()),
    ("Model", "weights"): st.sampled_from(["none", "imagenet", "a.h5", "b.keras", "run:x-s1-0a"]),
    ("Model", "targets"): st.just(["expression", "valence_arousal"]),
    # Of what every model predicts here, whether it says so or not.
    ("Training", "select"): st.sampled_from([None, "val_macro_f1", "val_accuracy", "val_loss"]),
    # Neither is written, and `exact` does not go with every augmentation.
    ("Cache", "max_gb"): st.just(20.0),
    ("Training", "keep_state_mb"): st.just(64.0),
    ("Experiment", "tracking"): st.just([]),
    ("Cache", "trunk"): st.sampled_from(["auto", "off", {"views": 2}]),
    ("Image", "size"): st.integers(
        max(BACKBONES[name].smallest_size for name in BACKBONES.names()), 1024
    ),
}


def values(schema: Mapping[str, Any], section: str = "", key: str = "") -> st.SearchStrategy[Any]:
    """Everything that a part of the JSON Schema allows."""
    if (section, key) in SPECIAL:
        return SPECIAL[section, key]
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return mappings(SCHEMA["$defs"][name], name)
    if "anyOf" in schema:
        return st.one_of([values(member) for member in schema["anyOf"]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    return OF_TYPE[schema["type"]](schema)


def integers(schema: Mapping[str, Any]) -> st.SearchStrategy[int]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    high = schema.get("maximum", schema.get("exclusiveMaximum", 2**40) - 1)
    return st.integers(low, high)


def numbers(schema: Mapping[str, Any]) -> st.SearchStrategy[float]:
    return st.floats(
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema.get("maximum", schema.get("exclusiveMaximum")),
        allow_nan=False,
        allow_infinity=False,
        exclude_min="exclusiveMinimum" in schema,
        exclude_max="exclusiveMaximum" in schema,
    )


def arrays(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Lists; of sections with a `name`, such in which each has its own."""
    if "prefixItems" in schema:
        return st.tuples(*map(values, schema["prefixItems"])).map(list)
    return st.lists(
        values(schema["items"]),
        min_size=schema.get("minItems", 0),
        max_size=schema.get("maxItems", 3),
        unique_by=lambda item: item.get("name", id(item)) if isinstance(item, dict) else id(item),
    )


def mappings(schema: Mapping[str, Any], section: str) -> st.SearchStrategy[Any]:
    required = set(schema.get("required", []))
    fields = {key: values(part, section, key) for key, part in schema["properties"].items()}
    return st.fixed_dictionaries(
        {key: field for key, field in fields.items() if key in required},
        optional={key: field for key, field in fields.items() if key not in required},
    )


OF_TYPE: dict[str, Callable[[Mapping[str, Any]], st.SearchStrategy[Any]]] = {
    "integer": integers,
    "number": numbers,
    "array": arrays,
    "boolean": lambda _: st.booleans(),
    "null": lambda _: st.none(),
    "string": lambda part: st.text(PRINTABLE, max_size=20).filter(
        lambda text: text.strip() or "pattern" not in part
    ),
}


@settings(max_examples=50)
@given(mappings(SCHEMA, "Experiment"))
def test_written_and_read_it_is_the_same_experiment(document: dict[str, Any]) -> None:
    experiment = Experiment.model_validate(document)
    again = Experiment.model_validate(yaml.safe_load(experiment.to_yaml()))
    assert again == experiment
    assert again.to_yaml() == experiment.to_yaml()
    assert again.run_id == experiment.run_id


def test_every_key_is_written(load: Load) -> None:
    written = yaml.safe_load(load(SMALL).to_yaml())
    only_where_said = {"selection", "cache", "tracking"}
    assert list(written) == [key for key in Experiment.model_fields if key not in only_where_said]
    assert set(written["stages"][0]) == set(SCHEMA["$defs"]["Stage"]["properties"])


def test_the_run_id_is_name_seed_and_digest(load: Load) -> None:
    experiment = load(SMALL, "seed=7")
    digest = hashlib.sha256(experiment.to_yaml().encode()).hexdigest()
    assert experiment.run_id == f"small-s7-{digest[:8]}"


def test_equal_content_has_an_equal_run_id(load: Load) -> None:
    reversed_keys = dict(reversed(SMALL.items()))
    spelled_out = changed(seed=42, dataset__root="data/drawn", training={"optimizer": "adam"})
    commented = "# a comment\n" + yaml.safe_dump(SMALL, default_flow_style=True)
    ids = {load(document).run_id for document in (SMALL, reversed_keys, spelled_out, commented)}
    assert len(ids) == 1


@pytest.mark.parametrize(
    "override", ["seed=43", "name=b", "stages.0.epochs=2", "dataset.root=x", "image.size=49"]
)
def test_other_content_has_another_run_id(load: Load, override: str) -> None:
    assert load(SMALL, override).run_id != load(SMALL).run_id


def test_the_test_split_chooses_only_where_that_is_said(load: Load) -> None:
    plain = load(changed())
    assert (plain.selection, plain.selection_split) == ("validation", "validation")
    assert "selection" not in yaml.safe_load(plain.to_yaml())  # run ids stay what they were
    chosen = load(changed(selection="test_split"))
    assert chosen.selection_split == "test"
    assert yaml.safe_load(chosen.to_yaml())["selection"] == "test_split"
    assert chosen.run_id != plain.run_id


def test_without_validation_the_test_split_has_to_choose(load: Load) -> None:
    experiment = load(changed(selection="test_split", dataset__validation=None))
    assert experiment.dataset.validation is None
