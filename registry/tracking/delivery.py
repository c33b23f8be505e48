"""Shows runs in MLflow and TensorBoard: by one process, after or beside the run, as often as it takes.

The run folder is the spool: ``tracking.json`` in it says what has been delivered of which state of the folder. What an
absent server did not take stays marked as waiting and is delivered with the next run, or by ``saman track``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.files import read_json, write_json
from saman.configs.schemas.tracking import Tracking
from saman.registry.tracking.curves import draw_curves
from saman.registry.tracking.run_history import RunHistory, read_history
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.runs.locks import hold


@dataclass(frozen=True)
class Delivery:
    """What became of one run: delivered to ``places``, or waiting for ``problem``."""

    run: RunFolder
    places: tuple[str, ...]
    problem: str = ""


def asked_by(run: RunFolder) -> Tracking | None:
    """What the run's experiment asks for; a run of somebody's own program asks for nothing."""
    return None if run.is_script else run.experiment().tracking


def track(run: RunFolder, wanted: Tracking | None = None) -> Delivery:
    """Deliver one run to where ``wanted``, else its experiment, asks for.

    A server that does not answer is a problem of the delivery, not an error. Raises ``UserError`` where nothing was
    asked for, ``EnvironmentLack`` where MLflow's client is missing.
    """
    wanted = wanted or asked_by(run)
    if wanted is None:
        remedy = "tracking: {mlflow: URI} in the experiment, or --mlflow URI"
        raise UserError("nothing says where to show this run", where=str(run.path), remedy=remedy)
    # Two processes would both find the run missing there, and make it twice.
    with hold(run.tracking_lock, wait_seconds=None):
        with contextlib.suppress(OSError):  # another user's run folder is not writable
            draw_curves(read_history(run), run.curves)
        shown = read_history(run)
        return _delivered(run, shown, wanted)


def _delivered(run: RunFolder, shown: RunHistory, wanted: Tracking) -> Delivery:
    known = read_json(run.tracking_file)
    state: dict[str, Any] = known if isinstance(known, dict) else {"schema": 1}
    content = _content(shown)
    places, problem = [], ""
    if wanted.tensorboard is not None:
        from saman.registry.tracking import tensorboard

        places.append(str(tensorboard.write(shown, Path(wanted.tensorboard).expanduser())))
        state["tensorboard"] = {"folder": wanted.tensorboard, "content": content, "delivered": True}
    if wanted.mlflow is not None:
        entry = {"uri": wanted.mlflow, "experiment": wanted.experiment, "content": content, "delivered": False}
        _note(run, {**state, "mlflow": entry})  # first, so that a process killed here has lost nothing
        from saman.configs.errors import EnvironmentLack
        from saman.registry.tracking import mlflow_sink

        try:
            entry["run_id"] = mlflow_sink.deliver(shown, wanted.mlflow, wanted.experiment)
            entry["delivered"] = True
            places.append(f"{wanted.mlflow} as {entry['run_id']}")
        except EnvironmentLack:
            raise
        except Exception as error:  # requests, MLflow and databases raise their own; each means: not now
            problem = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
            entry["problem"] = problem
        state["mlflow"] = {**entry, "time": round(time.time(), 3)}
    _note(run, state)
    return Delivery(run, tuple(places), problem)


def _note(run: RunFolder, state: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # somebody else's run: it will be delivered again, and found there
        write_json(run.tracking_file, state)


def _content(shown: RunHistory) -> str:
    plain = [shown.state.value, sorted(shown.tags.items()), [vars(point) for point in shown.points], shown.versions]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def waiting(runs_dir: Path) -> list[RunFolder]:
    """Runs that were to be shown somewhere and are not there yet, or have changed since."""
    found = []
    for run in find_runs(runs_dir):
        try:
            if run.is_script or asked_by(run) is None and read_json(run.tracking_file) is None:
                continue
            if not _is_delivered(run):
                found.append(run)
        except UserError:
            continue  # a damaged run folder is not this command's to report
    return found


def _is_delivered(run: RunFolder) -> bool:
    state = read_json(run.tracking_file)
    if not isinstance(state, dict):
        return False
    content = _content(read_history(run))
    entries = [state[place] for place in ("mlflow", "tensorboard") if place in state]
    return bool(entries) and all(one.get("delivered") and one.get("content") == content for one in entries)


def track_waiting(runs_dir: Path) -> list[Delivery]:
    """Deliver every run that waits; stops asking a server that did not answer."""
    deliveries: list[Delivery] = []
    silent: set[str] = set()
    for run in waiting(runs_dir):
        state = read_json(run.tracking_file) or {}
        recorded = state.get("mlflow") or {}
        wanted = asked_by(run) or Tracking(mlflow=recorded.get("uri"), experiment=recorded.get("experiment"))
        if wanted.mlflow in silent:
            continue
        deliveries.append(track(run, wanted))
        if deliveries[-1].problem and wanted.mlflow:
            silent.add(wanted.mlflow)
    return deliveries


def track_if_asked(run: RunFolder) -> list[Delivery]:
    """After a run: deliver it where its experiment asks, and with it what waited. Nothing is raised: it can wait."""
    try:
        if asked_by(run) is None:
            return []
        first = track(run)
        if first.problem:
            return [first]
        return [first, *track_waiting(run.runs_dir)]
    except (UserError, OSError) as error:
        return [Delivery(run, (), str(error))]


def follow(run: RunFolder, wanted: Tracking | None = None, every_seconds: float = 10.0) -> Delivery:
    """Deliver again and again while the run goes on, and once after its end."""
    while True:
        ended = run.state.ended
        delivery = track(run, wanted)
        if ended:
            return delivery
        time.sleep(every_seconds)
