"""The comparison of two studies, and its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from saman.scaling.analysis.analysis import Analysis
from saman.scaling.analysis.contrasts import Contrast, RunPair, contrast_runs
from saman.scaling.analysis.findings import Finding, FindingKind
from saman.scaling.report.figures.vega import FADE, SELECTION, WIDTH, Figure, SeriesStyle, Spec, repeats_in_words
from saman.scaling.report.opening import interval_in_words
from saman.scaling.report.page_tables import contrast_table
from saman.scaling.report.pages import now
from saman.scaling.report.tables import contrast_rows, tables
from saman.scaling.report.writer import Page, TableKind, provenance_counts
from saman.scaling.statistics.columns import to_columns, to_frame
from saman.scaling.statistics.drift import withheld
from saman.scaling.statistics.rank_test import Significance


def compare_reports(before: Analysis, after: Analysis) -> tuple[list[Contrast], list[Finding]]:
    """Compare two studies at every point that both have.

    Two studies of a single series each are compared whatever the names of the series.

    Returns:
        The ratios of throughput after ÷ before, and findings about points of only one study.
    """
    old = {(curve.label, point.ranks, point.nodes): point for curve in before.drawable for point in curve.points}
    new = {(curve.label, point.ranks, point.nodes): point for curve in after.drawable for point in curve.points}
    if len({label for label, *_ in old}) == len({label for label, *_ in new}) == 1:
        label = next(iter(old))[0]
        new = {(label, ranks, nodes): point for (_, ranks, nodes), point in new.items()}
    shared = sorted(set(old) & set(new))
    found = [
        Finding(FindingKind.NOT_SHARED, f"only one of the two has {label} on {ranks} ranks")
        for label, ranks, _ in sorted(set(old) ^ set(new))
    ]
    if not shared:
        found.append(Finding(FindingKind.NOTHING_SHARED, "the two have no point in common"))
    pairs = [RunPair(key[1], key[0], "before", new[key].runs, old[key].runs) for key in shared]
    contrasts = contrast_runs(pairs)
    drift = next((analysis.drift for analysis in (before, after) if analysis.drift.found), None)
    if drift is not None:  # the two studies share no repeat that could be compared by itself
        contrasts = [replace(contrast, ratio=withheld(contrast.ratio, drift)) for contrast in contrasts]
    return contrasts, found


def comparison_page(before: Analysis, after: Analysis, names: tuple[str, str], command: str) -> Page:
    """The report that compares two studies.

    Args:
        before: Analysis of the first study.
        after: Analysis of the second study.
        names: Of the two studies.
        command: Command line that makes the report again.
    """
    contrasts, found = compare_reports(before, after)
    studies = tuple(zip(names, (before, after), strict=True))
    named = [
        Finding(finding.kind, f"{name}: {finding.text}", finding.hides)
        for name, analysis in studies
        for finding in analysis.findings
    ]
    return Page(
        title=f"{names[1]} against {names[0]}",
        subtitle=f"ratios of throughput, {names[1]} ÷ {names[0]}; written {now()}",
        opening=_opening(contrasts, names[1]),
        findings=(*named, *found),
        figures=tuple(_ratio_figure(contrasts, names)),
        tables=(contrast_table(contrasts, TableKind.STUDY_CONTRASTS),) if contrasts else (),
        provenance={
            f"{name}: {quantity}": values
            for name, analysis in studies
            for quantity, values in provenance_counts(analysis.runs).items()
        },
        command=command,
        data={
            "ratios": to_frame(contrast_rows(contrasts)),
            **{f"before_{name}": frame for name, frame in tables(before).items()},
            **{f"after_{name}": frame for name, frame in tables(after).items()},
        },
    )


def _opening(contrasts: Sequence[Contrast], after: str) -> tuple[str, ...]:
    if not contrasts:
        return ("The two studies share no point.",)
    real = [contrast for contrast in contrasts if contrast.verdict.different]
    faster = sum(contrast.ratio.value > 1 for contrast in real)
    unknown = sum(contrast.verdict.verdict is Significance.TOO_FEW_REPEATS for contrast in contrasts)
    largest = max(contrasts, key=lambda contrast: abs(contrast.ratio.value - 1))
    ratio = f"{largest.ratio.value:.3g}× {interval_in_words(largest.ratio)}"
    return (
        f"{len(real)} of {len(contrasts)} differences are real: {after} is faster in {faster} and slower in "
        f"{len(real) - faster}.",
        f"The largest is {largest.series} on {largest.ranks} ranks: {ratio}, {largest.verdict.words}.",
        f"{unknown} of {len(contrasts)} comparisons have too few repeats for a verdict.",
    )


def _ratio_figure(contrasts: Sequence[Contrast], names: tuple[str, str]) -> list[Figure]:
    data = [{**to_columns(row), "place": f"{row.series} × {row.ranks}"} for row in contrast_rows(contrasts)]
    if not data:
        return []
    style = SeriesStyle(tuple(dict.fromkeys(entry["series"] for entry in data)))
    x: Spec = {"field": "ratio", "type": "quantitative", "title": f"{names[1]} ÷ {names[0]}", "scale": {"zero": False}}
    y: Spec = {"field": "place", "type": "nominal", "title": None, "sort": [entry["place"] for entry in data]}
    y["axis"] = {"labelLimit": 260}
    channels = style.channels()
    layers = [
        {"data": {"values": [{"equal": 1.0}]}, "mark": {"type": "rule", "strokeDash": [3, 3], "color": "#888888"},
         "encoding": {"x": {"field": "equal", "type": "quantitative"}}},
        {"transform": [{"filter": "isValid(datum.ratio_low)"}], "mark": {"type": "rule", "strokeWidth": 2},
         "encoding": {"x": {**x, "field": "ratio_low"}, "x2": {"field": "ratio_high"}, "y": y,
                      "color": channels["color"], "opacity": FADE}},
        {"name": "points", "params": [SELECTION], "mark": {"type": "point", "filled": True, "size": 70},
         "encoding": {"x": x, "y": y, **channels, "opacity": FADE,
                      "tooltip": [{"field": n} for n in ("series", "ranks", "ratio", "verdict", "ratio_note")]}},
    ]  # fmt: skip
    spec: Spec = {"data": {"values": data}, "width": WIDTH - 120, "height": {"step": 24}, "layer": layers}
    sample = repeats_in_words(contrast.ratio.repeats for contrast in contrasts)
    caption = f"Right of the dashed line: faster. {sample} runs on each side; whiskers: 95% bootstrap intervals."
    return [Figure("ratios", "Ratios", caption, spec)]
