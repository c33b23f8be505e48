"""Delivers runs to MLflow and TensorBoard, from a single process, after or beside the run.

The run folder is the spool: ``tracking.json`` records which state of the run was delivered. A run that an absent server
did not receive waits, and is delivered with the next tracked run or by ``saman track``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.home_folder import in_home
from saman.configs.private_values import set_aside_uri
from saman.configs.schemas.tracking import Tracking
from saman.configs.secrecy import text_without_secrets
from saman.registry.tracking import mlflow_sink, tensorboard
from saman.registry.tracking.curves import draw_curves
from saman.registry.tracking.delivery_record import DeliveryRecord, MlflowDelivery, TensorBoardDelivery
from saman.registry.tracking.run_history import RunHistory, read_history
from saman.runs import private_values
from saman.runs.find import DAMAGE, find_runs
from saman.runs.folder import RunFolder
from saman.runs.locks import LockHeldError, hold
from saman.runs.trust.run_trust import is_trusted, require_trusted

_LOCK_SECONDS = 60.0  # for another process that delivers the run, which may have been stopped
_GIVEN = "command.mlflow"  # key of what the command line gave, beside what the experiment has


@dataclass(frozen=True)
class Delivery:
    """The delivery of a run: the ``places`` that have it, and the ``problem`` for which it waits (else empty)."""

    run: RunFolder
    places: tuple[str, ...]
    problem: str = ""


def wanted_by(run: RunFolder) -> Tracking | None:
    """The ``tracking`` of the run's experiment; ``None`` for a user's own program."""
    return None if run.is_script else run.experiment().tracking


def track(run: RunFolder, wanted: Tracking | None = None) -> Delivery:
    """Deliver a run to its trackers.

    Args:
        run: The run.
        wanted: The trackers; default: ``tracking`` of the run's experiment.

    Returns:
        The delivery. A server that does not answer is its ``problem``, not an error.

    Raises:
        UserError: No tracker is named, or only another user's experiment names it.
        EnvironmentLack: MLflow's client is missing.
    """
    if wanted is None:
        require_trusted(run, "track")  # its server would receive this user's credentials
        wanted = wanted_by(run)
    if wanted is None:
        remedy = "tracking: {mlflow: URI} in the experiment, or --mlflow URI"
        raise UserError("this run has no tracker", where=str(run.path), remedy=remedy)
    # Without the lock, two processes would both find the run missing in MLflow and create it twice.
    try:
        with hold(run.tracking_lock, wait_seconds=_LOCK_SECONDS):
            with contextlib.suppress(OSError):  # a full disk
                if is_trusted(run):  # in another user's folder, links may lead anywhere
                    draw_curves(read_history(run), run.curves)
            return _deliver(run, read_history(run), wanted)
    except LockHeldError as held:
        return Delivery(run, (), f"{held.holder} delivers it, or was stopped while it did")


def _deliver(run: RunFolder, history: RunHistory, wanted: Tracking) -> Delivery:
    record = DeliveryRecord.read(run.tracking_file) or DeliveryRecord()
    content = _digest(history)
    places, problem = [], ""
    if wanted.tensorboard is not None:
        places.append(str(tensorboard.write(history, in_home(wanted.tensorboard))))
        record = replace(record, tensorboard=TensorBoardDelivery(wanted.tensorboard, content, delivered=True))
    if wanted.mlflow is not None:
        delivery = MlflowDelivery(_keep_apart(run, wanted.mlflow), wanted.experiment, content)
        _write(run, replace(record, mlflow=delivery))  # first: a process killed from here on leaves the run waiting
        delivery = _deliver_to_mlflow(run, history, delivery)
        record, problem = replace(record, mlflow=delivery), delivery.problem or ""
        places += [f"{delivery.uri} as {delivery.run_id}"] if delivery.delivered else []
    _write(run, record)
    return Delivery(run, tuple(places), problem)


def _keep_apart(run: RunFolder, uri: str) -> str:
    """The URI without user and password, which are kept with the run as its experiment's are."""
    public, private = set_aside_uri(uri, _GIVEN)
    with contextlib.suppress(OSError):  # another user's run
        private_values.keep(run, private)
    return public


def _deliver_to_mlflow(run: RunFolder, history: RunHistory, delivery: MlflowDelivery) -> MlflowDelivery:
    try:
        uri = private_values.reveal_uri(run, str(delivery.uri))
        run_id = mlflow_sink.deliver(history, uri, delivery.experiment)
    except EnvironmentLack:
        raise
    except Exception as error:  # requests, MLflow and databases raise errors of their own; the run waits after each
        lines = str(error).strip().splitlines() or [type(error).__name__]
        problem = text_without_secrets(lines[0])[:300]
        return replace(delivery, problem=problem, time=round(time.time(), 3))
    return replace(delivery, delivered=True, run_id=run_id, time=round(time.time(), 3))


def _write(run: RunFolder, record: DeliveryRecord) -> None:
    with contextlib.suppress(OSError):  # another user's run: the next delivery finds it in MLflow
        record.write(run.tracking_file)


def _digest(history: RunHistory) -> str:
    points = [vars(point) for point in history.points]
    versions = [[version.model, version.version] for version in history.versions]
    plain = [history.state.value, sorted(history.tags.items()), points, versions]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def find_waiting(runs_dir: Path) -> list[RunFolder]:
    """Find the user's runs with a present state that their trackers do not have."""
    found = []
    for run in find_runs(runs_dir):
        with contextlib.suppress(*DAMAGE):  # a damaged run folder is reported by other commands
            if is_trusted(run) and _waits(run):
                found.append(run)
    return found


def _waits(run: RunFolder) -> bool:
    record = DeliveryRecord.read(run.tracking_file)
    if run.is_script or (wanted_by(run) is None and record is None):
        return False
    return record is None or not record.holds(_digest(read_history(run)))


def track_waiting(runs_dir: Path) -> list[Delivery]:
    """Deliver every waiting run; a server that does not answer is asked only once."""
    deliveries: list[Delivery] = []
    silent: set[str] = set()
    for run in find_waiting(runs_dir):
        try:
            wanted = wanted_by(run) or _recorded(run)
            if wanted.mlflow in silent:
                continue
            deliveries.append(track(run, wanted))
        except DAMAGE as error:  # the other runs do not wait for its repair
            deliveries.append(Delivery(run, (), str(error)))
            continue
        if deliveries[-1].problem and wanted.mlflow:
            silent.add(wanted.mlflow)
    return deliveries


def _recorded(run: RunFolder) -> Tracking:
    """The trackers of the run's last delivery; raises ``ValueError`` where there was none."""
    record = DeliveryRecord.read(run.tracking_file) or DeliveryRecord()
    mlflow, boards = record.mlflow or MlflowDelivery(None), record.tensorboard
    return Tracking(mlflow=mlflow.uri, experiment=mlflow.experiment, tensorboard=boards.folder if boards else None)


def track_if_asked(run: RunFolder) -> list[Delivery]:
    """Deliver an ended run if its experiment names a tracker, then all waiting runs; an error becomes a ``problem``."""
    try:
        if wanted_by(run) is None:
            return []
        first = track(run)
        if first.problem:
            return [first]
        return [first, *track_waiting(run.runs_dir)]
    except (UserError, OSError) as error:
        return [Delivery(run, (), str(error))]


def follow(run: RunFolder, wanted: Tracking | None = None, every_seconds: float = 10.0) -> Delivery:
    """Deliver a run repeatedly while it runs, and once after its end.

    Args:
        run: The run.
        wanted: The trackers; ``None`` for those that the experiment names.
        every_seconds: The pause between two deliveries.

    Returns:
        The last delivery.
    """
    while True:
        ended = run.state.ended
        delivery = track(run, wanted)
        if ended:
            return delivery
        time.sleep(every_seconds)
