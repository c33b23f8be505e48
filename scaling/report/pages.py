"""What the page of a study and that of a comparison of two studies hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import polars as pl

from saman.scaling.analysis.analysis import Analysis, Contrast, judged
from saman.scaling.analysis.findings import Finding
from saman.scaling.pipelines.forecast import PipelineForecast, forecast, forecast_rows
from saman.scaling.report.cells import Cells, around, between, make_table, told
from saman.scaling.report.charts import figures
from saman.scaling.report.opening import opening
from saman.scaling.report.stage_tables import forecast_table, grid_table, stage_table
from saman.scaling.report.tables import contrast_rows, law_rows, point_rows, prediction_rows, run_rows, tables
from saman.scaling.report.vega import CHOSEN, FADE, WIDTH, Figure, Spec, Style
from saman.scaling.report.writer import Page, Table, origin

_POINTS = "Medians over runs with 95 % intervals; nothing is dropped as an outlier."
_MANY_CURVES = 8  # beyond, only the law chosen is in the table on the page


def study_page(analysis: Analysis, title: str, command: str) -> Page:
    """The report of one study or set of runs."""
    ahead = forecast(analysis.drawn, analysis.asked)
    data = {**tables(analysis), "pipeline_predictions": pl.DataFrame(forecast_rows(ahead), infer_schema_length=None)}
    counted = sum(run.usable for run in analysis.runs)
    return Page(
        title=title,
        subtitle=f"{counted} of {len(analysis.runs)} runs count, {len(analysis.drawn)} series; written {_now()}",
        opening=opening(analysis),
        findings=analysis.findings,
        figures=tuple(figures(analysis)),
        tables=tuple(table for table in _tables(analysis, ahead) if table.rows),
        origin=origin(analysis.runs),
        command=command,
        data=data,
    )


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _tables(analysis: Analysis, ahead: PipelineForecast) -> list[Table]:
    points = point_rows(analysis.curves)
    columns: Cells = [
        ("series", "text", lambda row: row["series"]),
        ("ranks", "number", lambda row: str(row["ranks"])),
        ("nodes", "number", lambda row: str(row["nodes"])),
        ("repeats", "number", lambda row: str(row["repeats"])),
        ("samples/s", "number", lambda row: between(row, "samples_per_second")),
        ("seconds/step", "number", lambda row: between(row, "step_seconds")),
        ("speed-up", "number", lambda row: between(row, "speedup")),
        ("efficiency", "number", lambda row: between(row, "efficiency", percent=True)),
        ("Karp–Flatt", "number", lambda row: told(row["karp_flatt"], percent=True)),
        ("CV per node", "text", lambda row: row["variation_per_node"]),
        ("stragglers", "text", lambda row: row["stragglers"] or "–"),
        ("outliers", "text", lambda row: row["outliers"] or "–"),
        ("interval", "text long", lambda row: _note(row)),
    ]
    return [
        make_table("Points", _POINTS, columns, points),
        grid_table(analysis.curves),
        stage_table(analysis.curves),
        _contrast_table(analysis.contrasts),
        _law_table(analysis),
        _prediction_table(analysis),
        forecast_table(ahead),
        _run_table(analysis),
    ]


def _note(row: dict[str, Any]) -> str:
    covered = row["samples_per_second_coverage"]
    return f"median covers {covered:.1%}" if covered else str(row["samples_per_second_note"])


def _contrast_table(contrasts: Sequence[Contrast], title: str = "Differences between series") -> Table:
    columns: Cells = [
        ("ranks", "number", lambda row: str(row["ranks"])),
        ("series", "text", lambda row: row["series"]),
        ("against", "text", lambda row: row["against"]),
        ("ratio of throughput", "number", lambda row: between(row, "ratio")),
        ("p", "number", lambda row: f"{row['p']:.3g}"),
        ("p corrected", "number", lambda row: f"{row['p_corrected']:.3g}"),
        ("verdict", "text", lambda row: row["verdict"]),
    ]
    note = f"Exact rank tests, corrected for {len(contrasts)} comparisons (Holm)."
    return make_table(title, note, columns, contrast_rows(contrasts))


def _law_table(analysis: Analysis) -> Table:
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    many = len(analysis.drawn) > _MANY_CURVES
    for row in law_rows(analysis.drawn):
        if row["chosen"] or not many:
            kept = rows.setdefault((row["series"], row["law"]), {**row, "told": []})
            kept["told"].append(f"{row['parameter']} {row['value']:.3g}{_range(row)}")
    columns: Cells = [
        ("series", "text", lambda row: row["series"]),
        ("law", "text", lambda row: row["law"] + (" (chosen)" if row["chosen"] else "")),
        ("expected error ahead", "number", lambda row: told(row["expected_error_ahead"], percent=True)),
        ("largest residual", "number", lambda row: told(row["largest_residual"], percent=True)),
        ("parameters with 95 % intervals", "text long", lambda row: ", ".join(row["told"])),
        ("note", "text", lambda row: row["note"]),
    ]
    note = "A law is chosen by its errors in predicting larger counts from smaller ones, here and on published curves."
    return make_table("Laws", note, columns, list(rows.values()))


def _range(row: dict[str, Any]) -> str:
    return "" if row["low"] is None else f" [{row['low']:.3g}, {row['high']:.3g}]"


def _prediction_table(analysis: Analysis) -> Table:
    columns: Cells = [
        ("series", "text", lambda row: row["series"]),
        ("law", "text", lambda row: row["law"]),
        ("ranks", "number", lambda row: str(row["ranks"])),
        ("nodes", "number", lambda row: str(row["nodes"])),
        ("samples/s", "number", lambda row: around(row, "samples_per_second", "low", "high")),
        ("efficiency", "number", lambda row: told(row["efficiency"], percent=True)),
        ("node-hours per epoch", "number", lambda row: told(row["node_hours_per_epoch"])),
        ("caution", "text long", lambda row: row["caution"] or ""),
    ]
    known = analysis.calibration
    note = f"Intervals of {known.nominal:.0%}, calibrated on {known.errors} published predictions." if known else ""
    return make_table("Predictions", note, columns, prediction_rows(analysis.drawn))


def _run_table(analysis: Analysis) -> Table:
    label_of = {run.id: curve.label for curve in analysis.curves for run in curve.group.runs}
    columns: Cells = [
        ("run", "text", lambda row: row["run"]),
        ("series", "text", lambda row: row["series"] or row["strategy"]),
        ("ranks", "number", lambda row: str(row["ranks"])),
        ("state", "text", lambda row: row["state"]),
        ("samples/s", "number", lambda row: told(row["samples_per_second"])),
        ("windows", "number", lambda row: str(row["windows"])),
        ("left out at the start", "text long", lambda row: row["steady_state"]),
        ("problem", "text long", lambda row: row["problem"] or ""),
    ]
    rows = sorted(run_rows(analysis.runs, label_of), key=lambda row: (row["counts"], row["run"]))
    return make_table("Runs", "Runs that do not count come first.", columns, rows)


def compare(before: Analysis, after: Analysis) -> tuple[list[Contrast], list[Finding]]:
    """The ratio after ÷ before at every point that both have, and what only one of them has."""
    theirs = {(c.label, p.ranks, p.nodes): p for c in before.drawn for p in c.points}
    ours = {(c.label, p.ranks, p.nodes): p for c in after.drawn for p in c.points}
    if len({label for label, *_ in theirs}) == len({label for label, *_ in ours}) == 1:
        ours = {(next(iter(theirs))[0], ranks, nodes): point for (_, ranks, nodes), point in ours.items()}
    shared = sorted(set(theirs) & set(ours))
    found = [
        Finding("not_shared", f"{label} on {ranks} ranks is only in one of the two")
        for label, ranks, _ in sorted(set(theirs) ^ set(ours))
    ]
    if not shared:
        found.append(Finding("nothing_shared", "the two have no point in common"))
    pairs = [(ranks, label, "before", ours[key].runs, theirs[key].runs) for key in shared for label, ranks, _ in [key]]
    return judged(pairs), found


def comparison_page(before: Analysis, after: Analysis, names: tuple[str, str], command: str) -> Page:
    """Two studies side by side: which differences are real."""
    contrasts, found = compare(before, after)
    real = [one for one in contrasts if one.verdict.different]
    findings = (
        *(Finding(f.kind, f"{names[0]}: {f.text}", f.hides) for f in before.findings),
        *(Finding(f.kind, f"{names[1]}: {f.text}", f.hides) for f in after.findings),
        *found,
    )
    faster = sum(one.ratio.value > 1 for one in real)
    return Page(
        title=f"{names[1]} against {names[0]}",
        subtitle=f"ratios of throughput, {names[1]} ÷ {names[0]}; written {_now()}",
        opening=(
            f"{len(real)} of {len(contrasts)} differences are real: {names[1]} is faster in {faster} and slower in "
            f"{len(real) - faster} of them.",
            *_extremes(contrasts),
            _cannot_tell(contrasts),
        ),
        findings=findings,
        figures=tuple(_ratio_figure(contrasts, names)),
        tables=(_contrast_table(contrasts, "Differences"),) if contrasts else (),
        origin={
            f"{name}: {k}": v
            for name, one in zip(names, (before, after), strict=True)
            for k, v in origin(one.runs).items()
        },
        command=command,
        data={
            "ratios": pl.DataFrame(contrast_rows(contrasts), infer_schema_length=None),
            **{f"before_{name}": frame for name, frame in tables(before).items()},
            **{f"after_{name}": frame for name, frame in tables(after).items()},
        },
    )


def _extremes(contrasts: Sequence[Contrast]) -> tuple[str, ...]:
    if not contrasts:
        return ("There is nothing to compare.",)
    far = max(contrasts, key=lambda one: abs(one.ratio.value - 1))
    from saman.scaling.report.opening import with_interval

    return (f"The largest is {far.one} on {far.ranks} ranks: {with_interval(far.ratio)} times, {far.verdict.words}.",)


def _cannot_tell(contrasts: Sequence[Contrast]) -> str:
    few = sum("too few repeats" in one.verdict.words for one in contrasts)
    return f"For {few} of {len(contrasts)} the repeats are too few to tell."


def _ratio_figure(contrasts: Sequence[Contrast], names: tuple[str, str]) -> list[Figure]:
    rows = [{**row, "told": row["verdict"]} for row in contrast_rows(contrasts)]
    if not rows:
        return []
    style = Style(tuple(dict.fromkeys(row["series"] for row in rows)))
    for row in rows:
        row["place"] = f"{row['series']} × {row['ranks']}"
    x: Spec = {"field": "ratio", "type": "quantitative", "title": f"{names[1]} ÷ {names[0]}", "scale": {"zero": False}}
    y: Spec = {"field": "place", "type": "nominal", "title": None, "sort": [row["place"] for row in rows]}
    y["axis"] = {"labelLimit": 260}
    channels = style.channels()
    layers = [
        {"data": {"values": [{"one": 1.0}]}, "mark": {"type": "rule", "strokeDash": [3, 3], "color": "#888888"},
         "encoding": {"x": {"field": "one", "type": "quantitative"}}},
        {"transform": [{"filter": "isValid(datum.ratio_low)"}], "mark": {"type": "rule", "strokeWidth": 2},
         "encoding": {"x": {**x, "field": "ratio_low"}, "x2": {"field": "ratio_high"}, "y": y,
                      "color": channels["color"], "opacity": FADE}},
        {"name": "points", "params": [CHOSEN], "mark": {"type": "point", "filled": True, "size": 70},
         "encoding": {"x": x, "y": y, **channels, "opacity": FADE,
                      "tooltip": [{"field": n} for n in ("series", "ranks", "ratio", "verdict", "ratio_note")]}},
    ]  # fmt: skip
    spec: Spec = {"data": {"values": rows}, "width": WIDTH - 120, "height": {"step": 24}, "layer": layers}
    return [
        Figure("ratios", "Ratios", "Right of the dashed line is faster. Whiskers: bootstrap intervals over runs.", spec)
    ]
