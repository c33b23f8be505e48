"""Checks predictions of pipelines on published speed-ups, and learns from them how far such predictions are off.

Only the bubble bound and the cost of recomputation go in, and one published row of the same number of stages: its
efficiency (speed-up ÷ what even stages with free transfers give) is carried over to other micro-batches. A row with one
micro-batch runs the stages in turn, so it is predicted from nothing, and nothing is learned from it.
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
from saman.scaling.models.forecast import NOMINAL, weighted_quantiles
from saman.scaling.models.published import SHIPPED

# The two columns of the table: torchgpipe's own figures, and those of GPipe (Huang et al. 2019, table 2) beside them.
_COLUMNS = {"torchgpipe": "speedup", "GPipe": "huang"}


@dataclass(frozen=True)
class PublishedSpeedup:
    """A published speed-up of ``stages`` with ``micro_batches`` over two stages in turn (one micro-batch)."""

    source: str
    stages: int
    micro_batches: int
    speedup: float


@dataclass(frozen=True)
class PipelineCheck:
    """A published speed-up beside what was predicted for it; ``error`` is predicted ÷ published − 1.

    ``learned_from`` names the stages and micro-batches of the one row that went in; none for one micro-batch.
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
        """How far the prediction reaches, in doublings of micro-batches and of stages."""
        if self.learned_from is None:
            return 0.0
        stages, micro_batches = self.learned_from
        return abs(float(np.log2(self.micro_batches / micro_batches))) + abs(float(np.log2(self.stages / stages)))


@dataclass(frozen=True)
class PipelineCalibration:
    """|ln(published ÷ predicted)| ÷ √doublings that 90 % of the predictions stay below: of micro-batches, of stages."""

    micro_batches: float
    stages: float
    errors: int
    sources: int
    nominal: float = NOMINAL


def read_pipelines(path: Path = SHIPPED) -> list[PublishedSpeedup]:
    """The pipeline rows of a table, none where it has no such table. Raises ``UserError`` for one that is none."""
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
            text = f"{row.speedup} with {row.stages} stages and {row.micro_batches} micro-batches is no speed-up"
            raise UserError(text, where=where)
    return found


def ideal(stages: int, micro_batches: int) -> float:
    """The speed-up that even stages with free transfers give over stages in turn, all of it with recomputation.

    Every micro-batch but the last is recomputed; where there is one, it is (torchgpipe, benchmarks.rst).
    """
    spared = 1 if micro_batches > 1 else 0
    return bubble_bound(micro_batches, stages) * recomputation(1) / recomputation(micro_batches, spared)


def check_pipelines(rows: Sequence[PublishedSpeedup]) -> list[PipelineCheck]:
    """Every row predicted from the other micro-batches of the same stages, and those of one micro-batch from none.

    The row that all speed-ups of the table are against is no prediction.
    """
    found = []
    for row in rows:
        base = row.micro_batches == 1 and row.stages == min(one.stages for one in rows if one.source == row.source)
        if row.micro_batches == 1 and not base:
            found.append(_check(row, None))
        alike = [one for one in rows if (one.source, one.stages) == (row.source, row.stages)]
        found += [_check(row, one) for one in alike if 1 not in (one.micro_batches, row.micro_batches) and one != row]
    return found


def check_stages(rows: Sequence[PublishedSpeedup]) -> list[PipelineCheck]:
    """Every row predicted from fewer stages with the same micro-batches, as if their balance were the same."""
    return [
        _check(row, one)
        for row in rows
        for one in rows
        if row.micro_batches > 1 and _places(one) == _places(row) and one.stages < row.stages
    ]


def _places(row: PublishedSpeedup) -> tuple[str, int]:
    return row.source, row.micro_batches


def _check(row: PublishedSpeedup, known: PublishedSpeedup | None) -> PipelineCheck:
    predicted = 1.0
    if known is not None:
        efficiency = known.speedup / ideal(known.stages, known.micro_batches)
        predicted = efficiency * ideal(row.stages, row.micro_batches)
    origin = None if known is None else (known.stages, known.micro_batches)
    error = predicted / row.speedup - 1
    return PipelineCheck(row.source, row.stages, row.micro_batches, origin, predicted, row.speedup, error)


@lru_cache(maxsize=4)
def calibrate_pipelines(path: Path = SHIPPED) -> PipelineCalibration:
    """How far predictions of the published rows are off, each source weighing the same."""
    rows = read_pipelines(path)
    learned = _learned(check_pipelines(rows))
    across = check_stages(rows)
    sources = len({check.source for check in learned})
    return PipelineCalibration(_most(learned), _most(across), len(learned) + len(across), sources)


def _learned(checks: Sequence[PipelineCheck]) -> list[PipelineCheck]:
    return [check for check in checks if check.learned_from is not None]


def _covered(checks: Sequence[PipelineCheck], source: str) -> tuple[int, int]:
    """How many predictions of ``source`` lie in intervals learned from the other sources, and of how many."""
    mine = _learned([check for check in checks if check.source == source])
    others = _learned([check for check in checks if check.source != source])
    width = _most(others) if others else float("inf")
    inside = [abs(np.log1p(check.error)) <= width * np.sqrt(check.doublings) for check in mine]
    return sum(map(bool, inside)), len(mine)


def _most(checks: Sequence[PipelineCheck]) -> float:
    sizes = np.array([abs(np.log1p(check.error)) / np.sqrt(check.doublings) for check in checks])
    weights = np.array([1.0 / sum(one.source == check.source for one in checks) for check in checks])
    return weighted_quantiles(sizes, weights, 1.0 - NOMINAL)[1]


def pipeline_totals(checks: Sequence[PipelineCheck]) -> dict[str, Any]:
    """Median and largest absolute error by source, over the rows that one row or none was learned from."""
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
    """The checks as text."""
    lines = ["", "pipelines (AmoebaNet-D): bubble bound × recomputation × the efficiency of one row of as many stages"]
    lines += [_line(check) for check in checks]
    for source, total in pipeline_totals(checks).items():
        figures = f"median |error| {total['median_abs_error']:.1%}, largest {total['largest_abs_error']:.1%}"
        inside = "{} of {}".format(*total["covered_by_the_others"])
        lines.append(f"{source}: {figures} over {total['predictions']}; {inside} in the interval learned elsewhere")
    lines.append("the same with the efficiency of fewer stages, whose balance is another one")
    lines += [_line(check) for check in across]
    return lines


def _line(check: PipelineCheck) -> str:
    origin = "from nothing" if check.learned_from is None else "from n={} m={}".format(*check.learned_from)
    place = f"  {check.source} n={check.stages} m={check.micro_batches}, {origin}:"
    return f"{place} {check.predicted:.3f} published {check.published:.3f}  {check.error:+.1%}"
