"""A run: what was trained, how it went, and what it predicts."""

import os
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pandas as pd

from fer_bench.api.experiments import load_experiment
from fer_bench.api.metrics import Metrics, html_table, metric_rows
from fer_bench.config.experiment import Experiment
from fer_bench.errors import RunError
from fer_bench.labels import AXES
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.documents import read_corruptions, read_metrics
from fer_bench.runs.elsewhere import place_of_results
from fer_bench.runs.names import named_run
from fer_bench.runs.predictions import UNKNOWN, read_predictions


class Run:
    """One run, in its folder.

    >>> import fer_bench
    >>> run = fer_bench.open_run("latest")
    >>> run.experiment.dataset.name
    'drawn'
    >>> run.evaluations
    ['test']
    >>> run.history[["epoch", "val_loss"]].columns.tolist()
    ['epoch', 'val_loss']
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    @property
    def id(self) -> str:
        """`<name>-s<seed>-<8 hex digits>`, which is also the name of the folder."""
        return self._directory.run_id

    @property
    def path(self) -> Path:
        """The folder of the run."""
        return self._directory.path

    @property
    def status(self) -> str | None:
        """`running`, `finished`, `failed` or `interrupted`; None before it has begun."""
        return self._directory.status()

    @property
    def record(self) -> dict[str, Any]:
        """The document `run.json`: device, versions, dataset, stages, the epoch that was kept."""
        self._directory.read_record()  # raises where something is wrong with it
        return self._directory.read_json(self._directory.run_json)

    @cached_property
    def experiment(self) -> Experiment:
        """What the run was trained with. Raises: RunError for a run that was adopted."""
        return load_experiment(self.path)

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch. Raises: RunError where no epoch is done."""
        if not os.path.lexists(self._directory.history):
            raise RunError(f"{self.id}: no epoch is done (there is no {self._directory.history}).")
        epochs = self._directory.read_history()
        return pd.DataFrame([epoch.to_row() for epoch in epochs])

    @property
    def evaluations(self) -> list[str]:
        """What was evaluated: splits, and names such as `test+flip` and `test@other_dataset`."""
        return sorted(path.stem for path in self.path.glob("metrics/*.json"))

    def metrics(self, evaluation: str = "test") -> Metrics:
        """The saved metrics of an evaluation. Raises: RunError where there are none."""
        self._check_there("metrics", self._directory.metrics(evaluation))
        document = read_metrics(self._directory, evaluation)
        return Metrics(cast(dict[str, Any], document), self.id, evaluation)

    def predictions(self, evaluation: str = "test") -> pd.DataFrame:
        """The saved predictions of an evaluation, one row per image.

        >>> import fer_bench
        >>> predictions = fer_bench.open_run("latest").predictions("test")
        >>> predictions.columns[:4].tolist()
        ['sample_id', 'label', 'predicted', 'p_neutral']

        Returns:
            `sample_id`, `label`; where expressions are predicted `predicted` and the probability
            `p_<class>` of each class; where valence and arousal are predicted the true ones and
            `valence_predicted`, `arousal_predicted`, all in [-1, 1].

        Raises:
            RunError: there are none, or the file is damaged.
        """
        path = self._directory.predictions(evaluation)
        self._check_there("predictions", path)
        read_predictions(path)  # raises where something is wrong with it
        texts = dict.fromkeys(("sample_id", "label", "predicted"), str)
        unknown = dict.fromkeys(AXES, UNKNOWN)
        return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=unknown)

    def corruptions(self, evaluation: str = "test") -> dict[str, Any]:
        """What corrupted images do to an evaluation: the document of `corruptions/`.

        Raises: RunError where there is none.
        """
        self._check_there("corruptions", self._directory.corruptions(evaluation))
        return cast(dict[str, Any], read_corruptions(self._directory, evaluation))

    def model(self) -> Any:
        """The selected `keras.Model`: float32 RGB in [0, 255], shape (n, size, size, 3), to logits.

        Raises:
            RunError: there is no model, or the file cannot be read.
            DeviceError: Keras was imported before fer_bench, with other settings.
        """
        from fer_bench import settings
        from fer_bench.device.quiet import native_messages_hidden

        self._check_there("model", self._directory.model)
        settings.check_keras()
        with native_messages_hidden():
            from fer_bench.models.build import load_model
        return load_model(self._directory.model)

    def report(self, to: str | Path | None = None) -> Path:
        """Write the self-contained page of the run from what is saved; its path.

        Args:
            to: a folder of runs for the page, where the run is read-only: as for `evaluate`.

        Raises:
            RunError: the run cannot be written.
        """
        return written_page(place_of_results(self._directory, Path(to) if to else None))

    def _check_there(self, kind: str, path: Path) -> None:
        if os.path.lexists(path):  # a link that leads nowhere is named when it is read
            return
        there = ", ".join(self.evaluations) or "none"
        raise RunError(
            f"{self.id}: no {kind} ({path} does not exist); status: {self.status}; "
            f"evaluations: {there}.\n"
            "Train the run to its end, and evaluate it: fer_bench.evaluate(run, split)."
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.path.resolve() == other.path.resolve()

    def __hash__(self) -> int:
        return hash(self.path.resolve())

    def __repr__(self) -> str:
        return f"Run('{self.path}', {self.status})"

    def _repr_html_(self) -> str:
        rows = [["status", str(self.status)], ["folder", str(self.path)]]
        tables = [html_table(self.id, ["property", "value"], rows)]
        for evaluation in self.evaluations:
            metrics = self.metrics(evaluation)
            caption = f"{evaluation}, n = {metrics.n:,}"
            tables.append(html_table(caption, ["metric", "value"], metric_rows(metrics)[:4]))
        return "".join(tables)


def open_run(name_or_path: str | Path = "latest", outputs: str | Path = "outputs") -> Run:
    """The run with this name.

    >>> import fer_bench
    >>> fer_bench.open_run("latest", outputs="outputs").status
    'finished'

    Args:
        name_or_path: an id, the beginning of one, a folder, a file in it, or `latest`.
        outputs: the folder of the runs.

    Raises:
        RunError: there is no such run, or there are several; lists those that there are.
    """
    return Run(named_run(Path(outputs), str(name_or_path)))


def directory_of(run: Run | str | Path, outputs: str | Path) -> RunDirectory:
    """The folder of a run that is given in any of the ways. Raises: RunError."""
    return RunDirectory(run.path) if isinstance(run, Run) else named_run(Path(outputs), str(run))


def written_page(run: RunDirectory, *, with_images: bool = False) -> Path:
    """Write the page of a run, in the style of fer-bench whatever the program draws in; its path.

    Raises: RunError.
    """
    from matplotlib import style

    from fer_bench.report.pages import write_run_report

    run.settle()
    with style.context("default", after_reset=True):
        return write_run_report(run, with_images=with_images)
