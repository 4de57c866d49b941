"""`fer data`: prepare, describe, audit and show datasets."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_bench.api.choices import one_of
from fer_bench.cli.arguments import check_png
from fer_bench.cli.console import results, say
from fer_bench.cli.options import ConfigFile, Data, Json, Overrides, SplitName
from fer_bench.cli.shell import Commands, Typer, mention, notify, open_device, open_display
from fer_bench.errors import ConfigError, DataError
from fer_bench.runs.names import run_at

if TYPE_CHECKING:
    from fer_bench.config.dataset import Dataset

app = Typer(cls=Commands, no_args_is_help=True, help="Prepare, describe, audit and show datasets.")


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="Name of the dataset.")],
    archive: Annotated[Path | None, typer.Argument(help="The downloaded archive.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder to create. Default: data/<name>.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing folder.")] = False,
) -> None:
    """Create the folder of a dataset from its downloaded archive."""
    from fer_bench.config.dataset import Dataset
    from fer_bench.data.spec import DatasetSpec
    from fer_bench.registry import DATASETS

    name = DATASETS.known_as(name)
    spec: DatasetSpec = DATASETS[name]
    root = root or Path("data") / name
    if spec.prepare is None:
        raise ConfigError(f"dataset '{name}' needs no preparation; unpack it into {root}.")
    spec.prepare(root, archive, force)
    manifest = spec.read(Dataset(name=name, root=root))
    sizes = ", ".join(f"{count:,} {split}" for split, count in manifest.split_sizes().items())
    for warning in manifest.warnings():
        notify(f"warning: {warning}")
    say(f"{root}: {manifest.release}, {sizes} images in {len(manifest.classes)} classes")


@app.command()
def stats(
    data: Data,
    overrides: Overrides = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the counts into this PNG file.")] = None,
    as_json: Json = False,
) -> None:
    """Describe the data of an experiment: release, counts, image sizes, valence and arousal.

    A folder is described as it is, with its own splits.
    """
    from fer_bench.data.load import load_manifest, read_release
    from fer_bench.data.summary import describe

    check_png("--plot", plot)
    dataset = _dataset(data, overrides or [])
    manifest = read_release(dataset) if data.is_dir() else load_manifest(dataset)
    description = describe(manifest)
    if plot:
        from fer_bench.report.figures.dataset import dataset_counts

        dataset_counts(manifest, plot)
    if as_json:
        say(json.dumps(description, indent=2))
    else:
        from fer_bench.report.terminal.dataset import dataset_tables

        results().print(dataset_tables(description))
    if plot:
        mention("written", plot)


def _dataset(data: Path, overrides: Sequence[str]) -> "Dataset":
    """The dataset of an experiment or a run, or the one in a folder."""
    from fer_bench.api.experiments import experiment_file
    from fer_bench.config.loading import dataset_of_folder, load_experiment
    from fer_bench.data.load import dataset_in

    if not data.is_dir() or run_at(data):
        return load_experiment(experiment_file(data, Path("outputs")), overrides).dataset
    return dataset_of_folder(data, dataset_in(data), overrides)


@app.command()
def audit(
    data: Data,
    overrides: Overrides = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 2 if any finding is an error.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that read images. Default: one per core.")
    ] = None,
    quarantine: Annotated[
        Path | None,
        typer.Option(help="Write images to leave out to this CSV; default <root>.quarantine.csv."),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            help="Write images that belong together to this CSV; default <root>.groups.csv."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Audit every image of a dataset: unusable files, duplicates, leaks between splits."""
    import pandas as pd

    from fer_bench.data.audit.findings import audit as audit_images
    from fer_bench.data.load import read_release
    from fer_bench.data.spec import DatasetSpec
    from fer_bench.registry import DATASETS
    from fer_bench.storage.delimited import read_delimited
    from fer_bench.storage.files import write_atomically

    dataset = _dataset(data, overrides or [])
    manifest = read_release(dataset)
    spec: DatasetSpec = DATASETS[dataset.name]
    with open_display() as display:
        found = audit_images(
            manifest,
            spec.overlaps,
            workers,
            partial(display.progress, f"reading {manifest.name} images"),
            partial(display.progress, "comparing images"),
        )
    quarantine = quarantine or dataset.root.with_name(f"{dataset.root.name}.quarantine.csv")
    groups = groups or dataset.root.with_name(f"{dataset.root.name}.groups.csv")
    left_out = found.quarantine
    if dataset.exclude:  # images excluded before were not audited again, and stay excluded
        before = read_delimited(dataset.exclude.read_bytes(), "sample_id")
        left_out = pd.concat([before, left_out])
    for path, table in ((quarantine, left_out), (groups, found.groups)):
        write_atomically(path, table.to_csv(index=False))
    if as_json:
        say(json.dumps(found.to_json(), indent=2))
    else:
        from fer_bench.report.terminal.dataset import dataset_tables

        results().print(dataset_tables(found.to_json()))
    mention(f"{len(left_out):,} images to leave out (dataset.exclude)", quarantine)
    mention(f"{len(found.groups):,} images that belong together (dataset.groups)", groups)
    if strict and found.failed:
        errors = [problem.kind for problem in found.problems if problem.severity == "error"]
        raise DataError(
            f"{dataset.root}: findings that are errors: {', '.join(errors)}.\n"
            "Set dataset.exclude and dataset.groups to the files above, and audit again."
        )


@app.command()
def show(
    config: ConfigFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")],
    overrides: Overrides = None,
    split: SplitName = "train",
    augmented: Annotated[
        bool, typer.Option("--augmented", help="Show the augmented images of the first epoch.")
    ] = False,
    number: Annotated[int, typer.Option("-n", min=1, max=1024, help="Number of images.")] = 48,
) -> None:
    """Draw a sheet of labelled images, as the network receives them."""
    from fer_bench.api.experiments import experiment_file
    from fer_bench.config.loading import load_experiment
    from fer_bench.labels import SPLITS

    one_of("--split", split, SPLITS)
    check_png("--output", output)
    if augmented and split != "train":
        raise ConfigError(f"--augmented: only training images are augmented, not {split}.")
    experiment = load_experiment(experiment_file(config, Path("outputs")), overrides or [])
    open_device("cpu")

    from fer_bench.data.load import load_manifest
    from fer_bench.data.pipeline import first_images
    from fer_bench.report.figures.dataset import contact_sheet

    manifest = load_manifest(experiment.dataset)
    images, codes = first_images(manifest, experiment, split, number, augmented=augmented)
    labels = [manifest.classes[code] for code in codes]
    title = f"{manifest.release}, {split}{', augmented' if augmented else ''}"
    contact_sheet(images, labels, title, output)
    mention("written", output)
