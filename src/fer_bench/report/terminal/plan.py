"""An experiment file in words, before anything is computed."""

from rich.console import Group, RenderableType
from rich.text import Text

from fer_bench.config.dataset import Dataset
from fer_bench.config.experiment import Experiment
from fer_bench.config.training import FromLayer, LastLayers, Stage
from fer_bench.report.terminal.table import add_row, new_table


def plan_table(experiment: Experiment) -> RenderableType:
    """The run id, the model and its data, and one row per stage."""
    dataset, model, training = experiment.dataset, experiment.model, experiment.training
    on_test = " on the test split" if experiment.selection == "test_split" else ""
    lines = [
        experiment.run_id,
        f"  {model.backbone} (weights: {model.weights}) at {experiment.image.size} px",
        f"  {dataset.name}, {_splits(dataset)}, balance: {dataset.balance}",
        f"  batch {training.batch_size}, precision {training.precision}, "
        f"model selected by {experiment.select}{on_test}",
    ]
    columns = ["  stage", "epochs", "trains", "optimizer", "learning rate"]
    table = new_table(columns, ruled=False)
    first = 1
    for stage in experiment.stages:
        last = first + stage.epochs - 1
        optimizer = stage.optimizer or training.optimizer
        epochs = f"{first}-{last}"
        add_row(table, f"  {stage.name}", epochs, _trains(stage), optimizer, _rate(stage))
        first = last + 1
    return Group(Text("\n".join(lines)), table)


def _splits(dataset: Dataset) -> str:
    if dataset.split:
        parts = dataset.split
        return f"split {parts.train:g}/{parts.validation:g}/{parts.test:g}"
    return f"validation: {'none' if dataset.validation is None else dataset.validation}"


def _trains(stage: Stage) -> str:
    match stage.train:
        case LastLayers(last=count):
            return f"last {count} layers and head"
        case FromLayer(layer=name):
            return f"from {name} to the end"
    return str(stage.train)


def _rate(stage: Stage) -> str:
    extras = []
    if stage.warmup:
        extras.append(f"warm-up {stage.warmup:g}")
    if stage.patience:
        extras.append(f"patience {stage.patience}")
    return ", ".join([f"{stage.learning_rate:g} {stage.schedule}", *extras])
