"""Copies a run into MLflow through its client. A repeated copy adds only what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from saman.configs.errors import EnvironmentLack
from saman.registry.tracking.run_history import MetricPoint, RunHistory
from saman.runs.events import State

_PARAMETERS_AT_ONCE, _METRICS_AT_ONCE, _LONGEST_PARAMETER = 100, 1000, 6000
_STATUS = {State.COMPLETED: "FINISHED", State.FAILED: "FAILED", State.CANCELLED: "KILLED", State.PREEMPTED: "KILLED"}
T = TypeVar("T")


def _client(uri: str) -> Any:
    # By default the client waits for minutes; a run that is not delivered is tried again later.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        remedy = "pip install 'saman[tracking]'"
        raise EnvironmentLack("tracking with MLflow needs its client, which is not installed", remedy=remedy) from error
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def deliver(history: RunHistory, uri: str, experiment: str | None = None) -> str:
    """Copy everything of the run into MLflow.

    Args:
        history: The run.
        uri: The tracking server.
        experiment: MLflow's experiment; default: the run's.

    Returns:
        MLflow's run id.

    Raises:
        EnvironmentLack: The client is missing. All errors of the client pass through.
    """
    client = _client(uri)
    run_id = _run(client, history, experiment or history.experiment)
    there = client.get_run(run_id)
    _parameters(client, run_id, history, there.data.params)
    _metrics(client, run_id, history)
    for name, value in history.tags.items():
        if there.data.tags.get(name) != value:
            client.set_tag(run_id, name, value)
    _files(client, run_id, history)
    _versions(client, run_id, history)
    status = _STATUS.get(history.state, "RUNNING")
    if there.info.status != status or history.ended:
        client.update_run(run_id, status=status)
        if history.ended:
            client.set_terminated(run_id, status, int(history.ended * 1000))
    return run_id


def _run(client: Any, history: RunHistory, name: str) -> str:
    """Find the MLflow run by its tag, or create it."""
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else _create_experiment(client, name)
    found = client.search_runs([experiment_id], f"tags.`saman.run` = '{history.run_id}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    started = int(history.started * 1000)
    tags = {"saman.run": history.run_id}
    return str(client.create_run(experiment_id, start_time=started, tags=tags, run_name=history.run_id).info.run_id)


def _create_experiment(client: Any, name: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.create_experiment(name))
    except MlflowException:  # another process created it meanwhile
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return str(experiment.experiment_id)


def _parameters(client: Any, run_id: str, history: RunHistory, there: dict[str, str]) -> None:
    from mlflow.entities import Param

    new = [Param(key, value[:_LONGEST_PARAMETER]) for key, value in history.parameters.items() if key not in there]
    for batch in _batches(new, _PARAMETERS_AT_ONCE):
        client.log_batch(run_id, params=batch)


def _metrics(client: Any, run_id: str, history: RunHistory) -> None:
    from mlflow.entities import Metric

    by_name: dict[str, list[MetricPoint]] = {}
    for point in history.points:
        by_name.setdefault(point.name, []).append(point)
    new = []
    for name, points in by_name.items():
        # Some stores keep duplicates.
        known = {(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)}
        new += [
            Metric(name, point.value, int(point.time * 1000), point.step)
            for point in points
            if (point.step, point.value) not in known
        ]
    for batch in _batches(new, _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=batch)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _files(client: Any, run_id: str, history: RunHistory) -> None:
    there: dict[str, dict[str, int]] = {}
    for name, path in history.files.items():
        folder = name.rpartition("/")[0]
        if folder not in there:
            there[folder] = {file.path: file.file_size for file in client.list_artifacts(run_id, folder or None)}
        if there[folder].get(name) != path.stat().st_size:
            client.log_artifact(run_id, str(path), folder or None)


def _versions(client: Any, run_id: str, history: RunHistory) -> None:
    """Register published versions in MLflow's registry, tagged with their numbers."""
    from mlflow.exceptions import MlflowException

    for name, number in ((version.model, version.version) for version in history.versions):
        try:
            client.create_registered_model(name)
        except MlflowException:
            client.get_registered_model(name)  # it exists, or this raises the real error
        known = client.search_model_versions(f"name = '{name}'")
        if any(version.tags.get("saman.version") == str(number) for version in known):
            continue
        source = client.get_run(run_id).info.artifact_uri
        tags = {"saman.version": str(number), "saman.run": history.run_id}
        client.create_model_version(name, source, run_id, tags=tags, description=f"saman: {name} version {number}")
