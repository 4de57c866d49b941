"""The experiments of the prior work: each has its file, its network, and one epoch that runs."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from layouts import Face, Writer, affectnet, of_each, opencv_emotion, rafdb
from tiers import some_fast
from typer.testing import Result

from fer_bench.config.experiment import Experiment
from fer_bench.config.loading import load_experiment
from fer_bench.config.training import FromLayer, LastLayers
from fer_bench.labels import AXES
from fer_bench.metrics.expression import METRICS
from fer_bench.metrics.valence_arousal import AXIS_METRICS
from fer_bench.models.backbone_spec import BackboneSpec
from fer_bench.registry import BACKBONES
from fer_bench.runs.directory import RunDirectory

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


class Network(NamedTuple):
    """What is known about the network of an experiment, as its last stage trains it.

    The numbers of parameters are None where neither the report nor its code fixes them.
    """

    first: str
    parameters: int | None = None
    trainable: int | None = None


class Prior(NamedTuple):
    """An experiment of the prior work: its headline, and the network that it speaks of."""

    source: str
    metric: str
    value: float
    write: Writer
    network: Network


def _rafdb4(value: float, *network: Any) -> Prior:
    return Prior("rafdb4", "precision", value, rafdb.tanishmittal, Network(*network))


def _affectnet_va(value: float, first: str) -> Prior:
    return Prior("affectnet-va", "accuracy", value, affectnet.sets_2021, Network(first))


def _ippm(value: float, *network: Any) -> Prior:
    return Prior("ippm", "accuracy", value, affectnet.noamsegal, Network(*network))


def _slides(value: float, write: Writer, *network: Any) -> Prior:
    return Prior("slides", "val_accuracy", value, write, Network(*network))


def _pisa(value: float, *network: Any) -> Prior:
    return Prior("pisa", "accuracy", value, opencv_emotion.opencv_emotion, Network(*network))


# Printed, or recovered from the code behind the report. BatchNorm's running statistics never train;
# where its layers are frozen as a whole, as in the last two of rafdb_effv2l, their weights do not
# either (7,029,927 and 16,963,047 with them).
PRIOR = {
    "rafdb4_effv2l": _rafdb4(0.74, "stem_conv", 139_418_983, 138_906_407),
    "rafdb4_resnet152v2": _rafdb4(0.78, "conv1_conv", 92_586_695, 92_442_951),
    "rafdb4_resnet50": _rafdb4(0.79, "conv1_conv", 57_842_759, 57_789_639),
    "rafdb4_inceptionresnetv2": _rafdb4(0.82, "conv2d", 56_610_215, 56_549_671),
    "affectnet_va_vgg16": _affectnet_va(0.392, "head_dense_0"),
    "affectnet_va_effb3": _affectnet_va(0.17, "head_dense_0"),
    "affectnet_va_cnn": _affectnet_va(0.437, "conv2d"),
    "ippm_vgg19": _ippm(0.4120, "head_logits", 20_028_488, 4_104),
    "ippm_mobilenetv3small": _ippm(0.4247, "head_logits", 943_736, 4_616),
    "ippm_resnet50": _ippm(0.4729, "head_logits", 23_604_104, 16_392),
    "ippm_resnet50_ippm": _ippm(0.5269, "neck_level_2", 25_301_064, 1_713_352),
    "opencv_emotion_slides_cnn": _slides(
        0.5688, opencv_emotion.opencv_emotion, "conv2d", 527_559, 525_575
    ),
    "opencv_emotion_slides_resnet50": _slides(
        0.6013, opencv_emotion.opencv_emotion, "conv1_conv", 23_602_055, 23_548_935
    ),
    "rafdb_effv2l_frozen": _slides(0.54, rafdb.official, "head_logits", 117_755_815, 8_967),
    "rafdb_effv2l_unfreeze20": _slides(
        0.6488, rafdb.official, "block7g_expand_conv", 117_755_815, 7_010_727
    ),
    "rafdb_effv2l_unfreeze45": _slides(
        0.6622, rafdb.official, "block7e_dwconv2", 117_755_815, 16_918_247
    ),
    "pisa_t1": _pisa(0.3791, "conv2d", 1_066_311, 1_066_311),
    "pisa_t2": _pisa(0.3824, "conv2d", 1_066_311, 1_066_311),
    "pisa_t3": _pisa(0.3431, "conv2d", 1_066_311, 1_066_311),
    "pisa_t4": _pisa(0.3431, "conv2d", 1_066_311, 1_066_311),
    "pisa_t5": _pisa(0.1242, "conv2d", 7_405_127, 7_405_127),
    "pisa_vgg16_frozen": _pisa(0.4641, "head_dense_0", 17_993_543, 3_278_855),
    "pisa_vgg16_finetuned": _pisa(0.5033, "block5_conv1", 17_993_543, 10_358_279),
}
# One begins as the other, and goes on: so the counts of the last stages are those of all.
CONTINUED = {
    "rafdb_effv2l_unfreeze20": "rafdb_effv2l_frozen",
    "rafdb_effv2l_unfreeze45": "rafdb_effv2l_unfreeze20",
    "pisa_vgg16_finetuned": "pisa_vgg16_frozen",
}
CONTROLS = ("ippm_resnet50_conv1x1", "ippm_resnet50_pyramid")


def experiment_of(name: str) -> Experiment:
    return load_experiment(CONFIGS / f"{name}.yaml")


# The files -------------------------------------------------------------------------------------


def test_all_experiments_are_here() -> None:
    by_source = Counter(prior.source for prior in PRIOR.values())
    expected = {"rafdb4": 4, "affectnet-va": 3, "ippm": 4, "slides": 5, "pisa": 7}
    assert by_source == expected
    published = {path.stem for path in CONFIGS.glob("*.yaml") if load_experiment(path).published}
    assert published == set(PRIOR)


@pytest.mark.parametrize("name", PRIOR)
def test_what_was_printed_stands_beside_why_it_is_not_comparable(name: str) -> None:
    prior, published = PRIOR[name], experiment_of(name).published
    assert (published[0].metric, published[0].value) == (prior.metric, prior.value)
    assert {entry.source for entry in published} == {prior.source}
    assert all(entry.caveat for entry in published)
    metrics = [entry.metric for entry in published]
    assert len(set(metrics)) == len(metrics)


@pytest.mark.parametrize("name", [*PRIOR, *CONTROLS])
def test_a_comment_says_which_experiment_it_is(name: str) -> None:
    first = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    source = PRIOR[name].source if name in PRIOR else "Control of ippm_resnet50_ippm"
    assert first.startswith(f"# {source}")


@pytest.mark.parametrize("name", PRIOR)
def test_the_protocol_is_ours(name: str) -> None:
    experiment = experiment_of(name)
    dataset, model = experiment.dataset, experiment.model
    assert dataset.split or isinstance(dataset.validation, float), "no validation of its own"
    assert dataset.expand is None or dataset.split, "only ippm made copies of its images"
    assert model.weights == ("none" if model.backbone.startswith("cnn_") else "imagenet")


@pytest.mark.parametrize(("longer", "shorter"), CONTINUED.items())
def test_what_is_unfrozen_goes_on_from_what_was_frozen(longer: str, shorter: str) -> None:
    ours, theirs = experiment_of(longer), experiment_of(shorter)
    assert ours.stages[:-1] == theirs.stages
    for section in ("dataset", "image", "model", "training"):
        assert getattr(ours, section) == getattr(theirs, section)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_differs_in_the_form_of_the_pyramid_only(control: str) -> None:
    theirs, ours = experiment_of("ippm_resnet50_ippm"), experiment_of(control)
    spec: BackboneSpec = BACKBONES[theirs.model.backbone]
    assert ours.model.neck
    assert ours.model.neck.form == control.rpartition("_")[2]
    neck = ours.model.neck.model_copy(update={"form": "published"})
    assert neck == (theirs.model.neck or spec.neck)
    assert BACKBONES[ours.model.backbone].build is spec.build
    alike = ours.model_dump(exclude={"name", "published", "model"})
    assert alike == theirs.model_dump(exclude={"name", "published", "model"})
    assert ours.model.head == theirs.model.head


# The networks ----------------------------------------------------------------------------------


class Known(NamedTuple):
    """What `tests/backbones` finds of a backbone: features at a size, parameters, and what trains.

    Here only the head is built on it, and nothing of hundreds of layers.
    """

    size: int
    features: tuple[int, int, int]
    parameters: int
    trainable: dict[Any, int]


HEAD, ALL = "head", "all"
BACKBONE = {
    # Its last layers without their BatchNorm, as the configurations keep that frozen.
    "efficientnetv2l": Known(
        100,
        (4, 4, 1280),
        117_746_848,
        {
            ALL: 117_234_272,
            HEAD: 0,
            LastLayers(last=20): 7_001_760,
            LastLayers(last=45): 16_909_280,
        },
    ),
    "inceptionresnetv2": Known(100, (1, 1, 1536), 54_336_736, {ALL: 54_276_192}),
    "mobilenetv3small": Known(128, (4, 4, 576), 939_120, {HEAD: 0}),
    "resnet152v2": Known(100, (4, 4, 2048), 58_331_648, {ALL: 58_187_904}),
    "resnet50": Known(100, (4, 4, 2048), 23_587_712, {ALL: 23_534_592, HEAD: 0}),
    "resnet50_ippm": Known(128, (4, 4, 2048), 23_587_712, {HEAD: 0}),
    "vgg16": Known(
        180,
        (5, 5, 512),
        14_714_688,
        {HEAD: 0, FromLayer.model_validate({"from": "block5"}): 7_079_424},
    ),
    "vgg19": Known(128, (4, 4, 512), 20_024_384, {HEAD: 0}),
}


def _counts(experiment: Experiment, classes: int) -> tuple[int, int]:
    """Parameters of the network, and of those that train in the last stage."""
    import keras

    from fer_bench.models.build import attach_head, build_model
    from fer_bench.models.freezing import freezes_batch_norm, set_trainable

    config, stage = experiment.model, experiment.stages[-1]
    if config.backbone not in BACKBONE:
        model = build_model(config, experiment.image.size, classes)
        resolved = set_trainable(model, stage, weights=config.weights)
        return model.count_params(), resolved.trainable_parameters
    known = BACKBONE[config.backbone]
    if config.head and config.head.pooling == "flatten":
        assert experiment.image.size == known.size
    features = keras.Input(known.features)
    head = attach_head(keras.Model(features, features), config, classes).count_params()
    frozen_norm = freezes_batch_norm(stage, config.weights)
    assert frozen_norm == (stage.train != ALL)
    return known.parameters + head, known.trainable[stage.train] + head


@pytest.mark.parametrize(
    "name",
    some_fast(
        [name for name, prior in PRIOR.items() if prior.network.trainable],
        *("ippm_mobilenetv3small", "pisa_vgg16_finetuned"),
    ),
)
def test_the_network_has_the_parameters_that_are_known(name: str) -> None:
    experiment, network = experiment_of(name), PRIOR[name].network
    classes = 8 if experiment.dataset.name == "affectnet" else 7
    assert _counts(experiment, classes) == (network.parameters, network.trainable)


@pytest.mark.large
@pytest.mark.parametrize("name", PRIOR)
def test_training_begins_at_the_layer_that_is_known(name: str) -> None:
    from fer_bench.models.summary import describe_model

    document, _ = describe_model(experiment_of(name))
    network = PRIOR[name].network
    assert document["first_trainable_layer"][-1] == network.first
    if network.trainable:
        assert document["parameters"] == network.parameters
        assert document["trainable_parameters"][-1] == network.trainable


# One epoch -------------------------------------------------------------------------------------

# One network of hundreds of layers goes all the way here; that each of them is built, saved, loaded
# and trained is tested in models/backbones/test_contract.py. In other experiments a small one takes
# its place: what is theirs are data, head, stages, and the way they are measured.
IN_PLACE_OF_ITS_NETWORK = dict.fromkeys(
    (
        "rafdb4_effv2l",
        "rafdb4_inceptionresnetv2",
        "rafdb4_resnet152v2",
        "rafdb4_resnet50",
        "ippm_resnet50",
        "rafdb_effv2l_frozen",
        "rafdb_effv2l_unfreeze20",
    ),
    "mobilenetv3small",
)
# In these, tracing a step and optimizing its graph takes longer than all the steps of an epoch. Of
# the small network, ippm_mobilenetv3small traces it.
UNTRACED = (*IN_PLACE_OF_ITS_NETWORK, "rafdb_effv2l_unfreeze45")


@pytest.fixture
def outputs(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone afterwards: some of these runs have hundreds of megabytes."""
    import keras
    import tensorflow as tf

    yield tmp_path / "outputs"
    shutil.rmtree(tmp_path / "outputs", ignore_errors=True)
    tf.config.run_functions_eagerly(False)
    keras.utils.clear_session()


def _network(experiment: Experiment) -> str:
    """The backbone that is trained here."""
    return IN_PLACE_OF_ITS_NETWORK.get(experiment.name, experiment.model.backbone)


def _smaller(experiment: Experiment, root: Path) -> list[str]:
    """Options that leave one epoch of the last stage, on the few small images below `root`."""
    from fer_bench.models.freezing import freezes_batch_norm

    backbone = _network(experiment)
    spec: BackboneSpec = BACKBONES[backbone]
    stage = experiment.stages[-1]
    last = stage.model_dump(mode="json", by_alias=True) | {
        "epochs": 1,
        # As with the weights that it has in the file.
        "freeze_batch_norm": freezes_batch_norm(stage, experiment.model.weights),
    }
    changes = {
        "dataset.root": str(root),
        "dataset.expand": experiment.dataset.expand and 16,
        "image.size": spec.smallest_size,
        "model.backbone": backbone,
        "model.weights": "none",
        "training.batch_size": 8,
        "training.precision": "float32",
        "training.save_every": 0,
        "stages": [last],
    }
    return [
        part for key, value in changes.items() for part in ("--set", f"{key}={json.dumps(value)}")
    ]


@pytest.mark.slow
@pytest.mark.large
@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
@pytest.mark.parametrize("name", PRIOR)
def test_one_epoch_runs_to_the_end(
    name: str, faces: list[Face], tmp_path: Path, outputs: Path, fer: Callable[..., Result]
) -> None:
    import tensorflow as tf

    experiment = experiment_of(name)
    layout = PRIOR[name].write(tmp_path / "data", of_each(3, faces))
    smaller = _smaller(experiment, tmp_path / "data")
    tf.config.run_functions_eagerly(name in UNTRACED)
    trained = fer("train", CONFIGS / f"{name}.yaml", *smaller, "--outputs", outputs)
    assert trained.exit_code == 0, trained.output
    run = RunDirectory(outputs / trained.stdout.splitlines()[-1])
    evaluated = fer("evaluate", run.run_id, "--outputs", outputs)
    assert evaluated.exit_code == 0, evaluated.output

    document, metrics = run.read_json(run.run_json), run.read_json(run.metrics("test"))
    assert document["dataset"]["release"].startswith(layout.release)
    assert document["best"]["epoch"] == 1
    _check_metrics(metrics, experiment, document["dataset"]["counts"]["test"])


def _check_metrics(metrics: dict[str, Any], experiment: Experiment, counts: dict[str, int]) -> None:
    assert set(METRICS) <= set(metrics)
    assert {entry["name"]: entry["support"] for entry in metrics["per_class"]} == counts
    assert set(counts.values()) == {1}
    assert metrics["n"] == len(counts)
    measured = [axis for axis in AXES if axis in metrics]
    assert measured == (list(AXES) if "valence_arousal" in experiment.model.targets else [])
    for axis in measured:
        assert set(AXIS_METRICS) <= set(metrics[axis])
