"""The schema of a policy: the conditions for publishing and promoting a version, and the versions to keep.

``models/policy.yaml`` applies to every model; ``models/<name>/policy.yaml`` replaces it for one model.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from saman.configs.problems import Strict
from saman.configs.schemas.experiment import Condition
from saman.configs.units import Size, parse_size


class Compare(Strict):
    """A version may be worse than the version labelled ``stable`` by at most ``tolerance``.

    Both models predict the candidate's validation sample. The paired difference of their accuracies (for a regression:
    of their mean squared errors) must stay within ``tolerance`` with ``confidence`` (one-sided).
    """

    tolerance: NonNegativeFloat = 0.01
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


class Approvals(Strict):
    """The number of approvals that a version needs to become ``stable``, and the allow-list of approvers."""

    at_least: PositiveInt = 1
    by: list[str] | None = None


class Keep(Strict):
    """The versions that ``prune`` keeps besides labelled versions: the newest, and all younger than some days."""

    newest: PositiveInt = 5
    days: NonNegativeFloat = 0.0


class Loading(Strict):
    """The limits of the process that loads a candidate for a gate or a conversion, which has no network either."""

    memory: Size = "16G"
    seconds: PositiveFloat = 1800.0

    @property
    def memory_bytes(self) -> int:
        """Memory of each serving process by the policy, in bytes."""
        return parse_size(self.memory)


class TensorFlowServing(Strict):
    """How long ``models.config`` lists a version before a label in use moves to it.

    TensorFlow Serving refuses a file that moves such a label to a version that it has not loaded. The time must cover
    ``--model_config_file_poll_wait_seconds`` and the loading of a version.
    """

    load_seconds: NonNegativeFloat = 120.0


class RolloutBudget(Strict):
    """A rollout without a decision ends when one of these is spent; the candidate is then not promoted."""

    requests: PositiveInt = 100_000
    hours: PositiveFloat = 24.0


class RolloutPolicy(Strict):
    """The margins of a rollout: how much worse than stable a candidate may be and still be promoted.

    Harm is any shown loss of accuracy or excess of errors; for latency, disagreement and the distribution of
    predictions, it is a shown breach of the margin. ``confidence`` holds for all tests together, at all times.
    """

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    errors_tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.02
    accuracy_tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.02
    accuracy_required: bool = False
    disagreement_at_most: Annotated[float, Field(gt=0, lt=1)] | None = None
    shift_at_most: Annotated[float, Field(gt=0, lt=1)] = 0.1
    latency_quantiles: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1, max_length=5)] = [
        0.5,
        0.95,
    ]
    latency_at_most_times: Annotated[float, Field(ge=1)] = 1.5
    budget: RolloutBudget = RolloutBudget()


class RecordingPolicy(Strict):
    """Requests that servers record as Parquet; none by default.

    ``drop`` and ``hash`` name columns: ``request_id``, ``inputs``, ``outputs``, or a header, an input or an output
    by its own name. Headers are recorded only where ``headers`` names them.
    """

    fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    most_bytes: Size = "1G"
    headers: list[str] = []
    drop: list[str] = []
    hash: list[str] = []

    @property
    def most_bytes_number(self) -> int:
        """The largest size of a model's recorded requests, in bytes; the oldest go."""
        return parse_size(self.most_bytes)


class Policy(Strict):
    """The conditions. All but approvals and signature apply when a version is published, all when it is promoted."""

    metrics: list[Condition] = []
    compare: Compare | None = None
    size_at_most: Size | None = None
    latency_at_most_milliseconds: PositiveFloat | None = None
    approvals: Approvals | None = None
    keep: Keep = Keep()
    loading: Loading = Loading()
    tensorflow_serving: TensorFlowServing = TensorFlowServing()
    rollout: RolloutPolicy = RolloutPolicy()
    recording: RecordingPolicy = RecordingPolicy()
    signature: Literal["optional", "required"] = "optional"
    public_key: str | None = None
