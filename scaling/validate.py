"""Checks forecasts on published tables: ``python -m saman.scaling.validate [FILE] [--held-back] [--json]``.

Each series is cut off at its smaller rank counts (three at least), and every larger count is forecast by a stack
that learned from other sources alone: the other sources of the file and the shipped table, or with ``--held-back`` the
shipped table alone. The stack is compared with simple rules whose widths learned from the same sources. Pipelines are
predicted from a single row of their table (see ``pipelines/published_check.py``).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.scaling.models.published import SHIPPED, PublishedTable, read_table
from saman.scaling.models.series import SUPPORTED_RATIO
from saman.scaling.pipelines.published_check import (
    check_pipelines,
    check_stages,
    pipeline_lines,
    pipeline_totals,
    read_pipelines,
)
from saman.scaling.stack.scores import Gain, clustered_share
from saman.scaling.stack.validation import (
    ClassResult,
    CoverageVerdict,
    RuleComparison,
    Validation,
    alarm_score,
    class_results,
    comparisons,
    near,
    train_shipped,
    validate,
)
from saman.scaling.stack.weights import shipped_stack

# Stable names of --json.
TOTALS = ("predictions", "sources", "median_abs_error", "mean_abs_log_error", "log_score", "interval_score", "coverage")


def totals(found: Validation) -> dict[str, Any]:
    """Total scores of a validation at up to 4× the largest fitted count."""
    members = near(found)
    covered = found.stack.covered(found.data.outcomes)[members]
    low, high = clustered_share(covered, found.data.sources[members])
    errors = (found.stack.middle - found.data.outcomes)[members]
    return {
        "predictions": int(members.sum()),
        "sources": len(set(found.data.sources[members])),
        "median_abs_error": float(np.median(np.abs(np.expm1(errors)))),
        "mean_abs_log_error": float(np.abs(errors).mean()),
        "log_score": float(found.stack.log_scores[members].mean()),
        "interval_score": float(found.stack.interval_scores[members].mean()),
        "coverage": {
            "value": float(covered.mean()),
            "nominal": found.level,
            "low": low,
            "high": high,
            "covered": int(covered.sum()),
        },
    }


def _facts(table: PublishedTable, found: Validation | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"refused": [asdict(series) for series in table.refused]}
    facts["not_enough_data"] = [track.id for track in table.series if len(track.points) <= 3]
    if found is None:
        return {**facts, "totals": None, "rules": [], "classes": [], "alarms": None, "forecasts": []}
    return {
        **facts,
        "totals": totals(found),
        "rules": [{**asdict(each), "rule": each.rule.value} for each in comparisons(found)],
        "classes": [asdict(result) for result in class_results(found)],
        "alarms": asdict(alarm_score(found)),
        "trained_on": list(found.trained_on),
        "forecasts": _forecasts(found),
    }


def _forecasts(found: Validation) -> list[dict[str, Any]]:
    covered, supported = found.stack.covered(found.data.outcomes), near(found)
    return [
        {
            "series": case.series.id,
            "source": case.series.source,
            "scaling": case.series.scaling,
            "fitted_to": case.fitted_to,
            "ranks": case.ranks,
            "measured": case.measured,
            "predicted": float(np.exp(found.stack.middle[row])),
            "low": float(np.exp(found.stack.low[row])),
            "high": float(np.exp(found.stack.high[row])),
            "covered": bool(covered[row]),
            "log_score": float(found.stack.log_scores[row]),
            "shortfall_probability": float(found.shortfall_probability[row]),
            "supported": bool(supported[row]),
        }
        for row, case in enumerate(found.data.cases)
    ]


def _text(table: PublishedTable, found: Validation | None) -> str:
    lines = [f"{series.id}: left out: {series.reason}" for series in table.refused]
    short = [track.id for track in table.series if len(track.points) <= 3]
    if short:
        lines.append(f"not enough data (four points are needed): {', '.join(short)}")
    if found is None:
        return "\n".join([*lines, "not enough data for any forecast, or no other source to learn from"])
    total, supported = totals(found), f"up to {SUPPORTED_RATIO:g}× the largest fitted count"
    coverage = total["coverage"]
    lines += [
        f"{total['predictions']} forecasts at {supported}, {total['sources']} sources; learned from "
        f"{len(found.trained_on)} sources, never from the one that is judged",
        f"stack: median |error| {total['median_abs_error']:.1%}, mean |ln error| {total['mean_abs_log_error']:.3f}, "
        f"log score {total['log_score']:+.3f}, interval score {total['interval_score']:.3f}, coverage "
        f"{coverage['value']:.1%} of {coverage['nominal']:.0%}",
        "",
        f"{'against':38} {'median':>7} {'mean ln':>8} {'covers':>7} {'log score: gain':>16} {'lower':>7} "
        f"{'interval score: gain':>21} {'lower':>7}",
        *(_rule_line(each) for each in comparisons(found)),
        "lower: one-sided 95 % bound, jackknife over sources; interval of the coverage: clustered by source",
        "",
        f"{'class':30} {'n':>4} {'sources':>8} {'median':>7} {'coverage':>9} {'95 % interval':>16} "
        f"{'log score: over power law, lower':>33} {'interval score: over power law, lower':>38}",
        *(_class_line(each) for each in class_results(found)),
    ]
    alarms = alarm_score(found)
    lines.append(
        f"alarms before the point was measured: {alarms.hits} hits, {alarms.misses} misses, {alarms.false_alarms} "
        f"false, of {alarms.shortfalls} shortfalls in {alarms.forecasts} forecasts"
    )
    return "\n".join(lines)


def _class_line(each: ClassResult) -> str:
    log, interval = each.log_score_gain, each.interval_score_gain
    return (
        f"{each.name:30} {each.predictions:>4} {each.sources:>8} {each.median_abs_error:>7.1%} {each.coverage:>9.1%} "
        f"{f'{each.coverage_low:.1%} – {each.coverage_high:.1%}':>16} {each.log_score:>+12.3f} {log.value:>+11.3f} "
        f"{_bound(log, '{:+.3f}'):>8} {each.interval_score:>15.3f} {interval.value:>+12.1%} "
        f"{_bound(interval, '{:+.1%}'):>9}{_coverage_in_words(each)}"
    )


def _coverage_in_words(each: ClassResult) -> str:
    if each.verdict is CoverageVerdict.OFF:
        return "  coverage is off by more than 5 points"
    if each.within_tolerance is None:
        return "  (few)"
    shown = " (not determined)" if each.verdict is CoverageVerdict.UNDETERMINED else ""
    return f"  {'within' if each.within_tolerance else 'more than'} 5 points{shown}"


def _rule_line(each: RuleComparison) -> str:
    log, interval = each.log_score_gain, each.interval_score_gain
    return (
        f"{each.rule.words:38} {each.rule_median_abs_error:>7.1%} {each.rule_mean_abs_error:>8.3f} "
        f"{each.rule_coverage:>7.1%} {log.value:>+16.3f} {_bound(log, '{:+.3f}'):>7} "
        f"{interval.value:>+21.1%} {_bound(interval, '{:+.1%}'):>7}"
    )


def _bound(gain: Gain, form: str) -> str:
    return "–" if gain.lower is None else form.format(gain.lower)


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
    parser.add_argument("--held-back", action="store_true", help="learn from the shipped table only")
    parser.add_argument("--only", action="store_true", help="learn from the other sources of the file only")
    parser.add_argument("--write-weights", type=Path, metavar="PATH", help="train on the file and write the weights")
    asked = parser.parse_args(arguments)
    try:
        table, rows = read_table(asked.file), read_pipelines(asked.file)
        teachers = () if asked.only else read_table().series
    except UserError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    if asked.write_weights:
        train_shipped(table.series).write(asked.write_weights)
        return 0
    found = validate(table.series, teachers, asked.held_back, far=shipped_stack().far if asked.held_back else None)
    checks, across = check_pipelines(rows), check_stages(rows)
    if asked.json:
        facts = _facts(table, found)
        pipelines = {"checks": checks, "other_stages": across}
        facts["pipelines"] = {name: [asdict(check) for check in found_] for name, found_ in pipelines.items()}
        facts["pipelines"]["totals"] = pipeline_totals(checks)
        print(json.dumps(facts, indent=1))
    else:
        print("\n".join([_text(table, found), *(pipeline_lines(checks, across) if rows else ())]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
