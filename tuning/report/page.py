"""The page of a tuning study: what was found, at which cost, and the figures and tables behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from saman.scaling.report.writer import CellKind, Column, Page, Table, TableKind, write_report
from saman.tuning.confirmation import mean_interval
from saman.tuning.report.figures import make_figures
from saman.tuning.study import TuningResult
from saman.tuning.trials import Trial, counted, losses, outcomes

_MOST_ROWS = 100
_METHOD = (
    "tables/ has every trial as CSV and Parquet. The value of the best of many trials flatters it; the mean over other "
    "seeds does not. Intervals of means: Student's t, 95 %."
)


def write_page(result: TuningResult, folder: Path, papers: bool = True) -> Path:
    """Write the page of a study, with its tables, and its figures as files.

    Args:
        result: The study as it stands.
        folder: Where the page goes; made if missing.
        papers: Whether to write figures as files too.

    Returns:
        The path of the page.

    Raises:
        EnvironmentLack: The folder cannot be written, or the library of the figures is missing.
    """
    return write_report(make_page(result, folder), folder, papers)


def make_page(result: TuningResult, folder: Path) -> Page:
    """The content of the page."""
    study, trials = result.plan.study, result.trials
    goal = ", ".join(f"{objective.goal} {objective.metric}" for objective in study.objectives)
    command = f"saman tune {result.plan.file} --dry-run --page {folder}"
    return Page(
        title=f"Tuning {study.name}",
        subtitle=f"{goal}; {study.sampler.name} sampler, {study.pruner.name} pruner, seed {study.seed}",
        opening=tuple(_opening(result)),
        findings=(),
        figures=make_figures(study, trials, result.importances),
        tables=tuple(table for table in (_seed_table(result), _trial_table(result)) if table is not None),
        provenance={
            "Search space": [(f"{key}: {_range(part.model_dump(mode='json'))}", 0) for key, part in study.space.items()]
        },  # fmt: skip
        command=command,
        data={"trials": _frame(result)},
        rerun=(f"saman tune {result.plan.file}",),
        method=_METHOD,
    )


def _opening(result: TuningResult) -> list[str]:
    study, best = result.plan.study, result.best
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes(result.trials).items())
    again = sum(trial.retries for trial in result.trials)
    found = [
        f"{len(counted(result.trials))} trials: {counts or 'none'}; {again} starts after a trial was killed or failed; "
        f"{result.node_hours:.3g} node-hours."
    ]
    if best is None or best.values is None:
        return [*found, "No trial is complete yet."]
    values = ", ".join(f"{key} {_text(value)}" for key, value in best.settings.items())
    scores = ", ".join(f"{each.metric} {value:.5g}" for each, value in zip(study.objectives, best.values, strict=True))
    if result.front:
        found.append(f"{len(result.front)} trials form the Pareto front.")
    found.append(f"Best trial {best.number}: {scores}, with {values}.")
    return [*found, *_confirmed(result)]


def _confirmed(result: TuningResult) -> list[str]:
    if result.confirmed is None:
        return []
    values = [each.value for each in result.confirmed.seeds if each.value is not None]
    low, high = mean_interval(values)
    published = result.confirmed.published
    found = []
    if values:
        interval = "" if low is None or high is None else f" (95 % interval {low:.5g} to {high:.5g})"
        metric = result.plan.study.objectives[0].metric
        found.append(f"With {len(values)} seeds the mean {metric} is {sum(values) / len(values):.5g}{interval}.")
    if published.version is None:
        return [*found, f"Not published: {published.reason}."]
    return [*found, f"Published as {published.model} version {published.version}, from run {published.run}."]


def _seed_table(result: TuningResult) -> Table | None:
    if result.confirmed is None:
        return None
    metric = result.plan.study.objectives[0].metric
    columns = (Column("seed", main=True), Column(metric, main=True), Column("run", CellKind.TEXT))
    rows = tuple(
        (str(each.seed), "–" if each.value is None else f"{each.value:.5g}", each.run)
        for each in result.confirmed.seeds
    )
    return Table(TableKind.SEEDS, "The best trial with other seeds.", columns, rows)


def _trial_table(result: TuningResult) -> Table | None:
    if not result.trials:
        return None
    study = result.plan.study
    shown = best_first(result)[:_MOST_ROWS]
    columns = (
        Column("trial", main=True),
        *(Column(objective.metric, main=True) for objective in study.objectives),
        *(Column(key, CellKind.TEXT) for key in study.space),
        Column("outcome", CellKind.TEXT),
        Column("epochs"),
        Column("starts"),
        Column("node-hours"),
        Column("detail", CellKind.LONG_TEXT),
    )
    rows = tuple(_row(result, trial) for trial in shown)
    more = len(counted(result.trials)) - len(shown)
    note = f"The best {len(shown)} trials; tables/trials.csv has all." if more else "All trials, best first."
    return Table(TableKind.TRIALS, note, columns, rows)


def best_first(result: TuningResult) -> list[Trial]:
    """The trials as the page lists them: the complete ones from the best, then those that ran longest."""
    objectives = result.plan.study.objectives

    def key(trial: Trial) -> tuple[bool, tuple[float, ...], int, int]:
        return trial.values is None, losses(trial, objectives), -len(trial.epochs), trial.number

    return sorted(counted(result.trials), key=key)


def _row(result: TuningResult, trial: Trial) -> tuple[str, ...]:
    study = result.plan.study
    values = [f"{value:.5g}" for value in trial.values] if trial.values else ["–"] * len(study.objectives)
    return (
        str(trial.number),
        *values,
        *(_text(trial.settings.get(key)) for key in study.space),
        str(trial.outcome),
        str(len(trial.epochs) or "–"),
        str(trial.retries + 1),
        f"{trial.node_hours:.3g}",
        trial.detail,
    )


def _frame(result: TuningResult) -> pl.DataFrame:
    study = result.plan.study
    rows = []
    for trial in result.trials:
        values: Sequence[float | None] = trial.values or [None] * len(study.objectives)
        rows.append(
            {
                "trial": trial.number,
                "outcome": trial.outcome.value,
                **{each.metric: value for each, value in zip(study.objectives, values, strict=True)},
                **{key: _text(trial.settings.get(key)) for key in study.space},
                "epochs": len(trial.epochs),
                "retries": trial.retries,
                "pruned_at": trial.pruned_at,
                "continues": trial.continues,
                "node_hours": trial.node_hours,
                "run": trial.run,
                "detail": trial.detail,
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def _range(part: Mapping[str, object]) -> str:
    if "choices" in part:
        return json.dumps(part["choices"])
    kind = ", logarithmic" if part.get("log") else f", step {part['step']}" if part.get("step") else ""
    return f"{part['low']} to {part['high']}{kind}"


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
