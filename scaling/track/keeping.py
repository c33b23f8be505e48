"""Keeps score: appends forecasts and outcomes to the log of a folder of runs, and reads the track record from it."""

from __future__ import annotations

import logging
from pathlib import Path

from saman.runs.locks import LockHeldError
from saman.runs.paths.runs_folder import forecast_log
from saman.runs.records.forecasts import ForecastLog, ForecastRecord, OutcomeRecord, append_forecasts, read_forecasts
from saman.scaling.analysis.analysis import Analysis
from saman.scaling.stack.track_record import TrackRecord, track_record
from saman.scaling.track.records import forecast_records, new_outcomes

_log = logging.getLogger(__name__)


def read_log(runs_dir: Path) -> ForecastLog:
    """The log of forecasts of a folder of runs; empty without a log."""
    return read_forecasts(forecast_log(runs_dir))


def record_forecasts(analysis: Analysis, runs_dir: Path) -> tuple[ForecastRecord, ...]:
    """Append the forecasts of an analysis to the log.

    Returns:
        The records; none if the folder cannot be written, with a warning.
    """
    records = forecast_records(analysis)
    return records if not records or _append(runs_dir, records) else ()


def settle_forecasts(analysis: Analysis, runs_dir: Path) -> tuple[OutcomeRecord, ...]:
    """Score the recorded forecasts whose cells are in an analysis now, and append their outcomes to the log.

    Returns:
        The new outcomes, also where the folder cannot be written.
    """
    outcomes = new_outcomes(analysis, read_log(runs_dir))
    if outcomes:
        _append(runs_dir, outcomes)
    return outcomes


def record_of_machine(analysis: Analysis, log: ForecastLog) -> TrackRecord | None:
    """The track record of the machine of an analysis; None without a measured run."""
    runs = analysis.measured_runs
    return track_record(log, runs[0].facts.hardware) if runs else None


def _append(runs_dir: Path, records: tuple[ForecastRecord | OutcomeRecord, ...]) -> bool:
    try:
        append_forecasts(forecast_log(runs_dir), records)
    except (OSError, LockHeldError) as error:
        _log.warning("forecasts are not recorded in %s: %s", runs_dir, error)
        return False
    return True
