"""Units of published scaling: rates stay, times and rates per device become rates, others are refused with a reason.

A law of throughput fitted to seconds learns a curve that falls, and spoils the weights of all laws.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from saman.scaling.models.laws import Scaling

_TIME = r"(?:s|sec|secs|seconds?|ms|milliseconds?|us|µs|min|mins|minutes?|h|hours?|days?)"
_FIXED_WORK = r"(?:epochs?|runs?|jobs?|training|ns|iteration of fixed work|problem)"
_STEP = r"(?:steps?|iterations?|iters?|its?|batch(?:es)?|cycles?)"
_DEVICE = r"(?:gpu|gpus|device|rank|node|accelerator|chip|core|process|gcd|tpu)s?"
_PER = r"\s*(?:/|\bper\b)\s*"


class UnitKind(str, Enum):
    """What a unit measures, and so how it becomes a rate."""

    RATE = "rate"  # samples/s: as it is
    RATE_PER_DEVICE = "rate_per_device"  # samples/s/GPU: × ranks
    TIME_OF_FIXED_WORK = "time_of_fixed_work"  # s/epoch, days/ns: 1 ÷ time, under weak scaling too
    TIME_OF_STEP = "time_of_step"  # s/step: 1 ÷ time where the global batch is fixed, else ranks ÷ time


@dataclass(frozen=True)
class UnitRefused(ValueError):  # noqa: N818  (the name says what happened)
    """A unit that cannot become a rate; ``reason`` says why."""

    unit: str
    reason: str

    def __str__(self) -> str:
        return f"unit {self.unit!r}: {self.reason}"


def unit_kind(unit: str) -> UnitKind:
    """Classify a unit.

    Raises:
        UnitRefused: The unit is neither a rate nor a time of known work.

    >>> [unit_kind(unit).value for unit in ("images/s", "tokens/s/GPU", "s/epoch", "ms per step")]
    ['rate', 'rate_per_device', 'time_of_fixed_work', 'time_of_step']
    """
    text = unit.strip().lower()
    if re.fullmatch(rf"{_TIME}{_PER}{_FIXED_WORK}", text):
        return UnitKind.TIME_OF_FIXED_WORK
    if re.fullmatch(rf"{_TIME}{_PER}{_STEP}", text):
        return UnitKind.TIME_OF_STEP
    if re.fullmatch(rf"{_TIME}", text):
        raise UnitRefused(unit, "a time without its work; write s/epoch, s/run or s/step")
    if re.fullmatch(rf".+{_PER}{_TIME}{_PER}{_DEVICE}|[kmgtp]?flops?{_PER}{_DEVICE}", text):
        return UnitKind.RATE_PER_DEVICE
    if re.fullmatch(rf".+{_PER}{_TIME}|[kmgtp]?flops|[kmg]?ips", text):
        return UnitKind.RATE
    if re.search(r"%|percent|efficiency|speed-?up|ratio", text):
        raise UnitRefused(unit, "a share, not a rate; give the rate it was computed from")
    raise UnitRefused(unit, "neither a rate (samples/s) nor a time of known work (s/epoch, s/step)")


def to_rate(unit: str, ranks: int, value: float, scaling: Scaling) -> float:
    """Convert a published value to a rate of work, up to a factor that is the same at all rank counts.

    Args:
        unit: The published unit.
        ranks: Rank count of the value.
        value: The value in that unit, positive.
        scaling: Weak or strong: a step of weak scaling does ``ranks`` times the work.

    Returns:
        Work per unit of time; larger is better.

    Raises:
        UnitRefused: The unit is no rate and no time of known work.

    >>> to_rate("s/epoch", 8, 20.0, "weak"), to_rate("ms/step", 8, 20.0, "weak"), to_rate("ms/step", 8, 20.0, "strong")
    (0.05, 0.4, 0.05)
    """
    kind = unit_kind(unit)
    if kind is UnitKind.RATE:
        return value
    if kind is UnitKind.RATE_PER_DEVICE:
        return value * ranks
    if kind is UnitKind.TIME_OF_STEP and scaling == "weak":
        return ranks / value
    return 1 / value
