"""Real ranks, killed with SIGKILL while each of them writes its share of a checkpoint beside its training."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from rank_starts import HERE, distance, experiment, final, make_run, start_of, train
from training_cases import CASES

from saman.configs.schemas.experiment import Experiment
from saman.runs import checkpoints
from saman.runs.folder import RunFolder

pytestmark = [pytest.mark.ranks, pytest.mark.mpi, pytest.mark.slow]
EVERY = 5


def wide() -> Experiment:
    """Adam on 14 MB of state, which two ranks share; a checkpoint every five of 21 steps, on a slow disk."""
    case = {**CASES["plain"], "model": {"build": "mlp", "args": {"classes": 4, "hidden": [1024, 1024]}}}
    values = experiment(
        case, "horovod", 2, optimizer="adam", checkpoint={"every_steps": EVERY, "every_epochs": None, "keep": 9}
    ).resolved()
    values["data"]["source"] = "training_cases:on_a_slow_disk"
    return Experiment.model_validate(values)


def processes_of(run: RunFolder) -> list[int]:
    """The Python processes that train the run; mpirun is none of them."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(run.path).encode() in arguments and b"python" in Path(os.fsdecode(arguments[0])).name.encode():
            found.append(int(place.name))
    return found


def kill_while_saving(run: RunFolder) -> list[int]:
    """Kill all ranks with SIGKILL while they write a checkpoint after the first; return the steps of whole ones."""
    argv, environment = start_of(2, str(HERE / "train_in_one_start.py"), str(run.path))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    starter = subprocess.Popen(argv, env=environment, cwd=HERE.parent, **quiet)
    until = time.monotonic() + 200
    while starter.poll() is None and time.monotonic() < until:
        if checkpoints.find(run.checkpoints) and list(run.checkpoints.glob(".step-*.tmp/.part-*.tmp")):
            for process in processes_of(run):
                os.kill(process, signal.SIGKILL)
            break
        time.sleep(0.005)
    starter.wait(60)
    return [checkpoint.step for checkpoint in checkpoints.find(run.checkpoints)]


def test_ranks_killed_while_they_save_continue_from_the_checkpoint_before_bit_for_bit(tmp_path: Path) -> None:
    killed, undisturbed = make_run(tmp_path, wide()), make_run(tmp_path, wide())
    whole = kill_while_saving(killed)
    assert EVERY <= whole[0] < 20 and list(killed.checkpoints.glob(".step-*.tmp"))  # in the middle of a write
    for checkpoint in checkpoints.find(killed.checkpoints):
        assert len(list(checkpoint.path.glob("part-*.npz"))) == 2
        checkpoint.verify()

    train(2, killed, undisturbed)
    [resumed] = [event.facts["step"] for event in killed.events() if event.kind == "resumed"]
    assert resumed == whole[0]
    assert distance(final(killed), final(undisturbed)) == 0.0
    assert not list(killed.checkpoints.glob(".*"))
