"""Trainings that go wrong: the step, the variable and the rank are named, and what follows is as asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_starts import HERE, distance, experiment, final, make_run, start
from training_cases import CASES

from saman.runs import checkpoints
from saman.runs.folder import RunFolder
from saman.runs.telemetry.reader import read_telemetry
from saman.runs.telemetry.window import read_windows

pytest.importorskip("tensorflow")

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

PLAIN: dict[str, Any] = CASES["plain"]
POISONED: dict[str, Any] = {**PLAIN, "data": {"source": "training_cases:poisoned"}}
CORRUPTED: dict[str, Any] = {**PLAIN, "model": {"build": "training_cases:corrupted"}}
OFTEN = {"every_steps": 2, "every_epochs": None, "keep": 50}


PROGRAM = """
import sys
from pathlib import Path
from saman.runs.folder import RunFolder
from saman.trainers import strategies
from saman.trainers.program import loss_scale
from saman.trainers.worker import SilentObserver
loss_scale.START = 2.0**24
sys.path.append(%r)
runs = [RunFolder.open(Path(path)) for path in sys.argv[1:]]
strategy = strategies.start(runs[0].experiment(), runs[0])
from saman.trainers.training import train
for run in runs:
    try:
        train(run, run.experiment(), strategy, 1, SilentObserver(), export=False)
    except Exception as error:
        with (runs[0].path / "said").open("a") as file:  # mpirun mixes what ranks print
            print(run.path, type(error).__name__, error, file=file)
strategy.close()
"""


def started(processes: int, *runs: RunFolder) -> str:
    """Train the runs one after the other in the same processes; return what these say of those that fail."""
    done = start(processes, "-c", PROGRAM % str(HERE), *[str(run.path) for run in runs])
    assert done.returncode == 0, done.stderr[-3000:]
    said = runs[0].path / "said"
    return said.read_text() if said.exists() else ""


def facts(run: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [dict(event.facts) for event in run.events() if event.kind == kind]


def poisoned(folder: Path, strategy: str, ranks: int, policy: str, **train: Any) -> RunFolder:
    wanted = {"checkpoint": OFTEN, "epochs": 2, "telemetry_window_steps": 3, "on_nonfinite": policy, **train}
    return make_run(folder, experiment(POISONED, strategy, ranks, **wanted))


@pytest.fixture(scope="module")
def on_one_rank(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """The same poisoned training under each policy, and a run in which half precision only needs a smaller scale."""
    folder = tmp_path_factory.mktemp("single")
    runs = {policy: poisoned(folder, "single", 1, policy) for policy in ("report", "rollback")}
    runs["gives up"] = poisoned(folder, "single", 1, "rollback", most_rollbacks=1)
    half = {"precision": "mixed_float16", "on_nonfinite": "stop", "learning_rate": 0.05, "epochs": 2}
    runs["half"] = make_run(folder, experiment(PLAIN, "single", 1, **half))
    (folder / "output").write_text(started(1, *runs.values()))
    return runs


def test_a_report_names_the_first_step_and_the_training_goes_on(on_one_rank: dict[str, RunFolder]) -> None:
    run = on_one_rank["report"]
    first = facts(run, "nonfinite")[0]
    assert first["ranks"] == [0] and first["action"] == "report" and 1 <= first["step"] <= 6
    assert "kernel" in first["variable"]
    assert checkpoints.find(run.checkpoints)[0].step == 12


def test_a_rollback_goes_to_the_checkpoint_before_and_leaves_the_batch_out(on_one_rank: dict[str, RunFolder]) -> None:
    run = on_one_rank["rollback"]
    found, back = facts(run, "nonfinite"), facts(run, "rolled_back")
    assert [event["action"] for event in found] == ["rollback", "rollback"]  # the example comes once in each epoch
    for event, rolled in zip(found, back, strict=True):
        assert rolled["skipped"] == event["step"] and event["step"] - 4 <= rolled["step"] < event["step"]
    newest = checkpoints.find(run.checkpoints)[0]
    position, arrays, _ = newest.read()
    assert position.step == 12 and position.skipped == tuple(event["step"] for event in found)
    assert all(np.isfinite(value).all() for value in arrays.values())
    iterations = next(value for name, value in arrays.items() if name.endswith("iterations"))
    assert int(iterations) == 12 - 2  # two steps were left out


def test_steps_that_a_rollback_repeats_count_once(on_one_rank: dict[str, RunFolder]) -> None:
    run = on_one_rank["rollback"]
    windows, _, repeated = read_windows(run, 0)
    assert repeated > 0
    taken = [step for window in windows for step in range(window.step - window.steps + 1, window.step + 1)]
    skipped = {event["skipped"] for event in facts(run, "rolled_back")}
    assert sorted(taken) == sorted(set(range(1, 13)) - skipped)
    read = read_telemetry(run.path)
    assert read.left_out.repeated == repeated and read.all_samples == 24 * 10


def test_rollbacks_end_at_their_limit(on_one_rank: dict[str, RunFolder]) -> None:
    run = on_one_rank["gives up"]
    assert [event["action"] for event in facts(run, "nonfinite")] == ["rollback", "stop"]
    output = (run.runs_dir / "output").read_text()
    assert f"{run.path} TrainingFailure" in output and "after 1 rollbacks (train.most_rollbacks)" in output
    newest = checkpoints.find(run.checkpoints)[0].read()[1]
    assert all(np.isfinite(value).all() for value in newest.values())


def test_a_loss_scale_that_is_too_large_is_no_failure(on_one_rank: dict[str, RunFolder]) -> None:
    run = on_one_rank["half"]
    state = final(run)
    assert float(state["loss_scale/value"]) < 2.0**24  # gradients overflowed, and the scale was halved
    assert facts(run, "nonfinite") == [] and checkpoints.find(run.checkpoints)[0].step == 14


@pytest.fixture(scope="module")
def on_three_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, RunFolder], str]:
    """Poisoned data under two policies; a rank whose memory loses a bit, compared every 5 steps, or by checkpoints."""
    folder = tmp_path_factory.mktemp("horovod")
    runs = {policy: poisoned(folder, "horovod", 3, policy) for policy in ("rollback", "stop")}
    for every in (5, 1000):
        wanted = {"epochs": 6, "compare_ranks_every": every, "checkpoint": {"every_epochs": 1, "keep": 50}}
        runs[f"every {every}"] = make_run(folder, experiment(CORRUPTED, "horovod", 3, **wanted))
    return runs, started(3, *runs.values())


@pytest.mark.mpi
@pytest.mark.ranks
def test_ranks_name_the_one_with_the_bad_gradient_and_leave_out_what_one_rank_leaves_out(
    on_one_rank: dict[str, RunFolder], on_three_ranks: tuple[dict[str, RunFolder], str]
) -> None:
    runs, output = on_three_ranks
    named = {event["step"]: event["ranks"] for event in facts(runs["rollback"], "nonfinite")}
    alone = on_one_rank["rollback"]
    assert list(named) == [event["step"] for event in facts(alone, "nonfinite")]
    assert all(len(ranks) == 1 for ranks in named.values())
    assert distance(final(runs["rollback"]), final(alone)) <= 1e-4
    ended = facts(runs["stop"], "nonfinite")
    assert [(event["step"], event["action"]) for event in ended] == [(min(named), "stop")]
    said = re.findall(rf"{re.escape(str(runs['stop'].path))} (\w+)", output)
    assert sorted(said) == ["PeerFailure", "PeerFailure", "TrainingFailure"]
    assert output.count(f"step {min(named)}: the gradient of dense/kernel is not finite on rank ") >= 3
    assert all(np.isfinite(value).all() for value in final(runs["stop"]).values())


@pytest.mark.mpi
@pytest.mark.ranks
@pytest.mark.parametrize("every", [5, 1000])
def test_a_rank_whose_weights_differ_is_named_before_it_spoils_a_checkpoint(
    every: int, on_three_ranks: tuple[dict[str, RunFolder], str]
) -> None:
    """Between two comparisons, each checkpoint compares too."""
    runs, output = on_three_ranks
    run = runs[f"every {every}"]
    assert f"{run.path} TrainingFailure" in output
    assert "the weights of rank 1 differ from those of the other ranks" in output
    (found,) = facts(run, "diverged")
    assert found["ranks"] == [1] and found["step"] == (25 if every == 5 else 28)
    assert checkpoints.find(run.checkpoints)[0].step == 21


@pytest.mark.ranks
@pytest.mark.parametrize("strategy", ["mirrored", "pipeline"])
def test_other_strategies_name_the_same_steps(strategy: str, on_one_rank: dict[str, RunFolder], tmp_path: Path) -> None:
    devices = 2 if strategy == "pipeline" else 1
    more = {"pipeline": {"stages": 2, "devices": "local"}} if strategy == "pipeline" else {"compare_ranks_every": 2}
    wanted = {"checkpoint": OFTEN, "epochs": 2, "telemetry_window_steps": 3, "on_nonfinite": "rollback", **more}
    run = make_run(tmp_path, experiment(POISONED, strategy, 2, devices, **wanted))
    assert str(run.path) not in started(1, run)
    alone = on_one_rank["rollback"]
    found = facts(run, "nonfinite")
    assert [event["step"] for event in found] == [event["step"] for event in facts(alone, "nonfinite")]
    assert all("kernel" in event["variable"] for event in found)
    assert distance(final(run), final(alone)) <= 1e-4


def test_ranks_of_a_pipeline_are_not_compared() -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match="compare_ranks_every: the ranks of a pipeline hold different layers"):
        experiment(PLAIN, "pipeline", 2, compare_ranks_every=10)
