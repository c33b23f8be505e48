"""Tracking: what MLflow and TensorBoard show is what the run folder holds, once, and an absent server loses nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from registry_kit import experiment, fake_export

from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.tracking import Tracking
from saman.registry.lifecycle.publish import publish
from saman.registry.store import protobuf
from saman.registry.tracking import tensorboard
from saman.registry.tracking.curves import draw_curves
from saman.registry.tracking.delivery import find_waiting, track, track_if_asked, track_waiting
from saman.registry.tracking.run_history import read_history
from saman.runs.files.whole import append_line
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import VersionPublication
from saman.runs.records.summary import Summary
from saman.runs.telemetry.window import Window


def trained(folder: Path, **tracking: Any) -> RunFolder:
    """A run of three epochs with telemetry, as a trainer leaves it."""
    plain = experiment().resolved() | ({"tracking": tracking} if tracking else {})
    run = RunFolder.create(folder / "runs", Experiment.model_validate(plain))
    attempt = run.new_attempt()
    run.append("attempt_started", "supervisor", 1)
    for epoch in (1, 2, 3):
        run.append("epoch", "chief", 1, epoch=epoch, step=epoch * 10, metrics={"val_accuracy": 0.3 * epoch})
        window = Window(0, 1, 1, epoch * 10, 10, epoch, 80, 2.0, 0.1, loss=1 / epoch, learning_rate=0.1)
        append_line(attempt.telemetry(0), window.to_json())
    run.append("epoch", "chief", 1, epoch=3, step=30, metrics={"val_accuracy": 0.95})  # repeated after a resume
    fake_export(run)
    run.append("completed", "supervisor", 1)
    run.write_summary(Summary("completed"))
    return run


# ---- what is shown ---------------------------------------------------------------------------------------------


def test_what_is_shown_comes_from_the_run_folder(tmp_path: Path) -> None:
    run = trained(tmp_path)
    publish(run, tmp_path / "models")
    shown = read_history(run)
    assert shown.parameters["train.optimizer.name"] == "sgd" and shown.parameters["train.global_batch_size"] == "8"
    values = {(point.name, point.step): point.value for point in shown.points}
    assert values["val_accuracy", 30] == 0.95 and values["train_loss", 20] == 0.5
    assert values["samples_per_second", 10] == 40 and values["sustained_samples_per_second", 30] == 40
    assert shown.versions == (VersionPublication("digits", 1),) and shown.tags["saman.versions"] == "digits:1"
    assert {"experiment.yaml", "summary.json", "export/export.json"} <= set(shown.files)


def test_event_files_are_tensorboards(tmp_path: Path) -> None:
    run = trained(tmp_path)
    file = tensorboard.write(read_history(run), tmp_path / "boards")
    assert len(list(protobuf.read_tfrecords(file.read_bytes()))) == 2 + len(read_history(run).points)
    assert tensorboard.write(read_history(run), tmp_path / "boards") == file  # replaced, not doubled
    assert len(list(file.parent.iterdir())) == 1


@pytest.mark.tensorflow
def test_tensorflow_reads_the_event_files(tmp_path: Path) -> None:
    import tensorflow as tf

    run = trained(tmp_path)
    file = tensorboard.write(read_history(run), tmp_path / "boards")
    events = list(tf.compat.v1.train.summary_iterator(str(file)))
    assert events[0].file_version == "brain.Event:2"
    text = events[1].summary.value[0]
    assert text.metadata.plugin_data.plugin_name == "text" and b"train.seed" in text.tensor.string_val[0]
    scalars = {(value.tag, event.step): value.simple_value for event in events[2:] for value in event.summary.value}
    expected = {(point.name, point.step): point.value for point in read_history(run).points}
    assert scalars.keys() == expected.keys()
    assert all(scalars[key] == pytest.approx(value) for key, value in expected.items())
    assert events[2].wall_time == pytest.approx(read_history(run).points[0].time, abs=5)


# ---- MLflow ----------------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def start_server(foreign: Path, tmp_path: Path) -> Iterator[Any]:
    """A function that starts the server (sqlite) on a port and waits until it answers."""
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int) -> str:
        options = [
            "--backend-store-uri",
            f"sqlite:///{tmp_path}/mlflow.db",
            "--artifacts-destination",
            f"{tmp_path}/files",
        ]
        command = [
            str(foreign / "bin" / "mlflow"),
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
            *options,
        ]
        log = (tmp_path / "server.log").open("ab")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        path = f"{foreign / 'bin'}{os.pathsep}{environment['PATH']}"
        environment |= {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd=tmp_path, start_new_session=True
        )
        started.append(process)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}"
            assert process.poll() is None, (tmp_path / "server.log").read_text()[-2000:]
            time.sleep(0.3)
        pytest.fail("the server did not start")

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


@pytest.mark.slow
def test_mlflow_shows_what_the_run_folder_holds_once_and_an_absent_server_loses_nothing(
    start_server: Any, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    port = _free_port()
    uri = f"http://127.0.0.1:{port}"
    run = trained(tmp_path, mlflow=uri)
    publish(run, tmp_path / "models")
    # Nobody listens: the run is fine, and waits.
    [absent] = track_if_asked(run)
    assert absent.problem and not absent.places
    assert [waiting.id for waiting in find_waiting(tmp_path / "runs")] == [run.id]

    start_server(port)
    [delivered] = track_waiting(tmp_path / "runs")
    assert not delivered.problem and find_waiting(tmp_path / "runs") == []
    assert not track(run).problem  # again, and nothing is doubled
    client = MlflowClient(tracking_uri=uri)
    [made] = client.search_experiments(filter_string="name = 'tiny'")
    [found] = client.search_runs([made.experiment_id])
    shown = read_history(run)
    assert found.info.status == "FINISHED" and found.data.tags["saman.run"] == run.id
    assert found.data.params == dict(shown.parameters)
    for name in {point.name for point in shown.points}:
        history = [(metric.step, metric.value) for metric in client.get_metric_history(found.info.run_id, name)]
        assert sorted(history) == sorted((point.step, point.value) for point in shown.points if point.name == name)
    names = {file.path for file in client.list_artifacts(found.info.run_id)}
    assert {"experiment.yaml", "summary.json", "figures"} <= names
    [figure] = client.list_artifacts(found.info.run_id, "figures")
    assert figure.path == "figures/curves.svg" and figure.file_size > 500
    [version] = client.search_model_versions("name = 'digits'")
    assert version.tags["saman.version"] == "1" and version.run_id == found.info.run_id

    # What happens to a run later waits, too.
    run.append("published", "registry", model="digits", version=2)
    assert [waiting.id for waiting in find_waiting(tmp_path / "runs")] == [run.id]
    track_waiting(tmp_path / "runs")
    versions = client.search_model_versions("name = 'digits'")
    assert sorted(version.tags["saman.version"] for version in versions) == ["1", "2"]
    assert len(client.search_runs([made.experiment_id])) == 1


def test_a_run_that_asks_for_nothing_is_left_alone(tmp_path: Path) -> None:
    run = trained(tmp_path)
    assert track_if_asked(run) == [] and find_waiting(tmp_path / "runs") == []
    assert not (run.path / "tracking.json").exists()


def test_tensorboard_is_written_when_asked(tmp_path: Path) -> None:
    run = trained(tmp_path, tensorboard=str(tmp_path / "boards"))
    [delivery] = track_if_asked(run)
    assert not delivery.problem and Path(delivery.places[0]).is_file()
    assert find_waiting(tmp_path / "runs") == []
    assert (run.path / "figures" / "curves.svg").read_text().startswith("<svg")


def test_curves_are_drawn_with_a_panel_and_a_line_for_every_metric(tmp_path: Path) -> None:
    """With the packages that setup.cfg declares: without altair."""
    run = trained(tmp_path)
    file = draw_curves(read_history(run), run.curves)
    assert file == run.curves
    drawing = ElementTree.parse(run.curves).getroot()
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {element.text for element in drawing.iter() if element.text}
    metrics = {"val_accuracy", "train_loss", "samples_per_second"}
    assert metrics <= texts and "learning_rate" not in texts
    lines = [element for element in drawing.iter() if element.get("aria-roledescription") == "line mark"]
    assert len(lines) == len(metrics)
    assert all(line.get("d", "").count("L") == 2 for line in lines)  # three steps each


def test_a_run_without_metrics_has_no_curves(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs", experiment())
    assert draw_curves(read_history(run), run.curves) is None and not run.curves.exists()


def test_a_tracking_that_leads_nowhere_is_refused() -> None:
    from saman.configs.errors import UserError
    from saman.configs.problems import validated

    for values in ({}, {"mlflow": "localhost"}, {"mlfow": "http://x"}):
        with pytest.raises(UserError):
            validated(Tracking, values, "here")
