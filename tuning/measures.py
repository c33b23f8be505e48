"""The objectives of a run: from its epochs, its summary and the record of its export."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from saman.configs.schemas.tuning import TuningObjective
from saman.runs.events import Event
from saman.runs.folder import RunFolder
from saman.runs.ranks.training_events import EpochEnd
from saman.runs.records.export import ExportRecord


def epoch_values(events: Sequence[Event], objective: TuningObjective) -> dict[int, float]:
    """The objective by epoch; a value that is not finite is NaN. Epochs after a restart replace those before it.

    With ``of: best`` each epoch has the best value so far.
    """
    found: dict[int, float] = {}
    for ended in (epoch for event in events if (epoch := EpochEnd.from_event(event)) is not None):
        if objective.metric in ended.metrics:
            value = ended.metrics[objective.metric]
            found[ended.epoch] = math.nan if value is None or not math.isfinite(value) else value
    ordered = dict(sorted(found.items()))
    return ordered if objective.of == "last" else _best_so_far(ordered, objective)


def _best_so_far(values: Mapping[int, float], objective: TuningObjective) -> dict[int, float]:
    better = max if objective.goal == "maximize" else min
    found: dict[int, float] = {}
    best = math.nan
    for epoch, value in values.items():
        best = value if math.isnan(best) else best if math.isnan(value) else better(best, value)
        found[epoch] = best
    return found


def final_values(run: RunFolder, objectives: Sequence[TuningObjective]) -> list[float | None]:
    """Each objective of a completed run; NaN if it is not finite, ``None`` if the run did not report it."""
    events = run.events()
    return [_final(run, events, objective) for objective in objectives]


def _final(run: RunFolder, events: Sequence[Event], objective: TuningObjective) -> float | None:
    if not objective.is_measure:
        values = list(epoch_values(events, objective).values())
        return values[-1] if values else None
    if objective.metric == "parameters":
        count = ExportRecord.read(run.exported.record).parameters if run.exported.record.is_file() else None
        return None if count is None else float(count)
    summary = run.summary()
    if summary is None:
        return None
    return summary.samples_per_second if objective.metric == "samples_per_second" else summary.seconds
