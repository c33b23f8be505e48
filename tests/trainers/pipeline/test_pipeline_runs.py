"""Pipelines as ``saman run`` starts them: over Gloo with measured cuts, and with a stage that is killed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from pipeline_cases import CASES, on_grid
from rank_starts import HERE, distance, experiment, final, make_run, train

from saman.configs.loading.experiments import LoadedExperiment
from saman.configs.schemas.experiment import Experiment
from saman.launcher.local import run_locally
from saman.launcher.planning import Options
from saman.launcher.supervision.outcome import Outcome
from saman.runs.events import State

pytestmark = [pytest.mark.ranks, pytest.mark.slow]


def ran(what: Experiment, folder: Path) -> Outcome:
    return run_locally(LoadedExperiment(what, HERE / "experiment.yaml", (HERE,)), Options(runs_dir=folder))


def started_by(what: Experiment, starter: str, **changes: object) -> Experiment:
    values = copy.deepcopy(what.resolved())
    values["launch"]["with"] = starter
    for part, more in changes.items():
        values[part].update(more)
    return Experiment.model_validate(values)


def test_processes_over_gloo_with_measured_cuts_take_the_same_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    case, _ = CASES["skips"]
    reference = make_run(tmp_path, experiment(case, "single", 1))
    train(1, reference)
    outcome = ran(started_by(on_grid(case, 2, 1, {"cuts": "auto"}), "processes"), tmp_path / "runs")
    assert outcome.state is State.COMPLETED, outcome.message
    assert distance(final(outcome.run), final(reference)) <= 1e-10
    [said] = [event.facts for event in outcome.run.events() if "predicted" in event.facts]
    assert len(said["cuts"]) == 1
    assert len(said["predicted"]["memory_bytes"]) == 2
    assert (outcome.run.export / "export.json").is_file()


@pytest.mark.mpi
@pytest.mark.parametrize("starter", ["processes", "mpirun"])
def test_a_stage_that_is_killed_is_named_and_nobody_waits_for_it(starter: str, tmp_path: Path) -> None:
    case, cuts = CASES["skips"]
    what = started_by(
        on_grid(case, 2, 1, {"cuts": cuts[2]}, early_stop=None),
        starter,
        data={"source": "pipeline_cases:deadly", "shuffle": False, "validation_fraction": 0},
    )
    outcome = ran(what, tmp_path / "runs")
    assert outcome.state is State.FAILED
    assert "rank 1" in outcome.message and "first" in outcome.message
    assert "rank 0" not in outcome.message.partition("first")[0]
    ended = {event.kind: event.time for event in outcome.run.events()}
    killed = next(e.time for e in outcome.run.events() if e.kind == "rank_exited" and e.facts.get("rank") == 1)
    assert ended["failed"] - killed < 30
