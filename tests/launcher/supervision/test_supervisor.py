"""What a run does when ranks fail, stall, are interrupted or killed: the right message, the right code, nobody left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ranks import PLAIN, Ranks, Seen, read_all, wait_for

from saman.configs.errors import EnvironmentLack, ExitCode, UserError
from saman.configs.schemas.experiment import Experiment
from saman.launcher.local import resume_locally
from saman.launcher.node.machine import Node
from saman.launcher.plan.placement import Placement
from saman.launcher.planning import Options, make_plan
from saman.launcher.supervision.run_lock import hold_run, is_supervised
from saman.launcher.supervision.supervisor import SupervisionOptions, supervise
from saman.runs.events import State
from saman.runs.folder import RunFolder
from saman.runs.ranks.records import RankRecord

pytestmark = pytest.mark.ranks

MPI = pytest.param("mpirun", marks=[pytest.mark.mpi, pytest.mark.skipif(PLAIN.mpi is None, reason="no mpirun here")])
HOROVODRUN = pytest.param("horovodrun", marks=pytest.mark.skipif(PLAIN.horovodrun is None, reason="no horovodrun here"))
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")

# Each rank of the program does what its text says, and has a child process that must not outlive it.
PROGRAM = """
import os, signal, subprocess, sys, time
rank = int(os.environ["SAMAN_FIRST_RANK"])
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
print("hello from rank", rank, flush=True)
"""
HOSTILE = "sp ace 'q' \"d\" $(touch pwned) `touch pwned` ; & | * ? , = \\ % ü\nnew\tline"


@pytest.fixture
def ranks(tmp_path: Path) -> Ranks:
    return Ranks(tmp_path)


@pytest.mark.parametrize("starter", ["processes", MPI, HOROVODRUN])
def test_hostile_names_arrive_intact_and_nothing_is_executed(tmp_path: Path, starter: str) -> None:
    folder = tmp_path / HOSTILE.replace("/", "-")
    folder.mkdir()
    facts = PLAIN if starter != "horovodrun" else None
    program = """
import json, os, sys
said = {"argv": sys.argv[1:], "env": os.environ["HOSTILE"], "cwd": os.getcwd()}
said |= {"rank": os.environ["SAMAN_FIRST_RANK"], "size": os.environ["SAMAN_SIZE"]}
said |= {"cores": sorted(os.sched_getaffinity(0)), "threads": os.environ["OMP_NUM_THREADS"]}
open(f"said-{said['rank']}.json", "w").write(json.dumps(said))
"""
    ranks = Ranks(folder)
    outcome = ranks.run(program, HOSTILE, "", "-x", starter=starter, environment={"HOSTILE": HOSTILE}, facts=facts)
    assert outcome.state is State.COMPLETED, outcome
    said = read_all(folder)
    assert [(one["rank"], one["size"]) for one in said] == [("0", "2"), ("1", "2")]
    assert all(
        one["argv"] == [HOSTILE, "", "-x"] and one["env"] == HOSTILE and one["cwd"] == str(folder) for one in said
    )
    assert all(len(one["cores"]) == int(one["threads"]) for one in said)
    if len(os.sched_getaffinity(0)) >= 2:
        assert not set(said[0]["cores"]) & set(said[1]["cores"])
    assert not list(tmp_path.rglob("pwned"))
    assert ranks.nobody_is_left()
    assert subprocess.run(["bash", "-n", str(outcome.run.attempt(1).command)], check=False).returncode == 0


@pytest.mark.parametrize("starter", ["processes", MPI])
def test_the_command_that_is_shown_can_be_pasted(ranks: Ranks, starter: str) -> None:
    program = "import os; open(f'said-{os.environ[\"SAMAN_FIRST_RANK\"]}.json', 'w').write('{}')"
    outcome = ranks.run(program, HOSTILE, starter=starter)
    for file in ranks.folder.glob("said-*.json"):
        file.unlink()
    text = outcome.run.attempt(1).command.read_text()
    assert subprocess.run(["bash", "-c", text], cwd="/", check=False, timeout=60).returncode == 0
    assert len(read_all(ranks.folder)) == 2


@pytest.mark.parametrize("starter", ["processes", MPI, HOROVODRUN])
def test_ranks_that_ask_to_be_requeued_are_believed_under_every_start_method(ranks: Ranks, starter: str) -> None:
    slow_last = "import os, sys, time; time.sleep(3 * float(os.environ['SAMAN_FIRST_RANK'])); sys.exit(85)"
    outcome = ranks.run(slow_last, starter=starter, facts=PLAIN if starter != "horovodrun" else None)
    assert (outcome.state, outcome.exit_code) == (State.PREEMPTED, ExitCode.REQUEUE), outcome
    records = [RankRecord.read(outcome.run.attempt(1).rank_record(rank)) for rank in (0, 1)]
    assert [(record.code, record.stopped) for record in records if record] == [(85, False), (85, False)]


@pytest.mark.parametrize("starter", ["processes", MPI])
def test_a_killed_rank_is_named_and_the_rest_is_stopped_in_time(ranks: Ranks, starter: str) -> None:
    program = PROGRAM + "if rank == 1: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(300)"
    view = Seen()
    outcome = ranks.run(program, ranks=3, starter=starter, view=view)
    assert (outcome.state, outcome.exit_code) == (State.FAILED, ExitCode.RUN_FAILED)
    assert outcome.failure is not None
    assert [(one.rank, one.signal) for one in outcome.failure.first] == [(1, 9)]
    assert "rank 1 on" in outcome.message and "SIGKILL (9)" in outcome.message and "out-of-memory" in outcome.message
    assert outcome.failure.first[0].last_lines == ("hello from rank 1",)
    assert outcome.seconds < 12
    assert outcome.run.summary().failure["first"][0]["rank"] == 1  # type: ignore[union-attr, index]
    assert sorted(view.lines)[:1] == [(0, "hello from rank 0")]
    assert ranks.nobody_is_left(seconds=0.5)


@pytest.mark.parametrize("starter", ["processes", MPI])
def test_a_rank_that_raises_is_named_with_its_last_lines(ranks: Ranks, starter: str) -> None:
    program = (
        PROGRAM
        + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        + "if rank == 0: raise ValueError('no such column')\ntime.sleep(300)"
    )
    outcome = ranks.run(program, starter=starter)
    assert outcome.failure is not None
    assert [(one.rank, one.code) for one in outcome.failure.first] == [(0, 1)]
    assert outcome.failure.first[0].last_lines[-1] == "ValueError: no such column"
    assert outcome.seconds < 12
    assert ranks.nobody_is_left(seconds=0.5)


@pytest.mark.parametrize("starter", ["processes", MPI])
def test_ranks_that_fail_at_once_are_all_listed(ranks: Ranks, starter: str) -> None:
    program = (
        PROGRAM
        + """
open(f"here-{rank}", "w").close()
while not all(os.path.exists(f"here-{other}") for other in range(4)): time.sleep(0.01)
time.sleep(0.15 * rank)
raise SystemExit(7)
"""
    )
    outcome = ranks.run(program, ranks=4, starter=starter)
    assert outcome.failure is not None
    assert [(one.rank, one.code) for one in outcome.failure.first] == [(0, 7), (1, 7), (2, 7), (3, 7)]
    assert "and at the same time ranks 1, 2, 3" in outcome.message
    assert outcome.exit_code == ExitCode.RUN_FAILED


def test_the_loss_of_a_peer_is_not_the_first_failure(ranks: Ranks) -> None:
    program = (
        PROGRAM
        + "if rank == 0: raise RuntimeError('HorovodInternalError: Connection closed by peer')\n"
        + "time.sleep(0.3); sys.exit(3)"
    )
    outcome = ranks.run(program)
    assert outcome.failure is not None
    assert [(one.rank, one.code) for one in outcome.failure.first] == [(1, 3)]
    assert outcome.failure.others == 1


def test_a_killed_wrapper_is_noticed_and_takes_its_program_along(ranks: Ranks) -> None:
    outcome = ranks.run(PROGRAM + "if rank == 1: os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(300)")
    assert outcome.failure is not None
    assert [(one.rank, one.signal) for one in outcome.failure.first] == [(1, 9)]
    assert ranks.nobody_is_left(seconds=0.5)


def test_a_wrapper_started_by_hand_and_killed_takes_everything_along(ranks: Ranks) -> None:
    _, run = _experiment_run(ranks.folder, 1)
    program = PROGRAM + "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    argv = [sys.executable, "-m", "saman.launcher.rank", str(run.path), "--", sys.executable, "-c", program]
    environ = {**os.environ, "SAMAN_TEST_MARK": ranks.mark, "SAMAN_RUN": str(run.path), "SAMAN_ATTEMPT": "1"}
    with subprocess.Popen(argv, env=environ) as wrapper:
        wait_for(lambda: b"hello" in (log.read_bytes() if (log := run.attempt(1).log(0)).exists() else b""))
        assert len(ranks.left()) >= 4  # wrapper, guard, program, its child
        wrapper.kill()
    assert ranks.nobody_is_left(seconds=5)


def test_a_program_that_does_not_exist_is_said(ranks: Ranks) -> None:
    spec = ranks.spec("").model_copy(update={"command": ["no-such-program", "x"]})
    from saman.launcher.local import run_script

    outcome = run_script(spec, Options(runs_dir=ranks.folder / "runs", facts=PLAIN))
    assert "'no-such-program' cannot be started: No such file or directory" in outcome.message
    assert outcome.exit_code == ExitCode.RUN_FAILED


@pytest.mark.parametrize("starter", ["processes", MPI])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_saman_stops_all_ranks(ranks: Ranks, starter: str, number: signal.Signals) -> None:
    with ranks.saman(PROGRAM + "time.sleep(300)", starter=starter) as saman:
        began = time.monotonic()
        saman.send_signal(number)
        assert saman.wait(timeout=15) == ExitCode.INTERRUPTED
        assert time.monotonic() - began < 10
        assert saman.stdout is not None and f"stopped by {number.name}" in saman.stdout.read()
    assert ranks.nobody_is_left(seconds=0.5)
    assert ranks.run_folder().state is State.CANCELLED


@pytest.mark.parametrize("starter", ["processes", MPI])
def test_nobody_outlives_a_killed_saman(ranks: Ranks, starter: str) -> None:
    with ranks.saman(
        PROGRAM + "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)", starter=starter
    ) as saman:
        assert is_supervised(ranks.run_folder())
        assert len(ranks.left()) >= 4
        saman.kill()
        assert ranks.nobody_is_left(seconds=10)
    assert not is_supervised(ranks.run_folder())


def test_two_supervisors_never_work_on_one_run(ranks: Ranks) -> None:
    outcome = ranks.run("raise SystemExit(1)")
    with hold_run(outcome.run), pytest.raises(UserError, match="this run is running"):
        resume_locally(outcome.run, Options(facts=PLAIN))


def test_a_failed_run_is_continued_in_its_folder_and_a_completed_one_is_not(ranks: Ranks) -> None:
    program = "import os, sys; sys.exit(int(os.environ['SAMAN_ATTEMPT']) == 1)"
    outcome = ranks.run(program)
    assert outcome.state is State.FAILED
    again = resume_locally(outcome.run, Options(facts=PLAIN))
    assert (again.state, again.attempt, again.run.path) == (State.COMPLETED, 2, outcome.run.path)
    with pytest.raises(UserError, match="has completed"):
        resume_locally(outcome.run, Options(facts=PLAIN))


def test_more_ranks_than_cores_share_them(ranks: Ranks) -> None:
    count = 2 * len(os.sched_getaffinity(0)) + 1
    outcome = ranks.run("import os; assert len(os.sched_getaffinity(0)) == 1", ranks=count)
    assert outcome.state is State.COMPLETED
    notices = [str(event.facts["text"]) for event in outcome.run.events() if event.kind == "notice"]
    assert any("cores are shared" in text for text in notices)


@pytest.mark.mpi
@pytest.mark.skipif(PLAIN.mpi is None, reason="no mpirun here")
def test_mpi_does_not_starve_more_ranks_than_cores(ranks: Ranks) -> None:
    pytest.importorskip("mpi4py")
    program = """
from mpi4py import MPI
import time
world = MPI.COMM_WORLD
began = time.monotonic()
for step in range(100):
    sum(range(20000))
    world.allreduce(step)
print("size", world.size, "seconds", time.monotonic() - began)
"""
    view = Seen()
    outcome = ranks.run(program, ranks=4 * len(os.sched_getaffinity(0)), starter="mpirun", view=view)
    assert outcome.state is State.COMPLETED, outcome
    assert sum(f"size {4 * len(os.sched_getaffinity(0))} " in text for _, text in view.lines) == 4 * len(
        os.sched_getaffinity(0)
    )


@pytest.mark.parametrize("action", ["report", "abort"])
def test_a_stopped_rank_is_reported_and_aborted_where_asked(ranks: Ranks, action: str) -> None:
    program = (
        PROGRAM
        + """
if rank == 1:
    child.kill()
    subprocess.Popen(["sh", "-c", f"sleep 12; kill -CONT {os.getpid()}"], start_new_session=True)
    os.kill(os.getpid(), signal.SIGSTOP)
else:
    end = time.monotonic() + 12
    while time.monotonic() < end: pass
"""
    )
    view = Seen()
    outcome = ranks.run(program, view=view, on_stall=action, stall_seconds={"train": 4})
    stalls = [event.facts for event in outcome.run.events() if event.kind == "stalled"]
    assert [(stall["rank"], stall["phase"]) for stall in stalls] == [(1, "script")]
    assert any("rank 1: no progress for" in text and "stopped (SIGSTOP)" in text for text in view.said)
    assert outcome.state is (State.FAILED if action == "abort" else State.COMPLETED), outcome
    if action == "abort":
        assert "stopped after a stall: rank 1" in outcome.message
        assert outcome.seconds < 25
    assert ranks.nobody_is_left(seconds=0.5)


def _experiment_run(folder: Path, ranks: int, **launch: object) -> tuple[Experiment, RunFolder]:
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


def _supervised(
    ranks: Ranks, program: str, nodes: tuple[Node, ...] | None = None, view: Seen | None = None, **launch: object
):  # type: ignore[no-untyped-def]
    """The ranks of an experiment, whose worker is replaced by a program."""
    from dataclasses import replace

    from saman.configs.files import write_json

    experiment, run = _experiment_run(ranks.folder, 2, **launch)
    attempt = run.new_attempt()
    plan = make_plan(experiment, ranks.folder, (), Options(nodes=nodes, facts=PLAIN), run.path, attempt.number)
    write_json(attempt.placement, plan.placement.to_json())
    file = ranks.folder / "program.py"
    file.write_text(program)
    commands = tuple(
        replace(
            one,
            argv=(*one.argv[: one.argv.index("--") + 1], one.argv[0], str(file)),
            environment={**one.environment, "SAMAN_TEST_MARK": ranks.mark},
        )
        for one in plan.start.commands
    )
    watching = SupervisionOptions(experiment.launch.stall_seconds, experiment.launch.on_stall == "abort")  # type: ignore[arg-type]
    return supervise(
        run,
        attempt,
        replace(plan.start, commands=commands, companions=()),
        plan.placement,
        plan.environment,
        watching,
        view,
    )


def test_a_training_that_stalls_is_named_by_rank_phase_and_step(ranks: Ranks) -> None:
    program = """
import os, time
from saman.runs.ranks.heartbeats import Heartbeat
heartbeat = Heartbeat.from_environment()
rank = int(os.environ["SAMAN_FIRST_RANK"])
for step in range(1, 12 - rank):
    heartbeat.beat("train", step=step, epoch=1, total_steps=20)
    time.sleep(0.05)
heartbeat.beat("checkpoint" if rank else "train", step=step, epoch=1, total_steps=20)
time.sleep(300)
"""
    view = Seen()
    outcome = _supervised(ranks, program, view=view, on_stall="abort", stall_seconds={"train": 2, "checkpoint": 2})
    assert outcome.state is State.FAILED
    assert "rank 1: no progress for" in outcome.message and "in phase checkpoint at step 10" in outcome.message
    assert view.steps[-1].step == 11 and view.steps[-1].total_steps == 20 and view.steps[-1].behind == 1
    assert ranks.nobody_is_left(seconds=0.5)


def test_a_rank_elsewhere_than_planned_fails_the_run(ranks: Ranks) -> None:
    outcome = _supervised(ranks, "print('never')", nodes=(Node("elsewhere", 2),))
    assert outcome.state is State.FAILED
    assert "was planned on elsewhere, but is on" in outcome.message
    assert outcome.failure.first[0].kind == "misplaced"


def test_an_experiment_without_gpus_sees_none_and_a_script_sees_what_there_is(ranks: Ranks) -> None:
    program = "import os; print('gpus', os.environ.get('CUDA_VISIBLE_DEVICES'))"
    view = Seen()
    _supervised(ranks, program, view=view)
    assert (0, "gpus -1") in view.lines
    view = Seen()
    ranks.run(program, view=view)
    assert (0, f"gpus {os.environ.get('CUDA_VISIBLE_DEVICES')}") in view.lines


@needs_root
def test_a_read_only_folder_is_a_lack_of_the_environment(ranks: Ranks) -> None:
    with _mounted(ranks.folder / "runs", "ro"), pytest.raises(EnvironmentLack, match="read-only") as caught:
        ranks.run("print('never')")
    assert caught.value.exit_code == ExitCode.ENVIRONMENT


@needs_root
def test_a_full_disk_stops_the_run_and_is_said(ranks: Ranks) -> None:
    program = PROGRAM + "while True: print('x' * 5000, flush=True); time.sleep(0.001)"
    with _mounted(ranks.folder / "runs", "size=1m"):
        with pytest.raises(EnvironmentLack, match="No space left on device") as caught:
            ranks.run(program)
        assert caught.value.exit_code == ExitCode.ENVIRONMENT
        assert ranks.nobody_is_left(seconds=0.5)


class _mounted:  # noqa: N801  (used as a context manager)
    """A tiny file system of its own at a folder."""

    def __init__(self, folder: Path, options: str) -> None:
        self.folder, self.options = folder, options

    def __enter__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", self.options, "tmpfs", str(self.folder)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("this root may not mount")

    def __exit__(self, *_: object) -> None:
        wait_for(lambda: subprocess.run(["umount", str(self.folder)], check=False).returncode == 0)


def test_the_placement_that_was_found_is_recorded(ranks: Ranks) -> None:
    outcome = ranks.run("pass", ranks=3)
    attempt = outcome.run.attempt(1)
    for rank in attempt.ranks():
        record = RankRecord.read(attempt.rank_record(rank))
        assert record is not None
        assert (record.first_rank, record.code, len(record.cores)) == (rank, 0, 1)
        assert record.node and record.pid and record.started and record.ended
    import json

    assert Placement.from_json(json.loads(attempt.placement.read_text())).size == 3


def test_usr1_asks_a_training_for_a_clean_end(ranks: Ranks) -> None:
    program = """
import os, signal, sys, time
from pathlib import Path
run, rank = Path(os.environ["SAMAN_RUN"]), int(os.environ["SAMAN_FIRST_RANK"])
if rank == 0: os.kill(os.getppid(), signal.SIGUSR1)
for _ in range(200):
    if (run / "control" / "stop").exists(): sys.exit(85)
    time.sleep(0.05)
"""
    outcome = _supervised(ranks, program)
    assert (outcome.state, outcome.exit_code) == (State.PREEMPTED, ExitCode.REQUEUE), outcome
    assert [event.facts["reason"] for event in outcome.run.events() if event.kind == "stop_requested"] == ["SIGUSR1"]
