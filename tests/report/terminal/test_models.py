"""The tables of `fer models`."""

import io
from typing import Any

from rich.console import Console

from fer_bench.report.terminal.models import backbones_table, model_tables


def shown(renderable: Any) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=80).print(renderable)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def backbone(name: str, family: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "family": family,
        "parameters": 54_336_736,
        "layers": 1028,
        "smallest_size": 75,
        "preprocessing": "BGR - ImageNet means",
        "imagenet": True,
        "imagenet_offline": False,
        "neck": None,
        **changes,
    }


def test_backbones_are_grouped_by_family() -> None:
    lines = shown(
        backbones_table(
            [
                backbone("inceptionresnetv2", "inceptionresnet"),
                backbone("vgg16", "vgg", imagenet_offline=True),
                backbone("cnn_x", "cnn", imagenet=False),
                backbone("vgg_ippm", "vgg", neck="ippm"),
            ]
        )
    )
    rows = [line.split() for line in lines[1:9]]
    words = [" ".join(row) for row in rows]
    assert [row[0] for row in rows[:-1]] == [
        *("cnn", "cnn_x", "inceptionresnet", "inceptionresnetv2"),
        *("vgg", "vgg16", "vgg_ippm"),
    ]
    assert words[3] == "inceptionresnetv2 54.3 M 1,028 75 px download BGR - ImageNet means"
    assert [row[6] for row in (rows[1], rows[5], rows[6])] == ["-", "here", "download"]
    assert any("vgg_ippm has the neck ippm" in line for line in lines)
    assert any("`here`" in line for line in lines)


def stage(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "train": "all",
        "epochs": 5,
        "learning_rate": 1e-4,
        "optimizer": "rmsprop",
        "layer_decay": None,
        "freeze_batch_norm": True,
        "trainable_parameters": 117_746_848,
        "first_trainable_layer": "block7a_expand_conv",
        "layers": 1028,
        **changes,
    }


def model(*stages: dict[str, Any]) -> list[str]:
    document = {
        "name": "x",
        "backbone": "efficientnetv2l",
        "weights": "imagenet",
        "image_size": 224,
        "classes": ["neutral", "anger"],
        "parameters": 118_000_000,
        "layers": 1028,
        "stages": stages,
    }
    return shown(model_tables(document))


def test_a_stage_is_one_line() -> None:
    lines = model(stage("head"), stage("last45", layer_decay=0.8, learning_rate=1e-5))
    words = [" ".join(line.split()) for line in lines]
    assert "last45 6-10 1e-05 rmsprop 1,028 117.7 M block7a_expand_conv" in words
    assert "last45: layer decay 0.8" in lines
    assert "BatchNorm layers of the backbone stay frozen in every stage." in lines


def test_stages_with_frozen_batch_norm_are_listed() -> None:
    some = model(stage("a"), stage("[b]", freeze_batch_norm=False), stage("c"))
    assert "BatchNorm layers of the backbone stay frozen in a, c." in some
    assert any(line.startswith("[b]") for line in some)
    assert not any("frozen in" in line for line in model(stage("a", freeze_batch_norm=False)))
