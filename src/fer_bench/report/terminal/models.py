"""The available backbones, and the network of one experiment, as terminal tables."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from fer_bench.report.terminal.table import add_row, new_table, table_note
from fer_bench.report.wording import MISSING, write_count

Document = Mapping[str, Any]
INDENT = "  "


def backbones_table(backbones: Sequence[Document]) -> RenderableType:
    """One row per backbone, grouped by family.

    Args:
        backbones: the document that `fer models --json` prints.
    """
    columns = ["backbone", ">parameters", ">layers", ">from", "ImageNet", "preprocessing"]
    table = new_table(columns, ruled=False)
    ordered = sorted(backbones, key=lambda backbone: (backbone["family"], backbone["name"]))
    for family, members in groupby(ordered, key=lambda backbone: backbone["family"]):
        add_row(table, Text(family, style="bold"))
        for backbone in members:
            add_row(
                table,
                INDENT + backbone["name"],
                write_count(backbone["parameters"]),
                f"{backbone['layers']:,}",
                f"{backbone['smallest_size']} px",
                _imagenet(backbone),
                backbone["preprocessing"],
            )
    notes = ["Parameters and layers: the backbone alone, at the smallest image size (from)."]
    if any(backbone["imagenet_offline"] for backbone in backbones):
        notes.append("ImageNet weights marked `here` need no download.")
    notes += [
        f"{backbone['name']} has the neck {backbone['neck']} unless model.neck is set."
        for backbone in backbones
        if backbone["neck"]
    ]
    return Group(table, _notes(notes))


def _imagenet(backbone: Document) -> str:
    if not backbone["imagenet"]:
        return MISSING
    return "here" if backbone["imagenet_offline"] else "download"


def model_tables(document: Document) -> RenderableType:
    """The network of an experiment, and one row per stage.

    Args:
        document: the document that `fer models show --json` prints.
    """
    lines = [
        f"{document['backbone']} (weights: {document['weights']}) at {document['image_size']} px",
        f"{document['parameters']:,} parameters, {document['layers']:,} layers in the backbone",
        f"{len(document['classes'])} classes: {', '.join(document['classes'])}",
    ]
    columns = ["stage", "epochs", ">learning\nrate", "optimizer", ">layers", ">parameters"]
    table = new_table([*columns, "from layer"], ruled=False)
    first = 1
    for stage in document["stages"]:
        last = first + stage["epochs"] - 1
        add_row(
            table,
            stage["name"],
            f"{first}-{last}",
            f"{stage['learning_rate']:g}",
            stage["optimizer"],
            f"{stage['layers']:,}",
            write_count(stage["trainable_parameters"]),
            stage["first_trainable_layer"],
        )
        first = last + 1
    notes = [
        "Layers: those of the backbone that train. The head and any neck train in every stage.",
        *_frozen_norms(document["stages"]),
        *(f"{s['name']}: layer decay {s['layer_decay']:g}" for s in decayed(document["stages"])),
        "Classes without images are left out once the data is read.",
    ]
    heading = Text(document["name"], style="bold")
    about = Padding(Text("\n".join(lines)), (0, 0, 1, len(INDENT)))
    return Group(heading, about, table, _notes(notes))


def decayed(stages: Sequence[Document]) -> list[Document]:
    """The stages whose lower layers train more slowly."""
    return [stage for stage in stages if stage["layer_decay"] not in (None, 1)]


def _frozen_norms(stages: Sequence[Document]) -> list[str]:
    frozen = [stage["name"] for stage in stages if stage["freeze_batch_norm"]]
    if not frozen:
        return []
    where = "every stage" if len(frozen) == len(stages) else ", ".join(frozen)
    return [f"BatchNorm layers of the backbone stay frozen in {where}."]


def _notes(lines: Sequence[str]) -> RenderableType:
    return Padding(table_note("\n".join(lines)), (1, 0, 0, 0))
