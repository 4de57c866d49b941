"""Train, evaluate and compare facial-expression models so that the numbers can be trusted.

>>> import fer_bench
>>> experiment = fer_bench.load_experiment("configs/drawn_compact.yaml", seed=7)
>>> run = fer_bench.train(experiment)
>>> metrics = fer_bench.evaluate(run)
>>> comparison = fer_bench.compare("outputs")
"""

import importlib
from typing import TYPE_CHECKING, Any

from fer_bench import settings

if TYPE_CHECKING:
    from fer_bench.api.comparison import Comparison as Comparison
    from fer_bench.api.comparison import compare as compare
    from fer_bench.api.evaluation import evaluate as evaluate
    from fer_bench.api.experiments import load_experiment as load_experiment
    from fer_bench.api.metrics import Estimate as Estimate
    from fer_bench.api.metrics import Metrics as Metrics
    from fer_bench.api.plugins import backbones as backbones
    from fer_bench.api.plugins import datasets as datasets
    from fer_bench.api.plugins import register_backbone as register_backbone
    from fer_bench.api.plugins import register_dataset as register_dataset
    from fer_bench.api.runs import Run as Run
    from fer_bench.api.runs import open_run as open_run
    from fer_bench.api.training import train as train
    from fer_bench.config.dataset import Dataset as Dataset
    from fer_bench.config.experiment import Experiment as Experiment
    from fer_bench.data.manifest import Manifest as Manifest
    from fer_bench.data.spec import DatasetSpec as DatasetSpec
    from fer_bench.display import Display as Display
    from fer_bench.models.backbone_spec import BackboneSpec as BackboneSpec

__version__: str

# Where each public name is defined. It is imported when it is first used, since pandas, pydantic
# and TensorFlow take seconds.
_PUBLIC = {
    "BackboneSpec": "fer_bench.models.backbone_spec",
    "Comparison": "fer_bench.api.comparison",
    "Dataset": "fer_bench.config.dataset",
    "DatasetSpec": "fer_bench.data.spec",
    "Display": "fer_bench.display",
    "Estimate": "fer_bench.api.metrics",
    "Experiment": "fer_bench.config.experiment",
    "Manifest": "fer_bench.data.manifest",
    "Metrics": "fer_bench.api.metrics",
    "Run": "fer_bench.api.runs",
    "backbones": "fer_bench.api.plugins",
    "compare": "fer_bench.api.comparison",
    "datasets": "fer_bench.api.plugins",
    "evaluate": "fer_bench.api.evaluation",
    "load_experiment": "fer_bench.api.experiments",
    "open_run": "fer_bench.api.runs",
    "register_backbone": "fer_bench.api.plugins",
    "register_dataset": "fer_bench.api.plugins",
    "train": "fer_bench.api.training",
}
__all__ = [
    "__version__",
    *_PUBLIC,
]

settings.install()


def __getattr__(name: str) -> Any:
    if name == "__version__":  # that import takes as long as `fer --help`
        from importlib.metadata import version

        return version("fer-bench")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fer_bench' has no attribute '{name}'")
    value = globals()[name] = getattr(importlib.import_module(_PUBLIC[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
