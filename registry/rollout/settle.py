"""Judges the active rollout of a model from what its servers have counted, and ends it when the evidence suffices."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from saman.configs.errors import UserError
from saman.registry.rollout.control import finish
from saman.registry.rollout.judge import Judgement, RolloutVerdict, judge
from saman.registry.rollout.records import MOST_HISTORY, RolloutFiles
from saman.registry.store.layout import ModelFolder
from saman.registry.store.model_state import read_model
from saman.registry.store.policies import read_policy
from saman.registry.store.rollouts import RolloutOutcome, RolloutState
from saman.runs.locks import LockHeldError, hold

JUDGE = "saman rollout"  # the author of decisions that nobody typed
_NEWS = 1.01  # growth of the requests between 2 judgements of the history


@dataclass(frozen=True)
class RolloutStatus:
    """A rollout, its judgement now, and the parts of its budget that are spent."""

    rollout: RolloutState
    judgement: Judgement
    spent_requests: float
    spent_time: float


def look(folder: ModelFolder, *, intervals: bool = True) -> RolloutStatus | None:
    """Judge the newest rollout of a model, active or not; ``None`` where there was none. Writes nothing.

    Raises:
        UserError: The audit log or the policy is damaged.
    """
    rollout = read_model(folder).rollout
    if rollout is None:
        return None
    policy = read_policy(folder).rollout
    evidence = RolloutFiles.of(folder, rollout).read_evidence(rollout.start.per_block)
    found = judge(evidence, policy, intervals=intervals)
    hours = ((rollout.ended_at or time.time()) - rollout.started_at) / 3600
    return RolloutStatus(rollout, found, sum(found.requests) / policy.budget.requests, hours / policy.budget.hours)


def settle(folder: ModelFolder) -> RolloutState | None:
    """Judge the active rollout, keep the judgement, and end the rollout where it is decided or its budget is spent.

    Any number of servers may call this; a lock lets 1 of them judge at a time.

    Returns:
        The rollout after that; ``None`` where none was active, or another server judges.

    Raises:
        UserError: The audit log or the policy is damaged, or a gate refuses the promotion.
    """
    active = read_model(folder).active_rollout
    if active is None:
        return None
    files = RolloutFiles.of(folder, active)
    files.path.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(LockHeldError), hold(files.lock):
        return _settle(folder, files)
    return None


def _settle(folder: ModelFolder, files: RolloutFiles) -> RolloutState | None:
    status = look(folder)
    if status is None or not status.rollout.is_active:
        return None
    outcome, why = _outcome(status)
    _remember(files, status.judgement, ended=outcome is not None)
    if outcome is None or status.rollout.is_paused:
        return status.rollout
    name, judgement, rollout = folder.name, status.judgement, status.rollout.id
    change = finish(folder.models_dir, name, outcome, judgement=judgement, rollout=rollout, why=why, who=JUDGE)
    return change.state.rollout


def _outcome(status: RolloutStatus) -> tuple[RolloutOutcome | None, str]:
    found = status.judgement
    if found.verdict is RolloutVerdict.ROLL_BACK:
        return RolloutOutcome.ROLLED_BACK, f"harm is shown: {found.reason}"
    if found.verdict is RolloutVerdict.PROMOTE:
        return RolloutOutcome.PROMOTED, found.reason
    if status.spent_requests >= 1 or status.spent_time >= 1:
        budget = "requests" if status.spent_requests >= 1 else "time"
        return RolloutOutcome.EXPIRED, f"the budget of {budget} is spent; {found.reason}"
    return None, ""


def _remember(files: RolloutFiles, found: Judgement, *, ended: bool) -> None:
    """Add to the history what differs from its last line by at least 1 % more requests."""
    history = files.read_history()
    last = sum(history[-1].get("requests", [0])) if history else 0
    total = sum(found.requests)
    if ended or (total > last * _NEWS and total > 0 and len(history) < MOST_HISTORY):
        files.append_history({"time": round(time.time(), 3), **found.to_json()})


def settle_quietly(folder: ModelFolder) -> str:
    """Like ``settle``, for servers: returns what went wrong instead of raising it."""
    try:
        settle(folder)
    except (UserError, OSError) as error:
        return str(error)
    return ""
