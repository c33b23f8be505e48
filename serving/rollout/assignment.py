"""Assigns a request to a side of a rollout. Pure."""

from __future__ import annotations

import hashlib

from saman.registry.store.rollouts import RolloutStart, RolloutStrategy
from saman.serving.routing import RequestFacts, Route


def user_of(start: RolloutStart, facts: RequestFacts) -> str:
    """The user of a request: the header or the input that the rollout's key names; empty where neither is there."""
    if not start.key:
        return ""
    name = start.key.lower()
    for header in (name, name.replace("_", "-"), f"x-{name}".replace("_", "-")):
        if value := facts.metadata.get(header):
            return value
    given = facts.inputs.get(start.key)
    return "" if given is None or given.size != 1 else str(given.reshape(-1)[0])


def is_chosen(start: RolloutStart, facts: RequestFacts) -> bool:
    """Whether a request belongs to the part that ``--traffic`` names.

    The keyed BLAKE2b hash of the user, else of the request, decides: a user keeps the side for the whole rollout, on
    every server, and nobody without the key of the rollout can tell or choose the side.
    """
    unit = user_of(start, facts) or f"request {facts.request_id}"
    digest = hashlib.blake2b(unit.encode("utf-8", "replace"), key=start.salt.encode()[:64], digest_size=8).digest()
    return int.from_bytes(digest, "big") < start.traffic * 2.0**64


def route_of(start: RolloutStart, candidate: int, facts: RequestFacts) -> Route:
    """Assign a request of an active rollout to the versions that compute it."""
    chosen = is_chosen(start, facts)
    if start.strategy is RolloutStrategy.SHADOW:
        return Route(start.stable, (candidate,) if chosen else ())
    if start.strategy is RolloutStrategy.BLUE_GREEN:
        return Route(candidate, (start.stable,) if chosen else ())
    return Route(candidate if chosen else start.stable)
