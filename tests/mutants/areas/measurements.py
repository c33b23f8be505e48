"""Mutations of measurements: findings 5, 6 and 9 to 14 of the audit of numbers, put back into the code."""

from __future__ import annotations

from tests.mutants.mutation import Mutation

ANALYSIS, STATISTICS, SIMULATION = (f"tests/scaling/{name}" for name in ("analysis", "statistics", "simulation"))

MUTATIONS = (
    Mutation(
        "finding 5: throughput is a median of windows",
        "runs/telemetry/throughput.py",
        "sustained=sum(count for count, _ in counted) / sum(taken for _, taken in counted)",
        "sustained=quantile(rates, 0.5)",
        "tests/runs/telemetry/test_throughput.py::test_a_stall_shows_in_the_report",
    ),
    Mutation(
        "finding 5: cost leaves validation and checkpoints out",
        "scaling/analysis/results.py",
        "end_to_end_rate(telemetry.all_samples, wall.seconds) if wall else None",
        "end_to_end_rate(telemetry.all_samples, float(telemetry.seconds.sum())) if wall else None",
        "tests/runs/telemetry/test_wall_time.py::test_validation_and_checkpoints_lower_the_end_to_end_rate_only",
    ),
    Mutation(
        "finding 6: shared cores are ignored",
        "scaling/analysis/results.py",
        "cores_shared=placement.cores_shared if placement else False",
        "cores_shared=False",
        f"{ANALYSIS}/test_shared_cores.py::test_ranks_that_take_turns_are_a_finding_and_a_curve_of_their_own",
    ),
    Mutation(
        "finding 6: forecasts go on across shared cores",
        "scaling/analysis/curves.py",
        "        if wanted > facts.node_cores:",
        "        if False:",
        f"{ANALYSIS}/test_shared_cores.py::test_no_forecast_is_made_across_the_boundary",
    ),
    Mutation(
        "finding 9: the mean over a window is taken for a step",
        "scaling/simulation/jitter.py",
        "scale = 1 / (1 / steps[1:] + 1 / steps[:-1])",
        "scale = 0.5",
        f"{SIMULATION}/test_calibration.py::"
        "test_the_wait_for_the_slowest_of_1024_is_that_of_single_steps_whatever_the_windows",
    ),
    Mutation(
        "finding 9: a fit is called a check",
        "scaling/simulation/calibration.py",
        "    fitted = _links(alone, smaller)\n",
        "    fitted = _links(alone, places)\n",
        f"{SIMULATION}/test_calibration.py::test_a_count_is_checked_against_a_simulation_that_did_not_see_it",
    ),
    Mutation(
        "finding 9: the wait for a straggler is negative",
        "scaling/simulation/engine.py",
        "np.maximum(np.concatenate(waits), 0.0)",
        "np.concatenate(waits) - 1e-3",
        f"{SIMULATION}/test_engine.py::test_the_wait_for_the_slowest_is_never_negative_and_nothing_on_a_single_rank",
    ),
    Mutation(
        "finding 10: an exchange longer than its step is believed",
        "runs/telemetry/reader.py",
        'exchange = np.where(impossible, np.nan, found["exchange_seconds"])',
        'exchange, impossible = found["exchange_seconds"], np.zeros_like(impossible)',
        "tests/runs/telemetry/test_stragglers.py::"
        "test_an_exchange_longer_than_the_step_is_a_finding_and_no_own_work_is_negative",
    ),
    Mutation(
        "finding 10: every step has the exchange of the first",
        "trainers/loop/step_times.py",
        "np.maximum(received - ready, 0.0))",
        "np.full(len(ready), max(received[0] - ready[0], 0.0)))",
        "tests/trainers/loop/test_step_times.py::test_the_parts_of_steps_add_up_to_the_time_between_stamps",
    ),
    Mutation(
        "finding 10: a straggler that appears later is not seen",
        "runs/telemetry/slow_spans.py",
        "    for part, slow in found:\n",
        "    for part, slow in found[:1]:\n",
        "tests/runs/telemetry/test_stragglers.py::test_a_rank_that_becomes_slow_late_is_named_with_its_node_and_steps",
    ),
    Mutation(
        "finding 10: the wait for a straggler of a part of the run counts as exchange",
        "scaling/conclusions/bounds.py",
        "    if in_parts or not point.stragglers:\n        return in_parts\n",
        "    if not point.stragglers:\n        return 0.0\n",
        "tests/scaling/conclusions/test_bounds.py::test_a_straggler_in_a_part_of_the_run_is_not_taken_for_exchange",
    ),
    Mutation(
        "finding 11: meters are read twice a run",
        "scaling/study/energy.py",
        "        while not self._over.wait(self._every):\n            self.sample()",
        "        self._over.wait()",
        "tests/scaling/study/test_energy.py::test_the_meter_reads_by_itself_while_the_run_lasts",
    ),
    Mutation(
        "finding 11: an hour of energy is the difference of two readings",
        "scaling/study/energy.py",
        "            if more is not None:\n                self.joules = (self.joules or 0.0) + more",
        "            self.joules = joules_between(self._first, now)",
        "tests/scaling/study/test_energy.py::test_an_hour_at_150_watts_is_540_kilojoules",
    ),
    Mutation(
        "finding 12: the ideal line starts at the smallest count",
        "scaling/report/figures/curve_figures.py",
        'ideal = [{"series": "ideal", "ranks": n, "value": n / baselines[0].ranks} for n in counts]',
        'ideal = [{"series": "ideal", "ranks": n, "value": n / counts[0]} for n in counts]',
        f"{ANALYSIS}/test_baselines.py::test_the_ideal_speedup_counts_from_the_ranks_of_the_baseline",
    ),
    Mutation(
        "finding 13: every run is tested for drift as if it were alone",
        "scaling/statistics/steady_state.py",
        "ascending <= false_alarms * np.arange(1, len(ascending) + 1) / len(ascending)",
        "ascending <= false_alarms",
        f"{STATISTICS}/test_false_alarms.py::test_stationary_studies_are_called_unsteady_as_rarely_as_stated",
    ),
    Mutation(
        "finding 14: intervals assume independent runs",
        "scaling/statistics/drift.py",
        "return self.p is not None and self.p <= DRIFT_SIGNIFICANCE",
        "return False",
        f"{STATISTICS}/test_correlated_runs.py::test_throughput_intervals_that_are_shown_and_wrong_are_rare",
    ),
)
