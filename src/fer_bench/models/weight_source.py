"""Where the first weights of a backbone come from, found without reading them."""

from pathlib import Path

from fer_bench.config.loading import load_experiment
from fer_bench.config.model import Model
from fer_bench.errors import ConfigError, RunError
from fer_bench.models.backbone_spec import BackboneSpec
from fer_bench.registry import BACKBONES
from fer_bench.runs.directory import find_run
from fer_bench.spelling import did_you_mean

RUN = "run:"


def find_weights(config: Model, outputs: Path) -> Path | None:
    """The file with the weights that `config.weights` names; None for `none` and `imagenet`.

    Args:
        config: the network; a file name is relative to the working directory.
        outputs: the folder of the runs, for `run:<run_id>`.

    Raises:
        ConfigError: the file does not exist, or the backbone has no ImageNet weights.
        RunError: the run is missing, not finished or without a model.
    """
    if config.weights == "none":
        return None
    if config.weights == "imagenet":
        _check_imagenet(config.backbone)
        return None
    is_run = config.weights.startswith(RUN)
    path = _model_of_run(config, outputs) if is_run else Path(config.weights)
    _check_present(path)
    return path


def _check_imagenet(backbone: str) -> None:
    spec: BackboneSpec = BACKBONES[backbone]
    if spec.imagenet is None:
        having = [name for name in BACKBONES.names() if BACKBONES[name].imagenet]
        raise ConfigError(
            f"model.weights: there are no ImageNet weights for {backbone}.\n"
            f"Set model.weights: none, a file or run:<run_id>, or use one of these backbones: "
            f"{', '.join(having) or 'none has them'}."
        )


def _model_of_run(config: Model, outputs: Path) -> Path:
    """The saved model of the finished run that `config.weights` names."""
    run = find_run(outputs, config.weights.removeprefix(RUN))
    status = run.status()
    if status != "finished":
        raise RunError(
            f"model.weights: {config.weights}: the run is not finished (status: {status}).\n"
            f"Finish it with: fer train {run.config}"
        )
    if run.is_adopted():
        raise RunError(
            f"model.weights: {config.weights}: its predictions come from elsewhere, so it has no "
            "model with weights.\nUse a run that was trained here."
        )
    backbone = load_experiment(run.config).model.backbone
    # resnet50 and resnet50_ippm have the same layers, and differ only in the default neck.
    if BACKBONES[backbone].build is not BACKBONES[config.backbone].build:
        raise ConfigError(
            f"model.weights: {config.weights} has the backbone {backbone}, this experiment has "
            f"{config.backbone}.\nSet model.backbone: {backbone}, or use another run."
        )
    return run.model


def _check_present(path: Path) -> None:
    if path.is_file():
        return
    beside = sorted(file.name for file in path.parent.glob("*") if file.suffix in (".h5", ".keras"))
    found = f"Found there: {', '.join(beside[:8])}." if beside else ""
    raise ConfigError(
        f"model.weights: {path}: no such file ({path.absolute()}). "
        f"{did_you_mean(path.name, beside) or found}".strip()
    )
