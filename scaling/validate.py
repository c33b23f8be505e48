"""Checks predictions on published tables: ``python -m saman.scaling.validate [FILE] [--json]``.

Laws are fitted to the smaller rank counts of each series and predict the larger counts; intervals are calibrated on the
other sources. Pipelines are predicted from a single row of their table (see ``pipelines/published_check.py``).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.scaling.models.fitting import FEWEST_POINTS
from saman.scaling.models.forecast import NOMINAL, SUPPORTED_RATIO, Calibration, ScalingSeries, calibrate, choose
from saman.scaling.models.published import SHIPPED, read_series
from saman.scaling.pipelines.published_check import (
    check_pipelines,
    check_stages,
    pipeline_lines,
    pipeline_totals,
    read_pipelines,
)
from saman.scaling.statistics.intervals import binomial_interval
from saman.scaling.statistics.variability import karp_flatt

ALARM_SHORTFALL = 0.15


@dataclass(frozen=True)
class ForecastCheck:
    """A predicted point.

    Attributes:
        fitted_to: Largest fitted rank count.
        error: Predicted ÷ measured − 1.
        shortfall: 1 − measured ÷ predicted.
        covered: Whether the interval holds the measured value; None without interval.
        supported: Whether ``ranks`` is at most 4 times ``fitted_to``; only these enter the totals.
    """

    series: str
    fitted_to: int
    ranks: int
    law: str
    predicted: float
    measured: float
    error: float
    shortfall: float
    low: float | None
    high: float | None
    covered: bool | None
    supported: bool


@dataclass(frozen=True)
class Alarm:
    """A point far below the expectation from smaller counts; ``false`` where no prediction was far too high."""

    series: str
    ranks: int
    shortfall: float
    why: str
    false: bool


@dataclass(frozen=True)
class SeriesCheck:
    """The checks of a series; without checks, ``note`` gives the reason."""

    series: str
    source: str
    note: str | None
    checks: tuple[ForecastCheck, ...]
    alarms: tuple[Alarm, ...]


def check_series(track: ScalingSeries, others: Sequence[ScalingSeries], calibration: Calibration | None) -> SeriesCheck:
    """Check predictions of a series from every origin of three points or more, and raise alarms.

    Args:
        track: The series.
        others: Series of other sources, for the choice of laws.
        calibration: Of the intervals; without it there are none.
    """
    if len(track.points) <= FEWEST_POINTS:
        note = f"not enough data: {len(track.points)} points, at least {FEWEST_POINTS + 1} are needed"
        return SeriesCheck(track.id, track.source, note, (), ())
    checks = [
        check
        for count in range(FEWEST_POINTS, len(track.points))
        for check in _checks_from(track, count, others, calibration)
    ]
    return SeriesCheck(track.id, track.source, None, tuple(checks), tuple(_alarms(track, checks)))


def _checks_from(
    track: ScalingSeries, count: int, others: Sequence[ScalingSeries], calibration: Calibration | None
) -> list[ForecastCheck]:
    choice = choose(track.points[:count], others, track.scaling)
    if choice is None:
        return []
    ahead, origin = track.points[count:], track.points[count - 1].ranks
    found = []
    for point, value in zip(ahead, choice.fit.throughput(ahead), strict=True):
        low = high = covered = None
        if calibration is not None:
            width = float(np.sqrt(np.log2(point.ranks / origin)))
            low, high = (float(value * np.exp(edge * width)) for edge in (calibration.low, calibration.high))
            covered = low <= point.throughput <= high
        found.append(
            ForecastCheck(
                series=track.id,
                fitted_to=origin,
                ranks=point.ranks,
                law=choice.fit.law.name,
                predicted=float(value),
                measured=point.throughput,
                error=float(value / point.throughput - 1),
                shortfall=float(1 - point.throughput / value),
                low=low,
                high=high,
                covered=covered,
                supported=point.ranks <= SUPPORTED_RATIO * origin,
            )
        )
    return found


def _alarms(track: ScalingSeries, checks: Sequence[ForecastCheck]) -> list[Alarm]:
    """Alarms at points below an earlier prediction, or after a jump of the Karp–Flatt serial fraction.

    The jump needs no fitted law: the point is more than 15 % below Amdahl's law with the fraction of the point before.
    An alarm is false if no earlier prediction was more than 15 % too high.
    """
    found = []
    base = track.points[0].throughput / track.points[0].ranks
    for before, point in zip(track.points[FEWEST_POINTS - 1 :], track.points[FEWEST_POINTS:], strict=False):
        shortfall = max(check.shortfall for check in checks if check.ranks == point.ranks)
        fraction = karp_flatt(before.throughput / base, before.ranks) or 0.0
        expected = base * point.ranks / (1 + max(fraction, 0.0) * (point.ranks - 1))
        jump = 1 - point.throughput / expected
        why = [f"{shortfall:.0%} below a prediction"] if shortfall > ALARM_SHORTFALL else []
        why += [f"{jump:.0%} below a constant serial fraction"] if jump > ALARM_SHORTFALL else []
        if why:
            found.append(Alarm(track.id, point.ranks, shortfall, ", ".join(why), shortfall <= ALARM_SHORTFALL))
    return found


def validate(tracks: Sequence[ScalingSeries], nominal: float = NOMINAL) -> tuple[list[SeriesCheck], dict[str, Any]]:
    """Check every series, with the scores of laws and the calibration from *other* sources only.

    A table of a single source is calibrated on the shipped table, except for series with the same points.

    Args:
        tracks: The series of a table.
        nominal: Coverage of the intervals.

    Returns:
        The checks of each series, and the totals.
    """
    found = []
    for track in tracks:
        others = tuple(other for other in tracks if other.source != track.source)
        if not others:
            own = {other.points for other in tracks}
            others = tuple(t for t in read_series() if t.source != track.source and t.points not in own)
        found.append(check_series(track, others, calibrate(others, nominal)))
    return found, totals(found, nominal)


def totals(series: Sequence[SeriesCheck], nominal: float = NOMINAL) -> dict[str, Any]:
    """Error and coverage of points at up to 4× the largest fitted count, and the number of alarms."""
    near = [check for entry in series for check in entry.checks if check.supported]
    judged = [check.covered for check in near if check.covered is not None]
    low, high = binomial_interval(sum(judged), len(judged))
    alarms = [alarm for entry in series for alarm in entry.alarms]
    return {
        "median_abs_error": float(np.median([abs(check.error) for check in near])) if near else None,
        "coverage": {
            "value": sum(judged) / len(judged) if judged else None,
            "low": low,
            "high": high,
            "covered": sum(judged),
            "predictions": len(judged),
        },
        "nominal": nominal,
        "alarms": sum(not alarm.false for alarm in alarms),
        "false_alarms": sum(alarm.false for alarm in alarms),
    }


def _text(series: Sequence[SeriesCheck], total: dict[str, Any]) -> str:
    lines = []
    for entry in series:
        near = [abs(check.error) for check in entry.checks if check.supported]
        none = entry.note or "no prediction within 4×"
        head = f"median |error| {np.median(near):.1%} over {len(near)}" if near else none
        lines.append(f"{entry.series}: {head}")
        for check in entry.checks:
            inside = {None: "no interval", True: "inside", False: "OUTSIDE"}[check.covered]
            band = "" if check.low is None else f" [{check.low:.4g}, {check.high:.4g}]"
            beyond = "" if check.supported else "  (beyond 4×: not in the totals)"
            lines.append(
                f"  fitted to {check.fitted_to:>4}, at {check.ranks:>4}: {check.predicted:.4g}{band}"
                f" measured {check.measured:.4g}  {check.error:+.1%}  {inside}  {check.law}{beyond}"
            )
        lines += [f"  {'false ' * alarm.false}alarm at {alarm.ranks}: {alarm.why}" for alarm in entry.alarms]
    coverage = total["coverage"]
    if total["median_abs_error"] is None:
        return "\n".join([*lines, "", "not enough data for any prediction"])
    lines += [
        "",
        f"median |error| at up to {SUPPORTED_RATIO:g}× the largest fitted count: {total['median_abs_error']:.1%}",
        f"coverage {coverage['value']:.1%} ({coverage['covered']} of {coverage['predictions']}; 95 % binomial interval"
        f" {coverage['low']:.1%} to {coverage['high']:.1%}), nominal {total['nominal']:.0%}"
        if coverage["value"] is not None
        else "coverage: unknown without another source for calibration",
        f"alarms {total['alarms']}, false alarms {total['false_alarms']}",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a table and print the result.

    Returns:
        The exit status: 0, or 2 for a file that is not such a table.
    """
    parser = argparse.ArgumentParser(prog="python -m saman.scaling.validate", description=__doc__)
    parser.add_argument(
        "file", nargs="?", type=Path, default=SHIPPED, help="a table like scaling/models/published.json"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args(arguments)
    try:
        series, total = validate(read_series(asked.file))
        rows = read_pipelines(asked.file)
    except UserError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    checks, across = check_pipelines(rows), check_stages(rows)
    if asked.json:
        facts: dict[str, Any] = {"series": [asdict(entry) for entry in series], "totals": total}
        pipelines = {"checks": checks, "other_stages": across}
        facts["pipelines"] = {name: [asdict(check) for check in found] for name, found in pipelines.items()}
        facts["pipelines"]["totals"] = pipeline_totals(checks)
        print(json.dumps(facts, indent=1))
    else:
        print("\n".join([_text(series, total), *(pipeline_lines(checks, across) if rows else ())]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
