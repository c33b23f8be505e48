"""Checks predictions of pipelines on published speed-ups, and calibrates intervals with their errors.

A prediction uses the bubble bound, the cost of recomputation, and a single published row of the same stages: its
efficiency (speed-up ÷ that of even stages with free transfers) is carried over to other micro-batches. With a single
micro-batch the stages run in turn; such a row is predicted without any other row and not used for other rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.pipeline.cost import recomputation
from saman.pipeline.schedule import bubble_bound
from saman.scaling.models.published import SHIPPED
from saman.scaling.models.series import NOMINAL
from saman.scaling.statistics.intervals import weighted_quantiles

# The columns of the table: figures of torchgpipe, and of GPipe (Huang et al. 2019, table 2).
_COLUMNS = {"torchgpipe": "speedup", "GPipe": "huang"}


@dataclass(frozen=True)
class PublishedSpeedup:
    """A published speed-up over two stages with a single micro-batch, which run in turn."""

    source: str
    stages: int
    micro_batches: int
    speedup: float


@dataclass(frozen=True)
class PipelineCheck:
    """A published speed-up and its prediction; ``error`` is predicted ÷ published − 1.

    ``learned_from`` has the stages and micro-batches of the row used; None for a single micro-batch.
    """

    source: str
    stages: int
    micro_batches: int
    learned_from: tuple[int, int] | None
    predicted: float
    published: float
    error: float

    @property
    def doublings(self) -> float:
        """The distance from the row used, in doublings of micro-batches and of stages."""
        if self.learned_from is None:
            return 0.0
        stages, micro_batches = self.learned_from
        return abs(float(np.log2(self.micro_batches / micro_batches))) + abs(float(np.log2(self.stages / stages)))


@dataclass(frozen=True)
class PipelineCalibration:
    """The 90 % quantiles of |ln(published ÷ predicted)| ÷ √doublings, of micro-batches and of stages."""

    micro_batches: float
    stages: float
    errors: int
    sources: int
    nominal: float = NOMINAL


def read_pipelines(path: Path = SHIPPED) -> list[PublishedSpeedup]:
    """Read the published pipelines of a table.

    Returns:
        The rows; empty where the table has no pipelines.

    Raises:
        UserError: The file cannot be read, or a row is not a speed-up.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot be read: {error}", where=str(path), remedy="the path of a JSON table") from None
    entry = table.get("pipeline_amoebanet") if isinstance(table, dict) else None
    return [] if entry is None else _rows(entry, f"{path}: pipeline_amoebanet")


def _rows(entry: Any, where: str) -> list[PublishedSpeedup]:
    try:
        found = [
            PublishedSpeedup(source, int(row["n"]), int(row["m"]), float(row[column]))
            for source, column in _COLUMNS.items()
            for row in entry["rows"]
            if row.get(column) is not None
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"rows need n, m and speedup: {error!r}", where=where) from None
    for row in found:
        if row.stages < 1 or row.micro_batches < 1 or not 0 < row.speedup < float("inf"):
            text = f"{row.speedup} with {row.stages} stages and {row.micro_batches} micro-batches is not a speed-up"
            raise UserError(text, where=where)
    return found


def ideal(stages: int, micro_batches: int) -> float:
    """The published pipelines' ideal speed-up: even stages with free transfers over stages in turn.

    Every micro-batch but the last is recomputed; a single micro-batch is (torchgpipe, benchmarks.rst).
    """
    spared = 1 if micro_batches > 1 else 0
    return bubble_bound(micro_batches, stages) * recomputation(1) / recomputation(micro_batches, spared)


def check_pipelines(rows: Sequence[PublishedSpeedup]) -> list[PipelineCheck]:
    """Predict every row from each other number of micro-batches of the same stages.

    Rows of a single micro-batch are predicted without another row. The baseline of the table is not predicted.
    """
    found = []
    for row in rows:
        fewest = min(other.stages for other in rows if other.source == row.source)
        is_baseline = row.micro_batches == 1 and row.stages == fewest
        if row.micro_batches == 1 and not is_baseline:
            found.append(_check(row, None))
        alike = [other for other in rows if (other.source, other.stages) == (row.source, row.stages)]
        pairs = [other for other in alike if 1 not in (other.micro_batches, row.micro_batches) and other != row]
        found += [_check(row, other) for other in pairs]
    return found


def check_stages(rows: Sequence[PublishedSpeedup]) -> list[PipelineCheck]:
    """Predict every row from fewer stages with as many micro-batches, as if their balance were the same."""
    return [
        _check(row, other)
        for row in rows
        for other in rows
        if row.micro_batches > 1
        and (other.source, other.micro_batches) == (row.source, row.micro_batches)
        and other.stages < row.stages
    ]


def _check(row: PublishedSpeedup, known: PublishedSpeedup | None) -> PipelineCheck:
    predicted = 1.0
    if known is not None:
        efficiency = known.speedup / ideal(known.stages, known.micro_batches)
        predicted = efficiency * ideal(row.stages, row.micro_batches)
    origin = None if known is None else (known.stages, known.micro_batches)
    error = predicted / row.speedup - 1
    return PipelineCheck(
        source=row.source,
        stages=row.stages,
        micro_batches=row.micro_batches,
        learned_from=origin,
        predicted=predicted,
        published=row.speedup,
        error=error,
    )


@lru_cache(maxsize=4)
def calibrate_pipelines(path: Path = SHIPPED) -> PipelineCalibration:
    """Errors of predicting the published rows, with equal weight of the sources."""
    rows = read_pipelines(path)
    learned = _learned(check_pipelines(rows))
    across = check_stages(rows)
    sources = len({check.source for check in learned})
    return PipelineCalibration(_upper_quantile(learned), _upper_quantile(across), len(learned) + len(across), sources)


def _learned(checks: Sequence[PipelineCheck]) -> list[PipelineCheck]:
    return [check for check in checks if check.learned_from is not None]


def _covered(checks: Sequence[PipelineCheck], source: str) -> tuple[int, int]:
    """Counts of the predictions of ``source``: those within intervals calibrated on other sources, and all."""
    mine = _learned([check for check in checks if check.source == source])
    others = _learned([check for check in checks if check.source != source])
    width = _upper_quantile(others) if others else float("inf")
    inside = [abs(np.log1p(check.error)) <= width * np.sqrt(check.doublings) for check in mine]
    return sum(map(bool, inside)), len(mine)


def _upper_quantile(checks: Sequence[PipelineCheck]) -> float:
    sizes = np.array([abs(np.log1p(check.error)) / np.sqrt(check.doublings) for check in checks])
    weights = np.array([1.0 / sum(other.source == check.source for other in checks) for check in checks])
    return weighted_quantiles(sizes, weights, 1.0 - NOMINAL)[1]


def pipeline_totals(checks: Sequence[PipelineCheck]) -> dict[str, Any]:
    """Median and largest error of the published pipelines, and coverage, by source."""
    return {
        source: {
            "median_abs_error": float(np.median(errors)),
            "largest_abs_error": max(errors),
            "predictions": len(errors),
            "covered_by_the_others": _covered(checks, source),
        }
        for source in dict.fromkeys(check.source for check in checks)
        for errors in [[abs(check.error) for check in checks if check.source == source]]
    }


def pipeline_lines(checks: Sequence[PipelineCheck], across: Sequence[PipelineCheck]) -> list[str]:
    """The checks of the published pipelines as lines of text."""
    lines = ["", "pipelines (AmoebaNet-D): bubble bound × recomputation × efficiency of another row of the same stages"]
    lines += [_line(check) for check in checks]
    for source, total in pipeline_totals(checks).items():
        figures = f"median |error| {total['median_abs_error']:.1%}, largest {total['largest_abs_error']:.1%}"
        inside = "{} of {}".format(*total["covered_by_the_others"])
        lines.append(f"{source}: {figures} over {total['predictions']}; {inside} in the interval from the other source")
    lines.append("the same with the efficiency of fewer stages, which are balanced differently")
    lines += [_line(check) for check in across]
    return lines


def _line(check: PipelineCheck) -> str:
    origin = "without another row" if check.learned_from is None else "from n={} m={}".format(*check.learned_from)
    place = f"  {check.source} n={check.stages} m={check.micro_batches}, {origin}:"
    return f"{place} {check.predicted:.3f} published {check.published:.3f}  {check.error:+.1%}"
