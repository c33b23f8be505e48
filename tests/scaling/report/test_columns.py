"""The columns of a report's tables stay the same: notebooks and scripts read them by name."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from staged import Split, write_pipelines
from synthetic import Made, curve, write_runs

from saman.scaling.analysis.analysis import analyse
from saman.scaling.analysis.results import read_runs
from saman.scaling.report.pages import study_page

COLUMNS = {
    "runs": (
        "run series strategy ranks nodes global_batch cores_per_rank state counts problem samples_per_second "
        "end_to_end_samples_per_second window_median window_p5 window_p95 step_seconds "
        "exchange_seconds input_wait_seconds windows windows_dropped_at_start "
        "steady_state windows_compiled windows_incomplete windows_repeated "
        "lines_torn records_of_other_schema records_not_finite goodput failures lost_to_failures_seconds "
        "lost_to_restarts_seconds lost_to_checkpoints_seconds lost_to_waiting_seconds "
        "joules hardware software placement again"
    ),
    "points": (
        "series drawn scaling ranks nodes repeats samples_per_second samples_per_second_low "
        "samples_per_second_high samples_per_second_coverage samples_per_second_note end_to_end_samples_per_second "
        "cpu_seconds_per_sample core_bound_samples_per_second window_median window_p5 window_p95 speedup speedup_low "
        "speedup_high speedup_coverage speedup_note efficiency efficiency_low efficiency_high "
        "efficiency_coverage efficiency_note step_seconds step_seconds_low step_seconds_high "
        "step_seconds_coverage step_seconds_note base karp_flatt compute_seconds exchange_seconds "
        "input_wait_seconds between_stages_seconds joules_per_sample outliers stragglers variation_per_node "
        "runs"
    ),
    "contrasts": (
        "ranks series against ratio ratio_low ratio_high ratio_coverage ratio_note p p_corrected different verdict"
    ),
    "laws": (
        "series law chosen weight one_rank_samples_per_second parameter value low high unit "
        "note largest_residual residuals source"
    ),
    "predictions": (
        "series law ranks nodes samples_per_second low high efficiency efficiency_low efficiency_high "
        "node_hours_per_epoch node_hours_low node_hours_high caution cliff_probability"
    ),
    "processes": (
        "series ranks run rank node seconds_per_step own_seconds_per_step busy_seconds_per_step "
        "input_wait_seconds variation stage transfer_seconds bubble_seconds"
    ),
    "loss": ("series ranks run samples seconds loss"),
    "metrics": ("series ranks run epoch samples seconds metric value"),
    "findings": ("kind hides_a_curve text"),
    "rules": ("number rule met evidence missing"),
    "stages": (
        "series stages replicas ranks nodes micro_batches repeats stage layers busy_seconds busy_seconds_low "
        "busy_seconds_high busy_seconds_per_micro_batch busy_seconds_per_micro_batch_low "
        "busy_seconds_per_micro_batch_high predicted_seconds_per_micro_batch bubble_share bubble_share_low "
        "bubble_share_high waiting_seconds waiting_seconds_low waiting_seconds_high transfer_seconds "
        "transfer_seconds_low transfer_seconds_high exchange_seconds exchange_seconds_low "
        "exchange_seconds_high input_wait_seconds input_wait_seconds_low input_wait_seconds_high "
        "memory_over_start_bytes memory_over_start_bytes_low memory_over_start_bytes_high "
        "predicted_memory_bytes memory_against_predicted pass_cpu_seconds pass_cpu_seconds_low pass_cpu_seconds_high"
    ),
    "grid": (
        "case stages replicas ranks nodes repeats samples_per_second samples_per_second_low "
        "samples_per_second_high samples_per_second_coverage samples_per_second_note speedup speedup_low "
        "speedup_high speedup_coverage speedup_note efficiency efficiency_low efficiency_high "
        "efficiency_coverage efficiency_note bubble_share base drawn"
    ),
    "bounds": (
        "series ranks bound share evidence change expected_gain tried_in gain_found gain_found_low gain_found_high "
        "gain_found_coverage gain_found_note verdict"
    ),
    "time_to_accuracy": (
        "series ranks global_batch repeats reached epochs epochs_low epochs_high epochs_coverage epochs_note samples "
        "samples_low samples_high samples_coverage samples_note seconds seconds_low seconds_high seconds_coverage "
        "seconds_note note"
    ),
    "batches": (
        "series batch smallest ratio_of_epochs ratio_of_epochs_low ratio_of_epochs_high ratio_of_epochs_coverage "
        "ratio_of_epochs_note p p_corrected verdict"
    ),
    "pipeline_predictions": (
        "series stages replicas ranks nodes micro_batches step_seconds samples_per_second low high speedup "
        "base bubble_share exchange_seconds node_hours_per_epoch measured error caution "
        "imbalance_seconds transfer_seconds case"
    ),
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    """The tables of a study with two strategies, pipelines and a finding."""
    folder = tmp_path_factory.mktemp("tables")
    base = Made(windows=15)
    runs = curve(base, (1, 2, 4), 0.02, 1) + curve(replace(base, strategy="multi_worker"), (1, 2, 4), 0.06, 1)
    runs += curve(replace(base, global_batch=512), (1, 2, 4), 0.02, 1)
    paths = write_runs(folder / "a", runs) + write_pipelines(folder / "b", [Split(replicas=n) for n in (1, 2, 4)])
    return dict(study_page(analyse(read_runs(paths)), "made", "saman report made").data)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_table_keeps_its_columns_in_order(tables: dict[str, pl.DataFrame], name: str) -> None:
    assert tables[name].columns == COLUMNS[name].split()


def test_no_table_is_missing_from_this_test(tables: dict[str, pl.DataFrame]) -> None:
    assert set(tables) == set(COLUMNS)
