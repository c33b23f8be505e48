"""The numbers of a report as typed rows, and all of them as data frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

import polars as pl

from saman.scaling.analysis.analysis import Analysis
from saman.scaling.analysis.contrasts import Contrast
from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.run_values import ExcludedRun, MeasuredRun, Measurement, Run
from saman.scaling.models.fitting import LAWS, Fit, ParameterEstimate, fit
from saman.scaling.report.rows import (
    ContrastRow,
    FindingRow,
    LawRow,
    LossRow,
    MetricRow,
    PointRow,
    PredictionRow,
    ProcessRow,
    RunRow,
)
from saman.scaling.report.stage_rows import grid_rows, stage_rows
from saman.scaling.stack.forecast import LawChoice, ThroughputForecast
from saman.scaling.stack.situations import STACK
from saman.scaling.statistics.columns import Row, to_frame

_MOST_NODES = 8  # within a cell


def run_rows(runs: Sequence[Run], series_of: Mapping[str, str]) -> list[RunRow]:
    """A row per run, excluded runs too; ``series_of`` maps run ids to labels of curves."""
    return [_run_row(run, series_of.get(run.facts.id)) for run in runs]


def _run_row(run: Run, series: str | None) -> RunRow:
    facts, windows = run.facts, run.windows
    measured: Measurement | None = run.measured if isinstance(run, MeasuredRun) else None
    goodput = measured.goodput if measured else None
    return RunRow(
        run=facts.id,
        series=series,
        strategy=facts.strategy,
        ranks=facts.ranks,
        nodes=facts.nodes,
        global_batch=facts.global_batch,
        cores_per_rank=facts.cores_per_rank,
        state=facts.state.value,
        counts=measured is not None,
        problem=run.exclusion.text if isinstance(run, ExcludedRun) else None,
        samples_per_second=measured.samples_per_second if measured else None,
        end_to_end_samples_per_second=measured.end_to_end_samples_per_second if measured else None,
        window_median=measured.throughput.median if measured else None,
        window_p5=measured.throughput.p5 if measured else None,
        window_p95=measured.throughput.p95 if measured else None,
        step_seconds=measured.step_seconds if measured else None,
        exchange_seconds=measured.exchange_seconds if measured else None,
        input_wait_seconds=measured.input_wait_seconds if measured else None,
        windows=windows.counted,
        windows_dropped_at_start=windows.steady.dropped,
        steady_state=windows.steady.reason,
        windows_compiled=windows.excluded.compiled,
        windows_incomplete=windows.excluded.incomplete,
        windows_repeated=windows.excluded.repeated,
        lines_torn=windows.excluded.torn,
        records_of_other_schema=windows.excluded.foreign_schema,
        records_not_finite=windows.excluded.not_finite,
        goodput=goodput.share if goodput else None,
        failures=goodput.failures if goodput else None,
        lost_to_failures_seconds=goodput.lost_seconds if goodput else None,
        lost_to_restarts_seconds=goodput.restart_seconds if goodput else None,
        lost_to_checkpoints_seconds=goodput.checkpoint_seconds if goodput else None,
        lost_to_waiting_seconds=goodput.waiting_seconds if goodput else None,
        joules=facts.joules,
        hardware=facts.hardware,
        software=facts.software,
        placement=facts.placement,
        again=facts.command,
    )


def point_rows(curves: Sequence[Curve]) -> list[PointRow]:
    """A row per curve and rank count."""
    return [
        PointRow(
            series=curve.label,
            drawn=curve.group.is_drawable,
            scaling=curve.group.scaling,
            ranks=point.ranks,
            nodes=point.nodes,
            repeats=len(point.runs),
            samples_per_second=point.throughput,
            end_to_end_samples_per_second=point.end_to_end,
            cpu_seconds_per_sample=point.cpu_seconds_per_sample,
            core_bound_samples_per_second=curve.core_bound(point.nodes),
            window_median=point.windows.median,
            window_p5=point.windows.p5,
            window_p95=point.windows.p95,
            speedup=point.speedup,
            efficiency=point.efficiency,
            step_seconds=point.step_seconds,
            baseline=curve.baseline.label if curve.baseline else None,
            karp_flatt=point.serial_fraction,
            compute_seconds=point.breakdown.compute,
            exchange_seconds=point.breakdown.exchange,
            input_wait_seconds=point.breakdown.input_wait,
            between_stages_seconds=point.breakdown.neighbours,
            joules_per_sample=point.joules_per_sample,
            outliers=" ".join(point.outliers),
            stragglers="; ".join(f"rank {s.rank} on {s.node} +{s.slower:.0%}" for s in point.stragglers),
            variation_per_node=_per_node(point.variation),
            runs=" ".join(run.facts.id for run in point.runs),
        )
        for curve in curves
        for point in curve.points
    ]


def _per_node(variation: Mapping[str, float | None]) -> str:
    words = [f"{node} {'–' if value is None else format(value, '.2%')}" for node, value in variation.items()]
    more = len(words) - _MOST_NODES
    return "; ".join(words[:_MOST_NODES]) + (f"; and {more} more nodes" if more > 0 else "")


def contrast_rows(contrasts: Sequence[Contrast]) -> list[ContrastRow]:
    """A row per comparison of two curves at a rank count."""
    return [
        ContrastRow(
            ranks=contrast.ranks,
            series=contrast.series,
            against=contrast.against,
            ratio=contrast.ratio,
            p=contrast.test.p,
            p_corrected=contrast.verdict.corrected,
            different=contrast.verdict.different,
            verdict=contrast.verdict.words,
        )
        for contrast in contrasts
    ]


def law_rows(curves: Sequence[Curve]) -> list[LawRow]:
    """A row per curve, law and parameter."""
    return [row for curve in curves if curve.choice is not None for row in _law_rows(curve, curve.choice)]


def _law_rows(curve: Curve, choice: LawChoice) -> Iterator[LawRow]:
    for law in LAWS:
        fitted = fit(law, choice.fit.points, curve.group.scaling)
        if fitted is not None:
            yield from (_law_row(curve.label, choice, fitted, parameter) for parameter in fitted.parameters)


def _law_row(series: str, choice: LawChoice, fitted: Fit, parameter: ParameterEstimate) -> LawRow:
    return LawRow(
        series=series,
        law=fitted.law.title,
        chosen=fitted.law.name == choice.fit.law.name,
        weight=choice.weights.get(fitted.law.name),
        one_rank_samples_per_second=fitted.scale,
        parameter=parameter.name.replace("_", " "),
        value=parameter.value,
        low=parameter.low,
        high=parameter.high,
        unit=parameter.unit,
        note=parameter.note,
        largest_residual=max(map(abs, fitted.residuals)),
        residuals=" ".join(f"{residual:+.4f}" for residual in fitted.residuals),
        source=fitted.law.source,
    )


_NAMED_SHARE = 0.1


def _laws_in_words(curve: Curve) -> str | None:
    """The weights of the laws of a curve, heaviest first, from a tenth on."""
    if curve.choice is None:
        return None
    titles = {law.name: law.title for law in STACK}
    heavy = sorted(curve.choice.weights.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{titles[name]} {share:.0%}" for name, share in heavy if share >= _NAMED_SHARE)


def prediction_rows(curves: Sequence[Curve]) -> list[PredictionRow]:
    """A row per predicted rank count.

    Efficiency is relative to the curve's baseline. Node-hours per epoch are end to end: the median wall time outside of
    steady steps, at the largest measured count, is added to the steps. They need runs that finished an epoch.
    """
    return [_prediction_row(curve, ahead) for curve in curves for ahead in curve.predictions]


def _prediction_row(curve: Curve, ahead: ThroughputForecast) -> PredictionRow:
    ideal = curve.baseline.ideal_throughput(ahead.ranks) if curve.baseline else None
    largest = [run.measured for run in curve.points[-1].runs]

    def share(throughput: float | None) -> float | None:
        return throughput / ideal if ideal and throughput else None

    def node_hours(throughput: float | None) -> float | None:
        seconds = [run.epoch_seconds(throughput) for run in largest] if throughput else []
        known = [value for value in seconds if value is not None]
        return median(known) * ahead.nodes / 3600 if known else None

    return PredictionRow(
        series=curve.label,
        laws=_laws_in_words(curve),
        ranks=ahead.ranks,
        nodes=ahead.nodes,
        samples_per_second=ahead.throughput,
        samples_per_second_low=ahead.low,
        samples_per_second_high=ahead.high,
        efficiency=share(ahead.throughput),
        efficiency_low=share(ahead.low),
        efficiency_high=share(ahead.high),
        node_hours_per_epoch=node_hours(ahead.throughput),
        node_hours_per_epoch_low=node_hours(ahead.high),
        node_hours_per_epoch_high=node_hours(ahead.low),
        cliff_probability=ahead.cliff_probability,
        caution=ahead.caution,
    )


def process_rows(curves: Sequence[Curve]) -> list[ProcessRow]:
    """A row per process of every measured run."""
    return [
        ProcessRow(
            series=curve.label,
            ranks=point.ranks,
            run=run.facts.id,
            rank=process.rank,
            node=run.measured.node_of.get(process.rank, "?"),
            seconds_per_step=process.seconds,
            own_seconds_per_step=process.own_seconds,
            busy_seconds_per_step=process.busy_seconds,
            input_wait_seconds=process.input_wait_seconds,
            variation=process.variation,
            stage=process.stage,
            transfer_seconds=process.transfer_seconds,
            bubble_seconds=process.bubble_seconds,
        )
        for curve in curves
        for point in curve.points
        for run in point.runs
        for process in run.measured.processes
    ]


def median_run(runs: Sequence[MeasuredRun]) -> MeasuredRun:
    """The run that stands for a point in the report's tables: of the (lower) median throughput, no average."""
    return sorted(runs, key=lambda run: run.measured.samples_per_second)[(len(runs) - 1) // 2]


def loss_rows(curves: Sequence[Curve]) -> list[LossRow]:
    """The loss curve of the median run of each point."""
    found = []
    for curve in curves:
        for point in curve.points:
            run = median_run(point.runs)
            loss = run.measured.loss
            if loss is not None:
                triples = zip(loss.samples, loss.seconds, loss.loss, strict=True)
                head = (curve.label, point.ranks, run.facts.id)
                found += [LossRow(*head, float(s), float(t), float(value)) for s, t, value in triples]
    return found


def metric_rows(curves: Sequence[Curve]) -> list[MetricRow]:
    """The metrics at the end of each epoch of the median run of each point."""
    return [
        MetricRow(
            series=curve.label,
            ranks=point.ranks,
            run=run.facts.id,
            epoch=epoch.epoch,
            samples=epoch.samples,
            seconds=epoch.seconds,
            metric=name,
            value=value,
        )
        for curve in curves
        for point in curve.points
        for run in [median_run(point.runs)]
        for epoch in run.measured.epochs
        for name, value in epoch.metrics.items()
    ]


def tables(analysis: Analysis) -> dict[str, pl.DataFrame]:
    """Every table by its file name."""
    curves = analysis.curves
    found: dict[str, Sequence[Row]] = {
        "runs": run_rows(analysis.runs, series_of_runs(curves)),
        "points": point_rows(curves),
        "contrasts": contrast_rows(analysis.contrasts),
        "laws": law_rows(curves),
        "predictions": prediction_rows(curves),
        "processes": process_rows(curves),
        "stages": stage_rows(curves),
        "grid": grid_rows(curves),
        "loss": loss_rows(analysis.drawable),
        "metrics": metric_rows(analysis.drawable),
        "findings": [FindingRow(found.kind.value, found.hides, found.text) for found in analysis.findings],
    }
    return {name: to_frame(rows) for name, rows in found.items()}


def series_of_runs(curves: Sequence[Curve]) -> dict[str, str]:
    """The label of the curve in the report's tables, by the id of each measured run."""
    return {run.facts.id: curve.label for curve in curves for run in curve.group.runs}
