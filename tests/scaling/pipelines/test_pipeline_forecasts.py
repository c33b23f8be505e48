"""Forecasts of pipelines against ranks that take turns on cores, simulated slice by slice without saman's formulas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from timesliced import Machine, Program, true_rate, write_cells

from saman.scaling.analysis.analysis import Analysis, analyse
from saman.scaling.analysis.results import read_runs
from saman.scaling.pipelines.forecast import PipelineThroughput, Unavailable, forecast
from saman.scaling.report.pages import study_page

CROWDED, ROOMY = Machine(cores=2), Machine(cores=8)
EVEN, UNEVEN = Program(), Program(uneven=0.4)


def _grid(base: Program, most_ranks: int = 4, micro_batches: Sequence[int] = (4, 8)) -> list[Program]:
    return [
        replace(base, stages=stages, replicas=replicas, micro_batches=count)
        for stages in (1, 2)
        for replicas in (1, 2, 4)
        for count in micro_batches
        if stages * replicas <= most_ranks
    ]


def _analysed(folder: Path, cells: Sequence[Program], machine: Machine) -> Analysis:
    return analyse(read_runs(write_cells(folder, cells, machine)))


def _truth(cell: PipelineThroughput, base: Program, machine: Machine) -> float:
    made = replace(base, stages=cell.stages, replicas=cell.replicas, micro_batches=cell.micro_batches)
    return true_rate(made, machine, steps=8)


# ---- the truth of pipelines that were not run --------------------------------------------------------------------


@pytest.mark.parametrize("machine", [CROWDED, ROOMY, Machine(cores=2, contention=0.3)], ids=str)
@pytest.mark.parametrize("base", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_nine_of_ten_truths_lie_in_the_intervals_on_cores_that_are_shared_and_not(
    tmp_path: Path, machine: Machine, base: Program
) -> None:
    found = _analysed(tmp_path, _grid(base), machine)
    ahead = forecast(found.drawable, [4, 8], [4, 8, 16], [1, 2]).predictions
    truths = [_truth(cell, base, machine) for cell in ahead]
    inside = [cell.low <= truth <= cell.high for cell, truth in zip(ahead, truths, strict=True)]
    errors = sorted(abs(cell.samples_per_second / truth - 1) for cell, truth in zip(ahead, truths, strict=True))
    assert len(ahead) >= 10
    assert sum(inside) >= 0.9 * len(inside)
    assert errors[len(errors) // 2] <= 0.12
    assert (
        max(cell.high / cell.low for cell in ahead if cell.ranks == 4 and cell.micro_batches < 16) < 2
    )  # and they say much


def test_a_rank_that_waits_for_its_turn_does_no_work(tmp_path: Path) -> None:
    """Four ranks on two cores: their passes last twice as long, and their CPU seconds stay the same."""
    found = _analysed(tmp_path, _grid(EVEN), CROWDED)
    [beside] = forecast(found.drawable, [8], [4], [2]).predictions
    twice = 2 * max(_truth(cell, EVEN, CROWDED) for cell in forecast(found.drawable, [2], [4], [2]).predictions)
    assert beside.samples_per_second < 0.75 * twice  # two cores do not become eight


def test_imbalance_is_told_apart_from_transfer(tmp_path: Path) -> None:
    uneven = _analysed(tmp_path / "u", _grid(UNEVEN), ROOMY)
    slow = _analysed(tmp_path / "s", _grid(replace(EVEN, send=2e-3)), ROOMY)
    [split] = forecast(uneven.drawable, [2], [8], [2]).predictions
    [sending] = forecast(slow.drawable, [2], [8], [2]).predictions
    assert split.imbalance_seconds > 3 * split.transfer_seconds
    assert sending.transfer_seconds > 3 * sending.imbalance_seconds


@pytest.mark.parametrize(
    "base",
    [replace(EVEN, loading=8e-3, sums=5e-3), replace(EVEN, pause=0.2)],
    ids=["costs that replicas do not divide", "windows with pauses"],
)
def test_what_is_no_pass_is_forecast_too(tmp_path: Path, base: Program) -> None:
    """A wait for input that every rank has whatever its examples, sums of a rank without peers, and stalls."""
    found = _analysed(tmp_path, _grid(base), ROOMY)
    ahead = forecast(found.drawable, [8], [4, 8], [1, 2]).predictions
    assert len(ahead) == 4
    for cell in ahead:
        truth = true_rate(
            replace(base, stages=cell.stages, replicas=cell.replicas, micro_batches=cell.micro_batches), ROOMY, steps=9
        )
        assert cell.low <= truth <= cell.high
        assert cell.samples_per_second == pytest.approx(truth, rel=0.06)


def test_a_number_of_stages_never_run_follows_the_profiled_shares(tmp_path: Path) -> None:
    found = _analysed(tmp_path, _grid(EVEN), ROOMY)
    [cell] = forecast(found.drawable, [4], [8], [4], lambda runs, stages: (1.0,) * stages).predictions
    assert cell.low <= true_rate(replace(EVEN, stages=4, micro_batches=8), ROOMY) <= cell.high
    none = forecast(found.drawable, [4], [8], [4], lambda runs, stages: Unavailable("the layers were not measured"))
    assert none.predictions == ()
    assert none.left_out == ("pipeline, 4 stages: the layers were not measured",)


# ---- refusals -----------------------------------------------------------------------------------------------------


def test_a_model_that_misses_its_runs_by_more_than_a_quarter_predicts_nothing(tmp_path: Path) -> None:
    cells = [replace(cell, work=cell.work * (2.4 if cell.replicas == 2 else 1)) for cell in _grid(EVEN)]
    ahead = forecast(_analysed(tmp_path, cells, ROOMY).drawable)
    assert ahead.predictions == ()
    assert any("does not describe these runs" in text for text in ahead.left_out)


def test_a_refusal_names_the_cells_beside_which_other_programs_ran(tmp_path: Path) -> None:
    """Their passes lasted longer than their CPU seconds, although every rank had a core of its own."""
    paths = write_cells(tmp_path, _grid(EVEN), ROOMY)
    for file in paths[3].glob("attempts/1/telemetry/*.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            line["seconds"] += line["pass_seconds"]
            line["pass_seconds"] *= 2
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (reason,) = forecast(analyse(read_runs(paths)).drawable).left_out
    named = reason.partition("other programs")[2]
    disturbed = _grid(EVEN)[3]
    assert f"{disturbed.stages} × {disturbed.replicas} with {disturbed.micro_batches} micro-batches (50%)" in named
    assert named.count("micro-batches") == 1


def test_two_cells_check_nothing_and_are_refused(tmp_path: Path) -> None:
    ahead = forecast(_analysed(tmp_path, _grid(EVEN)[:2], ROOMY).drawable)
    assert ahead.predictions == ()
    assert any("needs 3" in text for text in ahead.left_out)


def test_shared_cores_are_not_forecast_from_cores_of_their_own(tmp_path: Path) -> None:
    cells = [cell for cell in _grid(EVEN) if cell.ranks <= 2]
    ahead = forecast(_analysed(tmp_path, cells, CROWDED).drawable, [2, 4], [4], [2])
    assert [cell.ranks for cell in ahead.predictions] == [2]
    assert any("would share 2 cores" in text for text in ahead.left_out)


def test_wall_time_on_shared_cores_is_not_taken_for_work(tmp_path: Path) -> None:
    paths = write_cells(tmp_path, _grid(EVEN), CROWDED)
    for file in (file for path in paths for file in path.glob("attempts/1/telemetry/*.jsonl")):  # as older runs wrote
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        kept = [{key: value for key, value in line.items() if "cpu" not in key} for line in lines]
        file.write_text("".join(json.dumps(line) + "\n" for line in kept))
    ahead = forecast(analyse(read_runs(paths)).drawable)
    assert ahead.predictions == ()
    assert any("did not record CPU seconds" in text for text in ahead.left_out)


def test_requests_that_cannot_be_are_named(tmp_path: Path) -> None:
    found = _analysed(tmp_path, [cell for cell in _grid(EVEN) if cell.replicas == 1], ROOMY)
    ahead = forecast(found.drawable, [3, 6, 16], [4, 32], [2])
    assert any("the gradient sum is assumed to cost nothing" in text for text in ahead.assumes)
    assert any("3 ranks are not a multiple of the stages" in text for text in ahead.left_out)
    assert any("does not split over 3 replicas" in text for text in ahead.left_out)


# ---- a configuration has one predictor ------------------------------------------------------------------------------


def test_a_page_predicts_every_configuration_once(tmp_path: Path) -> None:
    found = _analysed(tmp_path, _grid(EVEN, micro_batches=(4,)), ROOMY)
    page = study_page(found, "made", "saman report made")
    by_law = (
        {(row["ranks"]) for row in page.data["predictions"].to_dicts()} if page.data["predictions"].height else set()
    )
    assert page.data["pipeline_predictions"].height > 0
    assert by_law == set()  # the laws would predict the same pipelines a second time
