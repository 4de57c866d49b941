"""Names that users know from other programs, and the keys of an experiment they stand for."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

# The name in other programs: the last part of the key, or the whole key.
_CALLED = {
    **dict.fromkeys(("lr", "rate", "learningrate"), "learning_rate"),
    **dict.fromkeys(("epoch", "num_epochs", "n_epochs", "max_epochs"), "epochs"),
    **dict.fromkeys(("batch", "bs", "batchsize", "train_batch_size"), "batch_size"),
    **dict.fromkeys(("wd", "decay"), "weight_decay"),
    **dict.fromkeys(("opt", "optim"), "optimizer"),
    **dict.fromkeys(("arch", "architecture", "net", "network"), "backbone"),
    **dict.fromkeys(("pretrained", "pretrained_weights", "checkpoint"), "weights"),
    **dict.fromkeys(("img_size", "image_size", "imgsz", "input_size", "resolution"), "image.size"),
    **dict.fromkeys(("data_dir", "data_root", "data_path", "dataset_path"), "dataset.root"),
    **dict.fromkeys(("dataset", "dataset_name"), "dataset.name"),
    **dict.fromkeys(("augmentation", "aug"), "augment"),
    **dict.fromkeys(("amp", "fp16", "bf16", "mixed_precision"), "precision"),
    **dict.fromkeys(("scheduler", "lr_schedule", "lr_scheduler"), "schedule"),
    **dict.fromkeys(("early_stopping", "early_stop"), "patience"),
    **dict.fromkeys(("clip", "clip_grad", "grad_clip", "clipnorm"), "gradient_clip"),
    **dict.fromkeys(("smoothing",), "label_smoothing"),
    **dict.fromkeys(("val_split", "validation_split"), "dataset.validation"),
}


def places(name: str, schema: type[BaseModel]) -> list[str]:
    """The dotted keys that `name` can mean; a position in a list is written as `0`.

    Args:
        name: for example `lr`, `batch-size` or `epochs`.
        schema: the class of the document.
    """
    bare = name.strip("-").replace("-", "_").lower()
    meant = _CALLED.get(bare, bare)
    return [key for key in keys_of(schema) if key == meant or key.endswith(f".{meant}")]


def keys_of(schema: type[BaseModel], before: str = "") -> Iterator[str]:
    """Every key without keys below it."""
    for name, field in schema.model_fields.items():
        key = f"{before}{field.alias or name}"
        inner = list(sections_in(field.annotation))
        is_list = str(field.annotation).startswith("tuple[")
        for section in inner:
            yield from keys_of(section, f"{key}.0." if is_list else f"{key}.")
        if not inner:
            yield key


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The classes of the schema that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from sections_in(argument)
