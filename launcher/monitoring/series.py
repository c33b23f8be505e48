"""The metrics of a run: their names and meanings, from its vital signs. A value that is not known is absent. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from saman.launcher.monitoring.exposition import SampleValue, Series
from saman.launcher.monitoring.vitals import Vitals
from saman.launcher.supervision.progress import TrainingProgress


def series_of(vitals: Vitals) -> list[Series]:
    """Return the metrics of a run."""
    tally = vitals.tally
    found = [
        _one("saman_written_timestamp_seconds", "Unix time at which the supervisor wrote these metrics.", vitals.time),
        Series("saman_run_info", "State of the run.", (SampleValue(1.0, {"state": tally.state.value}),)),
        _one("saman_attempt", "Number of the newest attempt.", tally.attempt),
        _one("saman_restarts_total", "Attempts after the first.", tally.restarts, "counter"),
        _one("saman_world_size", "Ranks that take part now.", tally.ranks),
        _one("saman_recoveries_total", "Failures that an elastic run went on from.", tally.recoveries, "counter"),
        _one("saman_lost_ranks_total", "Ranks that an elastic run went on without.", tally.lost_ranks, "counter"),
        _one("saman_stalled", "1 while the ranks make no progress within the limit of their phase.", tally.stalled),
        _one(
            "saman_nonfinite_steps_total",
            "Steps with a gradient that was not finite.",
            tally.nonfinite_steps,
            "counter",
        ),
        _one("saman_rollbacks_total", "Returns to a checkpoint after such a step.", tally.rollbacks, "counter"),
        _one("saman_checkpoint_age_seconds", "Seconds since the newest checkpoint.", vitals.checkpoint_age_seconds),
        _one("saman_checkpoint_step", "Step of the newest checkpoint.", tally.checkpoint and tally.checkpoint[1]),
        _one("saman_time_limit_seconds_left", "Seconds until Slurm ends the job.", vitals.limit_seconds_left),
        _one("saman_goodput_ratio", "Time of steps that count, as a share of all time.", vitals.goodput),
        *_stragglers(vitals),
        *_gpus(vitals),
    ]
    return found + (_training(vitals.progress) if vitals.progress is not None else [])


def labels_of(vitals: Vitals) -> Mapping[str, str]:
    """Return the labels of all metrics of a run."""
    return {"experiment": vitals.experiment, "run": vitals.run}


def _training(progress: TrainingProgress) -> list[Series]:
    steps = progress.steps
    own, exchange, waited = (steps.own, steps.exchange, steps.input_wait) if steps else (None, None, None)
    metrics = tuple(SampleValue(value, {"metric": name}) for name, value in sorted(progress.metrics.items()))
    quantiles = {"0.5": steps.median, "0.95": steps.p95, "1": steps.longest} if steps else {}
    return [
        _one("saman_step", "Optimiser steps taken.", progress.step),
        _one("saman_steps_planned", "Optimiser steps of the whole run.", progress.total_steps),
        _one("saman_epoch", "The current epoch, counted from 1.", progress.epoch),
        _one("saman_seconds_left", "Estimate of the remaining training time.", progress.remaining_seconds),
        _one("saman_samples_per_second", "Sustained throughput over the newest windows.", progress.samples_per_second),
        Series(
            "saman_step_seconds",
            "Seconds per step: quantiles over the newest windows of the mean step of each.",
            tuple(SampleValue(value, {"q": name}) for name, value in quantiles.items()),
        ),
        _one("saman_own_seconds", "Own work per step of rank 0.", own),
        _one("saman_exchange_seconds", "Wait in the exchange per step of rank 0.", exchange),
        _one("saman_input_wait_seconds", "Wait for a batch per step of rank 0.", waited),
        _one("saman_loss", "Mean loss of the newest window.", progress.loss),
        Series("saman_metric", "Metrics of the newest epoch.", metrics),
        _one("saman_memory_bytes", "Peak memory of the process of rank 0.", progress.memory_bytes),
    ]


def _stragglers(vitals: Vitals) -> list[Series]:
    slow = sorted(vitals.tally.slow.items())
    samples = tuple(SampleValue(each.slower, {"rank": str(rank), "node": each.node}) for rank, each in slow)
    return [
        _one("saman_stragglers", "Ranks that hold up the others now.", len(slow)),
        Series("saman_straggler_ratio", "Excess of a slow rank over the median of its peers, as a share.", samples),
    ]


def _gpus(vitals: Vitals) -> list[Series]:
    def samples(name: str) -> tuple[SampleValue, ...]:
        values = ((gpu.index, getattr(gpu, name)) for gpu in vitals.gpus)
        return tuple(SampleValue(value, {"gpu": str(index)}) for index, value in values if value is not None)

    return [
        Series("saman_gpu_utilization_ratio", "Share of time in which a GPU computed.", samples("utilization")),
        Series("saman_gpu_memory_used_bytes", "Memory of a GPU in use.", samples("used_bytes")),
        Series("saman_gpu_memory_bytes", "Memory of a GPU.", samples("total_bytes")),
    ]


def _one(name: str, meaning: str, value: float | None, kind: str = "gauge") -> Series:
    samples = () if value is None else (SampleValue(float(value)),)
    return Series(name, meaning, samples, "counter" if kind == "counter" else "gauge")
