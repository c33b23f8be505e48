"""The traffic of a front or a supervisor, and the types of its interface (serving/routing.py)."""

from __future__ import annotations

from pathlib import Path

from saman.serving.rollout.rollout_traffic import RolloutTraffic
from saman.serving.routing import (
    AnsweredRequest,
    Arrays,
    DefaultTraffic,
    PlainAnswer,
    RequestFacts,
    Route,
    Traffic,
)

__all__ = [
    "AnsweredRequest",
    "Arrays",
    "DefaultTraffic",
    "PlainAnswer",
    "RequestFacts",
    "Route",
    "Traffic",
    "open_traffic",
]


def open_traffic(models_dir: Path) -> Traffic:
    """The traffic of a front or a supervisor, with the rollouts that the registry records."""
    return RolloutTraffic(models_dir)
