"""The numbers of a report as tables: what is drawn, printed, and written as CSV and Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from saman.scaling.analysis.analysis import Analysis, Contrast
from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.results import Run
from saman.scaling.models.fitting import LAWS, fit
from saman.scaling.report.stage_rows import grid_rows, stage_rows
from saman.scaling.statistics.estimates import Rows, estimate_columns


def run_rows(runs: Sequence[Run], label_of: Mapping[str, str]) -> Rows:
    """One row per run, those that do not count included."""
    return [
        {
            "run": run.id,
            "series": label_of.get(run.id),
            "strategy": run.strategy,
            "ranks": run.ranks,
            "nodes": run.nodes,
            "global_batch": run.global_batch,
            "cores_per_rank": run.cores_per_rank,
            "state": run.state.value,
            "counts": run.usable,
            "problem": run.problem,
            "samples_per_second": run.throughput if run.usable else None,
            "window_median": run.distribution.median if run.distribution else None,
            "window_p5": run.distribution.p5 if run.distribution else None,
            "window_p95": run.distribution.p95 if run.distribution else None,
            "step_seconds": run.step_seconds if run.usable else None,
            "exchange_seconds": run.exchange_seconds,
            "input_wait_seconds": run.input_wait_seconds if run.usable else None,
            "windows": run.windows,
            "windows_dropped_at_start": run.steady.dropped,
            "steady_state": run.steady.reason,
            "windows_compiled": run.left_out.compiled,
            "windows_incomplete": run.left_out.incomplete,
            "windows_repeated": run.left_out.repeated,
            "lines_torn": run.left_out.torn,
            "records_of_other_schema": run.left_out.foreign_schema,
            "records_not_finite": run.left_out.not_finite,
            "joules": run.joules,
            "hardware": run.hardware,
            "software": run.software,
            "placement": run.placement,
            "again": run.command,
        }
        for run in runs
    ]


def point_rows(curves: Sequence[Curve]) -> Rows:
    """One row per curve and rank count."""
    rows = []
    for curve in curves:
        for point in curve.points:
            split = point.split
            rows.append(
                {
                    "series": curve.label,
                    "drawn": curve.group.drawn,
                    "scaling": curve.group.scaling,
                    "ranks": point.ranks,
                    "nodes": point.nodes,
                    "repeats": len(point.runs),
                    **estimate_columns("samples_per_second", point.throughput),
                    **estimate_columns("speedup", point.speedup),
                    **estimate_columns("efficiency", point.efficiency),
                    **estimate_columns("step_seconds", point.step),
                    "base": curve.base,
                    "karp_flatt": point.serial_fraction,
                    "compute_seconds": split.compute,
                    "exchange_seconds": split.exchange,
                    "input_wait_seconds": split.input_wait,
                    "between_stages_seconds": split.neighbours,
                    "joules_per_sample": point.joules_per_sample,
                    "outliers": " ".join(point.outliers),
                    "stragglers": "; ".join(f"rank {s.rank} on {s.node} +{s.slower:.0%}" for s in point.stragglers),
                    "variation_per_node": _per_node(point.variation),
                    "runs": " ".join(run.id for run in point.runs),
                }
            )
    return rows


def _per_node(variation: Mapping[str, float | None]) -> str:
    told = [f"{node} {'–' if cv is None else format(cv, '.2%')}" for node, cv in variation.items()]
    return "; ".join(told[:8]) + (f"; and {len(told) - 8} more nodes" if len(told) > 8 else "")


def contrast_rows(contrasts: Sequence[Contrast]) -> Rows:
    """One row per comparison of two curves at a rank count."""
    return [
        {
            "ranks": one.ranks,
            "series": one.one,
            "against": one.other,
            **estimate_columns("ratio", one.ratio),
            "p": one.test.p,
            "p_corrected": one.verdict.corrected,
            "different": one.verdict.different,
            "verdict": one.verdict.words,
        }
        for one in contrasts
    ]


def law_rows(curves: Sequence[Curve]) -> Rows:
    """One row per curve, law and parameter, with the law's score and residuals."""
    rows = []
    for curve in curves:
        if curve.choice is None:
            continue
        points = curve.choice.fit.points
        for law in LAWS:
            fitted = fit(law, points, curve.group.scaling)
            if fitted is None:
                continue
            for parameter in fitted.parameters:
                rows.append(
                    {
                        "series": curve.label,
                        "law": law.title,
                        "chosen": law.name == curve.choice.fit.law.name,
                        "expected_error_ahead": curve.choice.scores.get(law.name),
                        "one_rank_samples_per_second": fitted.scale,
                        "parameter": parameter.name.replace("_", " "),
                        "value": parameter.value,
                        "low": parameter.low,
                        "high": parameter.high,
                        "unit": parameter.unit,
                        "note": parameter.note,
                        "largest_residual": max(map(abs, fitted.residuals)),
                        "residuals": " ".join(f"{residual:+.4f}" for residual in fitted.residuals),
                        "source": law.source,
                    }
                )
    return rows


def prediction_rows(curves: Sequence[Curve]) -> Rows:
    """One row per predicted rank count, with efficiency and node-hours of an epoch where they can be known."""
    rows = []
    for curve in curves:
        for ahead in curve.predictions:
            base = next((point for point in curve.points if point.speedup and point.speedup.value == 1.0), None)
            ideal = base.throughput.value / base.ranks * ahead.ranks if base else None
            epoch = next((run.samples_per_epoch for run in curve.group.runs if run.samples_per_epoch), None)
            cost = epoch / ahead.throughput * ahead.nodes / 3600 if epoch else None
            share = ahead.throughput / ideal if ideal else None
            low, high = ahead.low, ahead.high
            rows.append(
                {
                    "series": curve.label,
                    "law": curve.choice.fit.law.title if curve.choice else None,
                    "ranks": ahead.ranks,
                    "nodes": ahead.nodes,
                    "samples_per_second": ahead.throughput,
                    "low": low,
                    "high": high,
                    "efficiency": share,
                    "efficiency_low": low / ideal if ideal and low else None,
                    "efficiency_high": high / ideal if ideal and high else None,
                    "node_hours_per_epoch": cost,
                    "node_hours_low": cost * ahead.throughput / high if cost and high else None,
                    "node_hours_high": cost * ahead.throughput / low if cost and low else None,
                    "caution": ahead.caution,
                }
            )
    return rows


def process_rows(curves: Sequence[Curve]) -> Rows:
    """One row per process of every run that counts."""
    return [
        {
            "series": curve.label,
            "ranks": point.ranks,
            "run": run.id,
            "rank": process.rank,
            "node": run.node_of.get(process.rank, "?"),
            "seconds_per_step": process.seconds,
            "own_seconds_per_step": process.own_seconds,
            "input_wait_seconds": process.input_wait_seconds,
            "variation": process.variation,
            "stage": process.stage,
            "transfer_seconds": process.transfer_seconds,
            "bubble_seconds": process.bubble_seconds,
        }
        for curve in curves
        for point in curve.points
        for run in point.runs
        for process in run.processes
    ]


def typical(runs: Sequence[Run]) -> Run:
    """The run whose throughput is the (lower) median: one real run to show, not an average that never was."""
    return sorted(runs, key=lambda run: run.throughput)[(len(runs) - 1) // 2]


def learning_rows(curves: Sequence[Curve]) -> tuple[Rows, Rows]:
    """Loss over time and samples, and metrics at the end of epochs, of the typical run of each point."""
    losses, metrics = [], []
    for curve in curves:
        for point in curve.points:
            run = typical(point.runs)
            head = {"series": curve.label, "ranks": point.ranks, "run": run.id}
            if run.loss is not None:
                triples = zip(run.loss.samples, run.loss.seconds, run.loss.loss, strict=True)
                losses += [{**head, "samples": float(s), "seconds": float(t), "loss": float(v)} for s, t, v in triples]
            for epoch in run.epochs:
                row = {**head, "epoch": epoch.epoch, "samples": epoch.samples, "seconds": epoch.seconds}
                metrics += [{**row, "metric": name, "value": value} for name, value in epoch.metrics.items()]
    return losses, metrics


def tables(analysis: Analysis) -> dict[str, pl.DataFrame]:
    """Every table by its file name."""
    curves = analysis.curves
    label_of = {run.id: curve.label for curve in curves for run in curve.group.runs}
    losses, metrics = learning_rows(analysis.drawn)
    found = {
        "runs": run_rows(analysis.runs, label_of),
        "points": point_rows(curves),
        "contrasts": contrast_rows(analysis.contrasts),
        "laws": law_rows(curves),
        "predictions": prediction_rows(curves),
        "processes": process_rows(curves),
        "stages": stage_rows(curves),
        "grid": grid_rows(curves),
        "loss": losses,
        "metrics": metrics,
        "findings": [{"kind": one.kind, "hides_a_curve": one.hides, "text": one.text} for one in analysis.findings],
    }
    return {name: pl.DataFrame(rows, infer_schema_length=None) for name, rows in found.items()}
