"""A finding: a defect or limit of runs and curves that a reader of a report must know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FindingKind(str, Enum):
    """The subject of a finding. The values are stable: they are printed by ``--json`` and written to tables."""

    NO_RUNS = "no_runs"
    MISSING_RUNS = "missing_runs"
    OTHER_RUNS = "other_runs"
    EXCLUDED_RUN = "run_left_out"
    INVALID_THROUGHPUT = "bad_throughput"
    OTHER_SCHEMA = "other_schema"
    TORN_RECORDS = "torn_records"
    NOT_FINITE = "not_finite"
    INCOMPLETE_WINDOWS = "incomplete_windows"
    NOT_STEADY = "never_settled"
    UNEVEN_WINDOWS = "uneven_windows"
    IMPOSSIBLE_EXCHANGE = "impossible_exchange"
    STRAGGLER = "straggler"
    DATA = "data"
    OTHER_STEPS = "other_steps"
    DRIFT = "drift"
    SHARED_CORES = "shared_cores"
    SHARED_NODES = "shared_nodes"
    FORECAST_REFUSED = "forecast_refused"
    CONTENTION = "contention"
    OUTLIERS = "outliers"
    MIXED_HARDWARE = "mixed_hardware"
    UNEQUAL_CORES = "unequal_cores"
    UNEQUAL_BATCH = "unequal_batch"
    MISSING_BASELINE = "missing_base"
    SINGLE_REPEAT = "single_repeat"
    STAGES_UNKNOWN = "stages_not_told"
    NOT_SHARED = "not_shared"
    NOTHING_SHARED = "nothing_shared"

    @property
    def words(self) -> str:
        """The kind in words."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Finding:
    """A finding in words.

    Attributes:
        hides: Whether the curve is not drawn because of it.
        note: Whether it is harmless; notes leave the exit status alone.
    """

    kind: FindingKind
    text: str
    hides: bool = False
    note: bool = False
