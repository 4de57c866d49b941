"""Tracking: what arrives at TensorBoard and MLflow, and that neither disturbs a run."""

import csv
import http.server
import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filled import cell
from messages import says
from PIL import Image
from typer.testing import Result

from fer_bench.config.loading import load_experiment
from fer_bench.errors import ConfigError
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.tracking import outbox
from fer_bench.runs.tracking.mirror import TRACKERS, Mirror, Parcel, TrackingError, open_tracker
from fer_bench.runs.tracking.outbox import (
    measured,
    parameters,
    sending,
    status_of,
    timed_epochs,
    unsent,
)

Fer = Callable[..., Result]
WriteConfig = Callable[..., Path]
TIMES = ["images_per_second", "seconds"]
NOBODY = "http://127.0.0.1:1"
EPOCHS = 3  # of the tiny experiment


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user has set counts for no test; an answer is waited for one second."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A finished run of three epochs, written by hand, with two pictures and an evaluation."""
    found = RunDirectory(tmp_path / "outputs" / "handmade-s1-0123abcd")
    for folder in ("figures", "explanations/test", "metrics"):
        (found.path / folder).mkdir(parents=True)
    record = {
        "name": "handmade",
        "seed": 1,
        "status": "finished",
        "started": "2026-11-22T06:00:00+00:00",
        "ended": "2026-11-22T06:10:00+00:00",
        "dataset": {"name": "drawn"},
        "model": {"backbone": "cnn_slides"},
        "best": {"epoch": 2},
        "tracking": ["mlflow"],
    }
    found.run_json.write_text(json.dumps(record))
    found.config.write_text("seed: 1\nstages:\n- name: head\n  train: {last: 3}\npublished: []\n")
    write_history(found, 3)
    for name in ("figures/curves.png", "explanations/test/mistakes.png"):
        Image.new("RGB", (32, 9), "navy").save(found.path / name)
    document = {
        "n": 48,
        "macro_f1": cell(0.5),
        "without_twins": {"n": 40, "left_out": 8, "macro_f1": cell(0.4)},
    }
    (found.path / "metrics" / "test+flip.json").write_text(json.dumps(document))
    return found


def write_history(run: RunDirectory, epochs: int) -> None:
    rows = [f"{number},head,{1 / number},,{10 * number}\n" for number in range(1, epochs + 1)]
    run.history.write_text("epoch,stage,loss,accuracy,seconds\n" + "".join(rows))


def change_record(run: RunDirectory, **changes: Any) -> None:
    run.run_json.write_text(json.dumps(json.loads(run.run_json.read_text()) | changes))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder that MLflow's own client writes to as it does to a server; its address."""
    address = (tmp_path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    return address


def sent_to(run: RunDirectory) -> Any:
    return json.loads((run.path / "tracking" / "mlflow.json").read_text())


def on_server(run: RunDirectory, address: str) -> tuple[Any, Any]:
    """A client, and the one run on the server that mirrors `run`."""
    from mlflow import MlflowClient

    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("fer-bench/drawn")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], f"tags.run_id = '{run.run_id}'")
    return client, found


def steps(client: Any, found: Any, key: str) -> list[tuple[int, float]]:
    """Every point of a metric, as (step, value), in the order of steps."""
    points = client.get_metric_history(found.info.run_id, key)
    return sorted((point.step, point.value) for point in points)


def files(client: Any, found: Any, folder: str | None = None) -> set[str]:
    """The paths of all files that the server has of a run."""
    paths: set[str] = set()
    for entry in client.list_artifacts(found.info.run_id, folder):
        paths |= files(client, found, entry.path) if entry.is_dir else {entry.path}
    return paths


def read_events(run: RunDirectory) -> Any:
    """What TensorBoard reads from the run."""
    accumulators = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(
        str(run.path / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0}
    )
    return events.Reload()


def assert_mirrors(run: RunDirectory, address: str) -> None:
    """The server has each value of `history.csv` once, and every file."""
    client, found = on_server(run, address)
    with run.history.open() as file:
        rows = list(csv.DictReader(file))
    for column in rows[0].keys() - {"epoch", "stage"}:
        expected = [(int(row["epoch"]), float(row[column])) for row in rows]
        assert steps(client, found, column) == expected
    kept = [*run.path.glob("figures/*.png"), run.config, run.history]
    assert files(client, found) == {str(path.relative_to(run.path)) for path in kept}
    assert found.data.params["stages.1.train.last"] == "12"
    assert found.data.tags["status"] == "finished"
    assert found.info.status == "FINISHED"


def assert_same_history(run: RunDirectory, other: Path) -> None:
    one, two = (pd.read_csv(path / "history.csv").drop(columns=TIMES) for path in (run.path, other))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


# The key of the experiment ----------------------------------------------------------------------


def test_where_a_run_is_watched_is_not_part_of_what_it_is(
    write_config: WriteConfig, tiny: dict[str, Any]
) -> None:
    plain = load_experiment(write_config(tiny))
    watched = load_experiment(write_config(tiny | {"tracking": ["tensorboard", "mlflow"]}))
    assert watched.tracking == ("tensorboard", "mlflow")
    assert watched.run_id == plain.run_id
    assert watched.to_yaml() == plain.to_yaml()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("[mlfow]", "tracking.0: must be 'tensorboard' or 'mlflow', got 'mlfow'. Did you mean"),
        ("mlflow", "tracking: must be a list, got 'mlflow'"),
        ("[mlflow, mlflow]", "tracking: names a tracker twice: mlflow, mlflow"),
    ],
)
def test_a_wrong_tracker_is_explained(
    write_config: WriteConfig, tiny: dict[str, Any], value: str, words: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_experiment(write_config(tiny), [f"tracking={value}"])
    assert words in str(refused.value)


def test_a_missing_package_is_an_error_before_anything_is_done(
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    config = write_config(tiny | {"tracking": ["mlflow"]})
    refused = fer("train", config, "--outputs", tmp_path / "outputs")
    assert refused.exit_code == 2
    assert "pip install 'fer-bench[mlflow]'" in refused.stderr
    assert not (tmp_path / "outputs").exists()


# What there is to send --------------------------------------------------------------------------


def test_what_was_sent_is_not_sent_again_unless_it_changes(run: RunDirectory) -> None:
    with sending(run, "x") as sent:
        first = unsent(run, sent)
        assert [epoch.number for epoch in first.epochs] == [1, 2, 3]
        assert set(first.files) == {
            *("config.yaml", "history.csv", "metrics/test+flip.json"),
            "figures/curves.png",  # and no sheet of faces
        }
        assert str(first) == "3 epochs, 4 files, status finished"
        sent.epochs, sent.files, sent.status = 3, first.files, "finished"
        sent.save()
    with sending(run, "x") as again:
        assert not unsent(run, again)
        Image.new("RGB", (32, 9), "red").save(run.path / "figures" / "curves.png")
        write_history(run, 4)
        more = unsent(run, again)
        assert [epoch.number for epoch in more.epochs] == [4]
        assert set(more.files) == {"figures/curves.png", "history.csv"}
        assert more.status is None


def test_the_history_is_no_file_to_send_while_it_grows(run: RunDirectory) -> None:
    change_record(run, status="running")
    with run.lock(), sending(run, "x") as sent:
        parcel = unsent(run, sent)
    assert len(parcel.epochs) == 3
    assert "history.csv" not in parcel.files


def test_a_run_that_nobody_trains_any_more_was_killed(run: RunDirectory) -> None:
    change_record(run, status="running")
    assert status_of(run) == "killed"
    with run.lock():
        assert status_of(run) == "running"
    for said, meant in (("interrupted", "killed"), ("failed", "failed"), ("finished", "finished")):
        change_record(run, status=said)
        assert status_of(run) == meant


def test_epochs_end_when_the_history_was_written_less_what_came_after(run: RunDirectory) -> None:
    os.utime(run.history, (1000.0, 1000.0))
    first, second, third = timed_epochs(run)
    assert [epoch.time for epoch in (first, second, third)] == [950.0, 970.0, 1000.0]
    assert second.values == {"loss": 0.5, "seconds": 20.0}  # no stage, and no accuracy without one


def test_keys_and_measured_values_get_flat_names(run: RunDirectory) -> None:
    assert parameters(run) == {
        "seed": "1",
        "stages.0.name": "head",
        "stages.0.train.last": "3",
        "published": "[]",
    }
    values = measured(run, "metrics/test+flip.json")
    assert values["test+flip/macro_f1"] == 0.5
    assert values["test+flip/macro_f1_low"] == pytest.approx(0.48)
    assert values["test+flip/without_twins.macro_f1_high"] == pytest.approx(0.42)
    assert len(values) == 6


def test_a_record_that_cannot_be_read_says_what_to_do(run: RunDirectory, store: str) -> None:
    open_tracker("mlflow", run).send()
    (run.path / "tracking" / "mlflow.json").write_text('{"epochs": 1, "boats": 2}')
    with pytest.raises(TrackingError, match=r"mlflow\.json: cannot be read .* remove it"):
        open_tracker("mlflow", run).send()


# In the background ------------------------------------------------------------------------------


class Told:
    """A tracker that does what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
        self.calls = 0
        self.act = act
        monkeypatch.setitem(TRACKERS, "told", lambda _: self)

    def send(self) -> Parcel:
        self.calls += 1
        self.act()
        return Parcel()


def test_a_slow_tracker_holds_nothing_up(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, ended = threading.Event(), list[bool]()
    told = Told(monkeypatch, lambda: ended.append(release.wait(60)))
    said: list[str] = []
    mirror = Mirror(run, ["told"], said.append)
    for _ in range(100):
        mirror.send()
    assert told.calls == 1, "more than one send under way"
    mirror.close(0.1)
    assert not ended, "it waited for the tracker"
    assert len(said) == 1
    assert f"fer sync {run.run_id}" in said[0]
    release.set()


def test_the_end_sends_once_more_what_came_meanwhile(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    told = Told(monkeypatch, lambda: release.wait(60))
    said: list[str] = []
    with Mirror(run, ["told"], said.append) as mirror:
        mirror.send()
        mirror.send()
        release.set()
    assert told.calls == 2
    assert said == []


@pytest.mark.parametrize("error", [TrackingError("it says no"), OSError(28, "disk full")])
def test_a_failing_tracker_warns_once(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail() -> None:
        raise error

    told = Told(monkeypatch, fail)
    said: list[str] = []
    with Mirror(run, ["told"], said.append) as mirror:
        for _ in range(3):
            mirror.send()
            time.sleep(0.02)
    assert told.calls > 1
    assert len(said) == 1
    assert str(error) in said[0]


# MLflow, through its own client -----------------------------------------------------------------


def test_mlflow_gets_all_of_a_run_once(run: RunDirectory, store: str, fer: Fer) -> None:
    result = fer("sync", "--outputs", run.outputs)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{run.run_id}: mlflow: 3 epochs, 4 files, status finished\n"
    client, found = on_server(run, store)
    assert found.info.run_name == run.run_id
    assert found.info.end_time - found.info.start_time == 600_000  # ms
    tags = {"run_id": run.run_id, "name": "handmade", "seed": "1", "backbone": "cnn_slides"}
    assert tags.items() <= found.data.tags.items()
    assert found.data.params["stages.0.train.last"] == "3"
    assert steps(client, found, "loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert steps(client, found, "test_flip/macro_f1") == [(2, 0.5)]
    assert files(client, found) == {
        *("config.yaml", "history.csv"),
        "figures/curves.png",
    }
    again = fer("sync", run.run_id, "--outputs", run.outputs)
    assert (again.exit_code, again.stdout) == (0, "nothing to send\n")


def test_what_arrived_without_an_answer_is_not_sent_twice(run: RunDirectory, store: str) -> None:
    open_tracker("mlflow", run).send()
    path = run.path / "tracking" / "mlflow.json"
    path.write_text(json.dumps(sent_to(run) | {"epochs": 1}))  # 2 and 3 arrived, and then a kill
    write_history(run, 4)
    open_tracker("mlflow", run).send()
    client, found = on_server(run, store)
    assert [step for step, _ in steps(client, found, "loss")] == [1, 2, 3, 4]


def test_a_run_made_just_before_a_kill_is_found_again(run: RunDirectory, store: str) -> None:
    open_tracker("mlflow", run).send()
    key = sent_to(run)["server"]["key"]
    path = run.path / "tracking" / "mlflow.json"
    path.write_text(json.dumps({"epochs": 3, "files": {}, "server": {"key": key}}))
    open_tracker("mlflow", run).send()
    on_server(run, store)  # one


def test_a_server_that_does_not_know_the_run_gets_all_of_it(
    run: RunDirectory, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_tracker("mlflow", run).send()
    other = (tmp_path / "other").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    change_record(run, status="failed")
    change_record(run, status="finished")
    (run.path / "figures" / "new.png").write_bytes((run.path / "figures/curves.png").read_bytes())
    open_tracker("mlflow", run).send()
    client, found = on_server(run, other)
    assert len(steps(client, found, "loss")) == 3
    assert "config.yaml" in files(client, found)


def test_a_run_begun_anew_is_another_one_on_the_server(
    run: RunDirectory, store: str, tmp_path: Path
) -> None:
    shutil.copytree(run.path, tmp_path / "anew")
    open_tracker("mlflow", run).send()
    client, first = on_server(run, store)
    shutil.rmtree(run.path)  # as --fresh does
    shutil.copytree(tmp_path / "anew", run.path)
    open_tracker("mlflow", run).send()
    second = client.get_run(sent_to(run)["server"]["run"])
    assert second.info.run_id != first.info.run_id
    assert len(steps(client, first, "loss")) == len(steps(client, second, "loss")) == 3


def test_a_run_deleted_on_the_server_is_not_made_again(
    run: RunDirectory, store: str, fer: Fer
) -> None:
    open_tracker("mlflow", run).send()
    client, found = on_server(run, store)
    client.delete_run(found.info.run_id)
    write_history(run, 4)
    refused = fer("sync", "--outputs", run.outputs)
    assert refused.exit_code == 2
    assert "was deleted on the server" in refused.stderr
    assert str(run.path / "tracking" / "mlflow.json") in refused.stderr.replace("\n", "")


# TensorBoard ------------------------------------------------------------------------------------


def test_tensorboard_gets_all_of_a_run_once(run: RunDirectory) -> None:
    assert len(open_tracker("tensorboard", run).send().epochs) == 3
    write_history(run, 4)
    assert len(open_tracker("tensorboard", run).send().epochs) == 1
    assert not open_tracker("tensorboard", run).send()
    events = read_events(run)
    points = [(point.step, point.value) for point in events.Scalars("loss")]
    assert points == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3)), (4, 0.25)]
    picture = events.Images("figures/curves")[-1]
    assert picture.encoded_image_string == (run.path / "figures/curves.png").read_bytes()


# Servers that do not answer ---------------------------------------------------------------------


def test_without_an_address_sync_says_what_to_set(run: RunDirectory, fer: Fer) -> None:
    refused = fer("sync", "--outputs", run.outputs)
    assert refused.exit_code == 2
    assert "MLFLOW_TRACKING_URI is not set" in refused.stderr
    assert refused.stdout == ""


def test_nobody_at_the_address(
    run: RunDirectory, fer: Fer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    shutil.copytree(run.path, run.path.with_name("second-s1-0123abcd"))
    refused = fer("sync", "--outputs", run.outputs)
    assert refused.exit_code == 2
    assert f"{NOBODY} does not answer" in refused.stderr
    assert "Connection refused" in refused.stderr
    assert refused.stderr.count("does not answer") == 1, "asked again for the second run"


def test_an_address_that_is_none(
    run: RunDirectory, fer: Fer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "localhost:5000")
    refused = fer("sync", "--outputs", run.outputs)
    assert refused.exit_code == 2, refused.exception
    assert "localhost:5000 does not answer as an MLflow server" in refused.stderr


def test_without_the_package_sync_says_how_to_install_it(
    run: RunDirectory, fer: Fer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    refused = fer("sync", "--outputs", run.outputs)
    assert refused.exit_code == 2
    assert "pip install 'fer-bench[mlflow]'" in refused.stderr


def test_another_kind_of_server(
    run: RunDirectory, fer: Fer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        refused = fer("sync", "--outputs", run.outputs)
        server.shutdown()
    assert refused.exit_code == 2
    assert f"{address} does not answer as an MLflow server" in refused.stderr


def test_a_run_without_trackers_has_nothing_to_sync(run: RunDirectory, fer: Fer) -> None:
    change_record(run, tracking=[])
    assert fer("sync", "--outputs", run.outputs).stdout == "nothing to send\n"
    refused = fer("sync", run.run_id, "--outputs", run.outputs)
    assert refused.exit_code == 2
    says(refused.stderr, "no tracking", "--set tracking")


# Whole runs -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_both_trackers_mirror_a_run_while_it_trains(
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    trained_run: Path,
    store: str,
    tmp_path: Path,
) -> None:
    outputs, config = tmp_path / "outputs", write_config(tiny)
    option = ("--set", "tracking=[tensorboard, mlflow]")
    trained = fer("train", config, "--outputs", outputs, *option)
    assert (trained.exit_code, trained.stdout) == (0, f"{trained_run.name}\n")
    assert tracking_warnings(trained.stderr) == []
    run = RunDirectory(outputs / trained_run.name)
    assert_same_history(run, trained_run)
    assert run.read_json(run.run_json)["tracking"] == ["tensorboard", "mlflow"]
    assert_mirrors(run, store)
    evaluated = fer("evaluate", run.run_id, "--outputs", outputs)
    assert evaluated.exit_code == 0, evaluated.output
    assert_mirrors(run, store)
    client, found = on_server(run, store)
    metrics = run.read_json(run.metrics("test"))
    best = run.read_json(run.run_json)["best"]["epoch"]
    assert steps(client, found, "test/macro_f1") == [(best, metrics["macro_f1"]["value"])]
    assert_events(run, best, metrics)


def tracking_warnings(messages: str) -> list[str]:
    return re.findall(r"warning: (?:tensorboard|mlflow).*", messages)


def assert_events(run: RunDirectory, best: int, metrics: dict[str, Any]) -> None:
    """TensorBoard reads every value of `history.csv`, the metrics and the very pictures."""
    events = read_events(run)
    rows = pd.read_csv(run.history)
    for column in rows.columns.drop(["epoch", "stage"]):
        points = events.Scalars(column)
        assert [point.step for point in points] == list(rows["epoch"])
        assert [point.value for point in points] == pytest.approx(list(rows[column]), rel=1e-6)
        assert all(abs(point.wall_time - time.time()) < 600 for point in points)
    (point,) = events.Scalars("test/accuracy_low")
    assert (point.step, point.value) == (best, pytest.approx(metrics["accuracy"]["low"]))
    for path in run.figures.glob("*.png"):
        picture = events.Images(f"figures/{path.stem}")[-1]
        assert picture.encoded_image_string == path.read_bytes()
    (text,) = events.Tensors("config/text_summary")
    assert b"backbone: cnn_compact" in text.tensor_proto.string_val[0]


@pytest.mark.slow
def test_a_dead_server_costs_one_warning_and_sync_sends_the_rest(
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    trained_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    outputs, config = tmp_path / "outputs", write_config(tiny)
    trained = fer("train", config, "--outputs", outputs, "--set", "tracking=[mlflow]")
    assert trained.exit_code == 0, trained.output
    assert trained.stderr.count("warning: mlflow") == 1
    run = RunDirectory(outputs / trained_run.name)
    assert_same_history(run, trained_run)
    store = request.getfixturevalue("store")
    assert fer("sync", "--outputs", outputs).exit_code == 0
    assert_mirrors(run, store)


@pytest.mark.slow
def test_a_server_that_never_answers_does_not_slow_training(
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    trained_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    send, close = Mirror.send, Mirror.close

    def timed(mirror: Mirror) -> None:
        began = time.monotonic()
        send(mirror)
        waited.append(time.monotonic() - began)

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    monkeypatch.setattr(Mirror, "send", timed)
    monkeypatch.setattr(Mirror, "close", lambda mirror: close(mirror, 1.5))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        outputs, config = tmp_path / "outputs", write_config(tiny)
        trained = fer("train", config, "--outputs", outputs, "--set", "tracking=[mlflow]")
    assert trained.exit_code == 0, trained.output
    assert trained.stderr.count("warning: mlflow") == 1
    assert_same_history(RunDirectory(outputs / trained_run.name), trained_run)
    assert len(waited) == EPOCHS + 2
    assert max(waited) < 30, "it waited for the server, of which a request takes 60 seconds"


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_in_the_same_run(
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    trained_run: Path,
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs, config = tmp_path / "outputs", write_config(tiny | {"tracking": ["mlflow"]})
    with monkeypatch.context() as patch:
        stop_at_step(patch, 7)
        assert fer("train", config, "--outputs", outputs).exit_code == 130
    run = RunDirectory(outputs / trained_run.name)
    client, stopped = on_server(run, store)
    assert stopped.info.status == "KILLED"
    assert [step for step, _ in steps(client, stopped, "loss")] == [1]
    assert fer("train", config, "--outputs", outputs).exit_code == 0
    assert on_server(run, store)[1].info.run_id == stopped.info.run_id
    assert_mirrors(run, store)


def stop_at_step(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the process ask itself to stop after `number` steps."""
    from fer_bench.training import session
    from fer_bench.training import steps as steps_module

    build, count = steps_module.build_train_steps, iter(range(1, 1000))

    def build_counting(*arguments: Any) -> Any:
        step = build(*arguments)

        def counting(*batch: Any) -> None:
            step(*batch)
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGINT)

        return counting

    monkeypatch.setattr(steps_module, "build_train_steps", build_counting)
    monkeypatch.setattr(session, "SECONDS_PER_CALL", 0)  # one step in each call


# A real server ----------------------------------------------------------------------------------


class Server:
    """`mlflow server`, which can be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        options = {
            "--backend-store-uri": f"sqlite:///{self.folder / 'runs.sqlite'}",
            "--artifacts-destination": str(self.folder / "artifacts"),
            "--port": str(self.port),
            "--workers": "1",
        }
        quiet = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *sum(options.items(), ())],
            cwd=self.folder,
            env=os.environ | quiet,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 180
        while not self.answers():
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.5)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """At once, with all its processes."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def at_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    return server


@pytest.mark.scale
def test_a_real_server_has_all_of_a_run(
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    at_server: Server,
    tmp_path: Path,
) -> None:
    outputs = tmp_path / "outputs"
    config = write_config(tiny | {"tracking": ["mlflow"], "name": "live"})
    trained = fer("train", config, "--outputs", outputs)
    assert trained.exit_code == 0, trained.output
    assert tracking_warnings(trained.stderr) == []
    run = RunDirectory(outputs / trained.stdout.strip())
    assert fer("evaluate", run.run_id, "--outputs", outputs, "--views", "flip").exit_code == 0
    assert fer("sync", "--outputs", outputs).stdout == "nothing to send\n"
    assert_mirrors(run, at_server.address)
    client, found = on_server(run, at_server.address)
    metrics = run.read_json(run.metrics("test+flip"))
    ((_, value),) = steps(client, found, "test_flip/accuracy")
    assert value == metrics["accuracy"]["value"]
    picture = next(run.figures.glob("*.png"))
    copy = client.download_artifacts(found.info.run_id, f"figures/{picture.name}", str(tmp_path))
    assert Path(copy).read_bytes() == picture.read_bytes()


@pytest.mark.scale
def test_a_server_killed_while_a_run_trains_has_all_of_it_in_the_end(
    fer: Fer,
    write_config: WriteConfig,
    tiny: dict[str, Any],
    at_server: Server,
    trained_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs, config = tmp_path / "outputs", write_config(tiny | {"tracking": ["mlflow"]})
    run = RunDirectory(outputs / trained_run.name)
    send, calls = Mirror.send, iter(range(1, 100))

    def killing(mirror: Mirror) -> None:
        send(mirror)
        if next(calls) == 2:  # an epoch is done
            wait_for(lambda: send(mirror) or sent_to(run)["epochs"] == 1)
            at_server.kill()

    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "send", killing)
        trained = fer("train", config, "--outputs", outputs)
    assert trained.exit_code == 0, trained.output
    assert trained.stderr.count("warning: mlflow") == 1
    assert_same_history(run, trained_run)
    assert fer("sync", "--outputs", outputs).exit_code == 2
    at_server.start()
    synced = fer("sync", "--outputs", outputs)
    assert synced.stdout.startswith(f"{run.run_id}: mlflow: 2 epochs, "), synced.output
    assert fer("sync", "--outputs", outputs).stdout == "nothing to send\n"
    assert_mirrors(run, at_server.address)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    "content", ['{"epochs": "many"}', '{"colour": 1}', "[]", '{"epochs": 1, "epochs": 2}', None]
)
def test_a_damaged_record_of_what_was_sent_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "mlflow.json"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_text(content)
    with pytest.raises(TrackingError) as error:
        outbox._read_sent(path)
    says(error.value, path, "remove it")
