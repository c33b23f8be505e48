"""Starts the ranks of an experiment with a program in place of the worker, and parameters of the supervisor's tests."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from ranks import PLAIN, Ranks, Seen

from saman.configs.schemas.experiment import Experiment
from saman.launcher.node.machine import Node
from saman.launcher.planning import Options, make_plan
from saman.launcher.supervision.signals import RecordedSignals
from saman.launcher.supervision.supervisor import SupervisionOptions, supervise
from saman.runs.files.whole import write_json
from saman.runs.folder import RunFolder

MPI = pytest.param("mpirun", marks=[pytest.mark.mpi, pytest.mark.skipif(PLAIN.mpi is None, reason="no mpirun here")])
HOROVODRUN = pytest.param("horovodrun", marks=pytest.mark.skipif(PLAIN.horovodrun is None, reason="no horovodrun here"))

# Each rank of the program does what its text says, and has a child process that must not outlive it.
PROGRAM = """
import os, signal, subprocess, sys, time
rank = int(os.environ["SAMAN_FIRST_RANK"])
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
print("hello from rank", rank, flush=True)
"""


def experiment_run(folder: Path, ranks: int, **launch: object) -> tuple[Experiment, RunFolder]:
    experiment = Experiment.model_validate(
        {
            "name": "tiny",
            "model": {"build": "mlp"},
            "data": {"source": "digits"},
            "train": {"global_batch_size": 24},
            "resources": {"ranks_per_node": ranks},
            "launch": {"with": "processes", **launch},
        }
    )
    return experiment, RunFolder.create(folder / "runs", experiment)


def supervise_program(
    ranks: Ranks, program: str, nodes: tuple[Node, ...] | None = None, view: Seen | None = None, **launch: object
):  # type: ignore[no-untyped-def]
    """Supervise the ranks of an experiment, with a program in place of the worker."""
    experiment, run = experiment_run(ranks.folder, 2, **launch)
    attempt = run.new_attempt()
    plan = make_plan(experiment, ranks.folder, (), Options(nodes=nodes, facts=PLAIN), run.path, attempt.number)
    write_json(attempt.placement, plan.placement.to_json())
    file = ranks.folder / "program.py"
    file.write_text(program)
    commands = tuple(
        replace(
            command,
            argv=(*command.argv[: command.argv.index("--") + 1], command.argv[0], str(file)),
            environment={**command.environment, "SAMAN_TEST_MARK": ranks.mark},
        )
        for command in plan.start.commands
    )
    watching = SupervisionOptions(experiment.launch.stall_seconds, experiment.launch.on_stall == "abort")  # type: ignore[arg-type]
    with closing(RecordedSignals()) as signals:
        signals.start()
        return supervise(
            run,
            attempt,
            replace(plan.start, commands=commands, companions=()),
            plan.placement,
            plan.environment,
            signals,
            watching,
            view,
        )
