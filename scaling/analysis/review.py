"""Reviews runs and curves: a finding for each defect that a reader must know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from saman.runs.telemetry.reader import ExcludedWindows
from saman.runs.telemetry.slow_spans import SlowSpan, slow_spans
from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.findings import Finding, FindingKind
from saman.scaling.analysis.run_values import ExcludedRun, ExclusionReason, MeasuredRun, Run
from saman.scaling.statistics.drift import DriftTest
from saman.scaling.statistics.steady_state import FALSE_ALARMS, never_steady

_DIGITS = re.compile(r"\d[\d.,e+]*")  # measured numbers differ from run to run
_MOST_LISTED = 50  # excluded runs
_MOST_NAMED = 5  # runs within a sentence
CONTENTION_SHARE = 0.2  # growth of CPU seconds per sample from which ranks of a node are said to compete for memory
UNEVEN_SHARE = 0.05  # difference of sustained throughput and the median over windows from which a reader must know
_KIND_OF = {
    ExclusionReason.NO_TELEMETRY_OF_THIS_SCHEMA: FindingKind.OTHER_SCHEMA,
    ExclusionReason.INVALID_THROUGHPUT: FindingKind.INVALID_THROUGHPUT,
}


def review_runs(runs: Sequence[Run]) -> Iterable[Finding]:
    """Findings about excluded runs, defective records and runs without a steady state."""
    if not runs:
        yield Finding(FindingKind.NO_RUNS, "no runs were found")
    excluded = [run for run in runs if isinstance(run, ExcludedRun)]
    for run in excluded[:_MOST_LISTED]:
        name = f"run {run.facts.id} ({run.facts.strategy}, {_ranks(run.facts.ranks)})"
        kind = _KIND_OF.get(run.exclusion.reason, FindingKind.EXCLUDED_RUN)
        yield Finding(kind, f"{name} is excluded: {run.exclusion.text}")
    if len(excluded) > _MOST_LISTED:
        yield Finding(FindingKind.EXCLUDED_RUN, f"{len(excluded) - _MOST_LISTED} more runs are excluded")
    measured = [run for run in runs if isinstance(run, MeasuredRun)]
    yield from _review_records(measured)
    yield from _review_windows(measured)
    yield from _review_ranks(measured)
    yield from _review_data(measured)
    yield from _review_steps(measured)
    marks = never_steady([run.windows.steady for run in measured])
    unsteady = [run.facts.id for run, mark in zip(measured, marks, strict=True) if mark]
    if unsteady:
        text = f"{_runs(len(unsteady))} of {len(measured)} never reach a steady state: {_named(unsteady)}"
        rate = f"this is said of at most {FALSE_ALARMS:.0%} of studies in which all runs do"
        yield Finding(FindingKind.NOT_STEADY, f"{text} ({rate})")


def _review_windows(measured: Sequence[MeasuredRun]) -> Iterable[Finding]:
    """A finding about runs whose windows differ so much that their median is not the rate that was sustained."""
    uneven = [run for run in measured if abs(run.measured.throughput.excess_of_median) > UNEVEN_SHARE]
    if uneven:
        worst = max(uneven, key=lambda run: abs(run.measured.throughput.excess_of_median))
        rates = worst.measured.throughput
        yield Finding(
            FindingKind.UNEVEN_WINDOWS,
            f"in {_runs(len(uneven))} sustained throughput and the median over windows differ by more than "
            f"{UNEVEN_SHARE:.0%}, most in {worst.facts.id}: {rates.sustained:,.4g} samples/s sustained, windows have a "
            f"median of {rates.median:,.4g} (5 % to 95 %: {rates.p5:,.4g} to {rates.p95:,.4g}); "
            f"{_named([run.facts.id for run in uneven])}",
        )


def _review_ranks(measured: Sequence[MeasuredRun]) -> Iterable[Finding]:
    """A note about ranks that held up their peers during a part of a run."""
    found = [(run, slow) for run in measured for slow in _slow_spans(run)]
    if found:
        named = [
            f"{run.facts.id}: {slow.words}" for run, slow in sorted(found, key=lambda pair: -pair[1].straggler.slower)
        ]
        yield Finding(FindingKind.STRAGGLER, _named(named), note=True)


def _review_data(measured: Sequence[MeasuredRun]) -> Iterable[Finding]:
    """A note for what runs said about their data; the same remark of several runs is a single note."""
    runs_of: dict[str, list[MeasuredRun]] = {}
    for run in measured:
        for text in run.measured.data_notices:
            runs_of.setdefault(_DIGITS.sub("0", text), []).append(run)
    for said, runs in list(runs_of.items())[:_MOST_NAMED]:
        text = next(text for text in runs[0].measured.data_notices if _DIGITS.sub("0", text) == said)
        yield Finding(
            FindingKind.DATA, f"{_named(list(dict.fromkeys(run.facts.id for run in runs)))}: {text}", note=True
        )


def _review_steps(measured: Sequence[MeasuredRun]) -> Iterable[Finding]:
    """A note for options under which several ranks do not take the optimiser steps of a single rank."""
    runs_of: dict[str, list[str]] = {}
    for run in measured:
        for option in run.facts.inexact_options:
            runs_of.setdefault(option, []).append(run.facts.id)
    for option, names in runs_of.items():
        text = f"{_named(names)}: {option}: not the steps of a single rank; compare losses at equal accuracy only"
        yield Finding(FindingKind.OTHER_STEPS, text, note=True)


def _slow_spans(run: MeasuredRun) -> list[SlowSpan]:
    measured = run.measured
    return [] if measured.exchange_seconds is None else slow_spans(measured.processes, measured.node_of)


def _review_records(measured: Sequence[MeasuredRun]) -> Iterable[Finding]:
    """Findings about records of counted runs that were left out."""
    counts: tuple[tuple[FindingKind, str, Callable[[ExcludedWindows], int]], ...] = (
        (FindingKind.TORN_RECORDS, "torn lines", lambda windows: windows.torn),
        (FindingKind.OTHER_SCHEMA, "records of another schema version", lambda windows: windows.foreign_schema),
        (FindingKind.NOT_FINITE, "records with missing, zero or non-finite values", lambda windows: windows.not_finite),
        (FindingKind.INCOMPLETE_WINDOWS, "windows without all ranks", lambda windows: windows.incomplete),
    )
    impossible = [run for run in measured if run.windows.excluded.impossible_exchange]
    if impossible:
        lines = sum(run.windows.excluded.impossible_exchange for run in impossible)
        yield Finding(
            FindingKind.IMPOSSIBLE_EXCHANGE,
            f"{lines} records in {_runs(len(impossible))} have an exchange that is longer than the steps in which it "
            f"took place; their exchange counts as not measured: {_named([run.facts.id for run in impossible])}",
        )
    for kind, records, count in counts:
        affected = [run for run in measured if count(run.windows.excluded)]
        if affected:
            total = sum(count(run.windows.excluded) for run in affected)
            names = _named([run.facts.id for run in affected])
            yield Finding(kind, f"{total} {records} were left out in {len(affected)} runs: {names}")


def review_drift(drift: DriftTest) -> Iterable[Finding]:
    """A finding about runs that are not independent."""
    if drift.found:
        text = (
            f"{drift.words}: intervals of throughput are withheld, and runs of a repeat are compared with each other; "
            "more repeats, spread over more time, average the drift out"
        )
        yield Finding(FindingKind.DRIFT, text)


def review_outliers(curves: Sequence[Curve]) -> Iterable[Finding]:
    """One note about all outliers."""
    found = [
        f"{run} ({curve.label}, {_ranks(point.ranks)})"
        for curve in curves
        for point in curve.points
        for run in point.outliers
    ]
    if found:
        runs = "1 run is an outlier" if len(found) == 1 else f"{len(found)} runs are outliers"
        text = f"{runs} among their repeats, kept in all figures: {_named(found)}"
        yield Finding(FindingKind.OUTLIERS, text, note=True)


def review_curve(curve: Curve, base_ranks: int) -> Iterable[Finding]:
    """Findings about what a drawn curve lacks: a baseline, repeats, times per stage."""
    if not curve.group.is_drawable:
        return
    if curve.baseline is None:
        text = f"{curve.label}: no usable run on {_ranks(base_ranks)}; speed-up and efficiency are not shown"
        yield Finding(FindingKind.MISSING_BASELINE, text)
    single = [str(point.ranks) for point in curve.points if len(point.runs) == 1]
    if single:
        text = f"{curve.label}: a single repeat at {', '.join(single)} ranks; these points have no interval"
        yield Finding(FindingKind.SINGLE_REPEAT, text)
    yield from _review_cores(curve)
    if curve.group.strategy == "pipeline" and not all(point.stages for point in curve.points):
        text = f"{curve.label}: its telemetry has no times per stage; the table of stages lacks this curve"
        yield Finding(FindingKind.STAGES_UNKNOWN, text, note=True)


def _review_cores(curve: Curve) -> Iterable[Finding]:
    """Notes about the cores and the memory of nodes, which end scaling within a node."""
    if curve.group.cores_shared:
        facts = curve.group.runs[-1].facts
        counts = ", ".join(str(point.ranks) for point in curve.points)
        text = (
            f"{curve.label}: on {counts} ranks, ranks take turns on the {facts.node_cores or 'few'} cores of a node; "
            "these points are a curve of their own, and what they lose is not lost to the exchange"
        )
        yield Finding(FindingKind.SHARED_CORES, text, note=True)
    contention = curve.contention
    if contention is not None and contention.growth > CONTENTION_SHARE:
        text = (
            f"{curve.label}: a sample costs {contention.growth:.0%} more CPU time with {contention.many} ranks on a "
            f"node than with {contention.few}, though each has cores of its own: {_memory_words(curve)}"
        )
        yield Finding(FindingKind.CONTENTION, text, note=True)
    for refused in curve.refused:
        yield Finding(FindingKind.FORECAST_REFUSED, f"{curve.label}: {refused.words}", note=True)


def _memory_words(curve: Curve) -> str:
    """What the measured bandwidth says about samples that cost more on full nodes."""
    traffic = curve.memory_traffic
    if traffic is not None:
        return (
            f"memory bandwidth per core falls by {traffic.fall:.0%}; a sample spends {traffic.share:.0%} of its CPU "
            f"time on moving about {traffic.bytes_per_sample / 1e6:.3g} MB, and a node moves "
            f"{traffic.node_bytes_per_second / 1e9:.3g} GB/s, which is {traffic.samples_per_second:,.4g} samples/s"
        )
    if curve.group.runs[-1].facts.memory_bandwidth is not None:
        return "memory bandwidth per core hardly falls, so they compete for caches, or the clock of the cores falls"
    return "they compete for memory bandwidth or caches"


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"


def _ranks(count: int) -> str:
    return f"{count} rank{'s' if count != 1 else ''}"


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
