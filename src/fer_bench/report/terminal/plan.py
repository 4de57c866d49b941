"""What an experiment file stands for, before anything is computed."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fer_bench.config.dataset import Dataset
from fer_bench.config.experiment import Experiment
from fer_bench.config.training import FromLayer, LastLayers, Stage


def plan_table(experiment: Experiment) -> RenderableType:
    """The run id, what is trained on what, and one row a stage."""
    dataset, model, training = experiment.dataset, experiment.model, experiment.training
    lines = [
        experiment.run_id,
        f"  {model.backbone} (weights: {model.weights}) at {experiment.image.size} px",
        f"  {dataset.name}, {_divided(dataset)}, balance: {dataset.balance}",
        f"  batch {training.batch_size}, precision {training.precision}, "
        f"model chosen by {experiment.select}{_on_test(experiment)}",
    ]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("  stage")
    for heading in ("epochs", "trains", "optimizer", "learning rate"):
        table.add_column(heading)
    first = 1
    for stage in experiment.stages:
        last = first + stage.epochs - 1
        optimizer = stage.optimizer or training.optimizer
        cells = (f"  {stage.name}", f"{first}-{last}", _trains(stage), optimizer, _rate(stage))
        table.add_row(*map(Text, cells))  # a name is no markup, whatever brackets it holds
        first = last + 1
    return Group(Text("\n".join(lines)), table)


def _divided(dataset: Dataset) -> str:
    if dataset.split:
        parts = dataset.split
        return f"split {parts.train:g}/{parts.validation:g}/{parts.test:g}"
    return f"validation: {'none' if dataset.validation is None else dataset.validation}"


def _on_test(experiment: Experiment) -> str:
    return " on the test split" if experiment.selection == "test_split" else ""


def _trains(stage: Stage) -> str:
    match stage.train:
        case LastLayers(last=count):
            return f"last {count} layers and head"
        case FromLayer(layer=name):
            return f"from {name} on"
    return str(stage.train)


def _rate(stage: Stage) -> str:
    extras = []
    if stage.warmup:
        extras.append(f"warm-up {stage.warmup:g}")
    if stage.patience:
        extras.append(f"patience {stage.patience}")
    return ", ".join([f"{stage.learning_rate:g} {stage.schedule}", *extras])
