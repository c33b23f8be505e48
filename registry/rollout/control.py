"""Starts, pauses and ends rollouts; each step is an entry of the audit log."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from pathlib import Path

from saman.configs.errors import UserError
from saman.registry.lifecycle.changes import Change, apply_change, require_offered
from saman.registry.lifecycle.promotion import promote, unlabel
from saman.registry.lifecycle.verify import require_sound
from saman.registry.rollout.judge import Judgement
from saman.registry.store.audit_decisions import AuditDecision, RolloutDecision
from saman.registry.store.layout import ModelFolder, find_model, parse_spec
from saman.registry.store.model_state import CANARY, STABLE, ModelState, read_model
from saman.registry.store.rollouts import RolloutEvent, RolloutOutcome, RolloutStart, RolloutState, RolloutStrategy

_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
DEFAULT_TRAFFIC = {
    RolloutStrategy.CANARY: 0.1,
    RolloutStrategy.AB: 0.5,
    RolloutStrategy.SHADOW: 1.0,
    RolloutStrategy.BLUE_GREEN: 1.0,
}


def start(
    models_dir: Path,
    spec: str,
    strategy: RolloutStrategy,
    *,
    traffic: float | None = None,
    key: str = "",
    why: str = "",
    who: str | None = None,
) -> RolloutState:
    """Start a rollout of a version against the version labelled ``stable``; the candidate gets the label ``canary``.

    Args:
        models_dir: The models folder.
        spec: ``NAME:VERSION`` or ``NAME:LABEL``; a name alone means the newest version.
        strategy: How requests are distributed.
        traffic: The part of the requests, in (0, 1]; default: the strategy's.
        key: The header or input that names a user; a user keeps the same version.
        why: The reason, for the log.
        who: The author, for the log; default: the user of this process.

    Raises:
        UserError: There is no such version, no stable version, or another rollout is active.
    """
    folder = find_model(models_dir, parse_spec(spec).name)
    share = _check_traffic(strategy, DEFAULT_TRAFFIC[strategy] if traffic is None else traffic)
    _check_key(key)
    number = _candidate(read_model(folder), spec)
    require_sound(folder, number)
    name = f"{number}-{secrets.token_hex(4)}"
    promote(models_dir, f"{folder.name}:{number}", CANARY, why=why or f"rollout {name}", who=who)
    try:
        change = apply_change(folder, _starting(name, number, strategy, share, key), why, who)
    except UserError:
        _take_label(folder, number, "the rollout did not start", who)
        raise
    assert change.state.rollout is not None
    return change.state.rollout


def _starting(
    name: str, number: int, strategy: RolloutStrategy, share: float, key: str
) -> Callable[[ModelState], AuditDecision]:
    salt = secrets.token_hex(16)

    def decide(state: ModelState) -> AuditDecision:
        _require_startable(state, number)
        begin = RolloutStart(strategy, state.assigned[STABLE], share, key, salt)
        return RolloutDecision(number, name, RolloutEvent.START, begin)

    return decide


def _candidate(state: ModelState, spec: str) -> int:
    parsed = parse_spec(spec)
    found = state.newest() if parsed.number is None and parsed.label is None else state.find(parsed)
    _require_startable(state, found.number)
    held = state.assigned.get(CANARY)
    if held not in (None, found.number):
        remedy = f"saman models unlabel {state.name} {CANARY}"
        raise UserError(f"version {held} of {state.name} is {CANARY}", remedy=remedy)
    return found.number


def _require_startable(state: ModelState, number: int) -> None:
    require_offered(state, number)
    if (active := state.active_rollout) is not None:
        problem = f"a rollout of {state.name} version {active.version} is active"
        raise UserError(problem, remedy=f"saman rollout promote {state.name}, or saman rollout abort {state.name}")
    if STABLE not in state.assigned:
        problem = f"no version of {state.name} is {STABLE}, so there is nothing to compare with"
        raise UserError(problem, remedy=f"saman models promote {state.name}:VERSION")
    if state.assigned[STABLE] == number:
        raise UserError(f"version {number} of {state.name} is {STABLE} already", remedy="name another version")


def _check_traffic(strategy: RolloutStrategy, traffic: float) -> float:
    most = 0.95 if strategy in (RolloutStrategy.CANARY, RolloutStrategy.AB) else 1.0
    if not 0.001 <= traffic <= most:
        remedy = f"0.1% to {most:.0%} for {strategy.value}"
        raise UserError(f"{traffic:.4%} of the traffic cannot be judged", where="--traffic", remedy=remedy)
    return traffic


def _check_key(key: str) -> None:
    if key and not _KEY.fullmatch(key):
        problem = f"{key[:64]!r} is no name of a header or an input"
        raise UserError(problem, where="--key", remedy="letters, digits, '_' and '-', such as user_id")


def require_active(state: ModelState) -> RolloutState:
    """The active rollout of a model; raises ``UserError`` where there is none."""
    if (active := state.active_rollout) is None:
        raise UserError(f"{state.name} has no active rollout", remedy=f"saman rollout start {state.name}:VERSION")
    return active


def pause(models_dir: Path, name: str, *, resume: bool = False, why: str = "", who: str | None = None) -> Change:
    """Let stable answer everything until the rollout is resumed, or resume it.

    Args:
        models_dir: The models folder.
        name: The model's name.
        resume: Resume the rollout.
        why: The reason, for the log.
        who: The author, for the log; default: the user of this process.

    Raises:
        UserError: No rollout is active.
    """

    def decide(state: ModelState) -> AuditDecision | None:
        active = require_active(state)
        if active.is_paused == (not resume):
            return None
        event = RolloutEvent.RESUME if resume else RolloutEvent.PAUSE
        return RolloutDecision(active.version, active.id, event)

    return apply_change(find_model(models_dir, name), decide, why, who)


def finish(
    models_dir: Path,
    name: str,
    outcome: RolloutOutcome,
    *,
    judgement: Judgement | None = None,
    rollout: str = "",
    why: str = "",
    who: str | None = None,
) -> Change:
    """End the active rollout; a promoted candidate becomes stable first, if its gates allow it.

    Args:
        models_dir: The models folder.
        name: The model's name.
        outcome: How it ends.
        judgement: The evidence, for the log.
        rollout: End only this rollout; empty: whichever is active.
        why: The reason, for the log.
        who: The author, for the log; default: the user of this process.

    Raises:
        UserError: No rollout, or another rollout, is active.
        PublishRefusal: A gate refuses to make the candidate stable; the rollout goes on.
    """
    folder = find_model(models_dir, name)
    active = require_active(read_model(folder))
    if outcome is RolloutOutcome.PROMOTED and rollout in ("", active.id):
        promote(models_dir, f"{name}:{active.version}", STABLE, why=why or f"rollout {active.id}", who=who)

    def decide(state: ModelState) -> AuditDecision:
        now = require_active(state)
        if rollout not in ("", now.id) or now.id != active.id:
            raise UserError(f"rollout {rollout or active.id} of {name} has ended")
        facts = judgement.to_json() if judgement else None
        return RolloutDecision(now.version, now.id, RolloutEvent.END, outcome=outcome, evidence=facts)

    return apply_change(folder, decide, why, who)


def _take_label(folder: ModelFolder, number: int, why: str, who: str | None) -> None:
    if read_model(folder).assigned.get(CANARY) == number:
        unlabel(folder.models_dir, folder.name, CANARY, why=why, who=who)
