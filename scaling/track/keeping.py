"""Keeps score: appends forecasts and outcomes to the log of a folder of runs, and reads the track record from it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from saman.runs.forecast_log import (
    ForecastLog,
    ForecastRecord,
    OutcomeRecord,
    Predictor,
    append_forecasts,
    read_forecasts,
)
from saman.runs.locks import LockHeldError
from saman.runs.paths.runs_folder import forecast_log
from saman.scaling.analysis.analysis import Analysis
from saman.scaling.analysis.sources import ReportSource, read_source
from saman.scaling.pipelines.forecast import PipelineThroughput
from saman.scaling.stack.track_record import track_record
from saman.scaling.track.outcomes import new_outcomes
from saman.scaling.track.pipeline_records import pipeline_records
from saman.scaling.track.records import forecast_records

_log = logging.getLogger(__name__)


def read_log(runs_dir: Path) -> ForecastLog:
    """The track record of a folder of runs: its log of forecasts; empty without a log."""
    return read_forecasts(forecast_log(runs_dir))


def record_forecasts(
    analysis: Analysis, runs_dir: Path, pipelines: Sequence[PipelineThroughput] = ()
) -> tuple[ForecastRecord, ...]:
    """Append the forecasts of an analysis to the log.

    Args:
        analysis: With its predictions by scaling laws.
        runs_dir: Folder of the runs, which holds the log.
        pipelines: Forecasts of pipelines from the same runs.

    Returns:
        The records; none if the folder cannot be written, with a warning.
    """
    records = (*forecast_records(analysis), *pipeline_records(analysis, pipelines))
    return records if not records or _append(runs_dir, records) else ()


def read_and_settle(source: ReportSource, runs_dir: Path, predict_at: Sequence[int] | None = None) -> Analysis:
    """Read and analyse the runs of a source, and score the recorded forecasts that they answer.

    Args:
        source: A study or runs.
        runs_dir: Folder of the runs, which holds the log.
        predict_at: Rank counts to predict; by default those of the study.

    Returns:
        The analysis. Its intervals rest on the outcomes known before; its track record includes the new ones.
    """
    log = read_log(runs_dir)
    analysis = read_source(source, predict_at, log)
    outcomes = new_outcomes(analysis, log)
    if not outcomes or analysis.track is None:
        return analysis
    _append(runs_dir, outcomes)
    known = replace(log, outcomes=(*log.outcomes, *outcomes))
    machine = analysis.track.machine
    pipelines = track_record(known, machine, predictor=Predictor.PIPELINES)
    return replace(analysis, track=track_record(known, machine), pipeline_track=pipelines)


def _append(runs_dir: Path, records: tuple[ForecastRecord | OutcomeRecord, ...]) -> bool:
    try:
        append_forecasts(forecast_log(runs_dir), records)
    except (OSError, LockHeldError) as error:
        _log.warning("forecasts are not recorded in %s: %s", runs_dir, error)
        return False
    return True
