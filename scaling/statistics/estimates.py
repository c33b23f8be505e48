"""How a value with its interval becomes columns of a row."""

from __future__ import annotations

from typing import Any

from saman.scaling.statistics.intervals import Estimate

Rows = list[dict[str, Any]]


def estimate_columns(name: str, estimate: Estimate | None) -> dict[str, Any]:
    """A value with its interval, the coverage it attains, and why it has none."""
    if estimate is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None, f"{name}_coverage": None, f"{name}_note": None}
    interval = estimate.interval
    return {
        name: estimate.value,
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
        f"{name}_coverage": interval.attained if interval else None,
        f"{name}_note": interval.method if interval else estimate.withheld,
    }
