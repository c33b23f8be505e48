"""The schema of a policy: what a version must show before it is published or promoted, and which are kept.

``models/policy.yaml`` holds for every model; ``models/<name>/policy.yaml`` stands in its place for one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from saman.configs.names import Size
from saman.configs.problems import Strict
from saman.configs.schemas.experiment import Condition


class Compare(Strict):
    """Not worse than the version labelled ``stable`` by more than ``tolerance``.

    Both models answer the candidate's validation sample; with ``confidence`` (one-sided) the paired difference of
    their accuracies (of their mean squared errors, for a regression) is no more than ``tolerance`` to the bad.
    """

    tolerance: NonNegativeFloat = 0.01
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


class Approvals(Strict):
    """How many people must have approved a version before it becomes ``stable``, and who may."""

    at_least: PositiveInt = 1
    by: list[str] | None = None


class Keep(Strict):
    """What ``prune`` leaves besides every labelled version: the newest, and those younger than some days."""

    newest: PositiveInt = 5
    days: NonNegativeFloat = 0.0


class Policy(Strict):
    """The gates. A version passes all but approvals and signature when it is published, and all when it is promoted."""

    metrics: list[Condition] = []
    compare: Compare | None = None
    size_at_most: Size | None = None
    latency_at_most_milliseconds: PositiveFloat | None = None
    approvals: Approvals | None = None
    keep: Keep = Keep()
    signature: Literal["optional", "required"] = "optional"
    public_key: str | None = None
