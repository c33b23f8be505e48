"""Nothing that a rank started outlives it: not a daemon without marks, not a process that ignores SIGTERM."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ranks import Ranks, wait_for

from saman.launcher.supervision.processes import find_process
from saman.runs.ranks.records import RankRecord

# A daemon as daemons are: twice forked, in a session of its own, without a variable of the run.
DAEMON = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        os.execve("/bin/sleep", ["sleep", "300"], {})
    os._exit(0)
os.wait()
while not (os.path.exists(sys.argv[1]) and open(sys.argv[1]).read()):
    time.sleep(0.01)
open(sys.argv[1] + ".ready", "w").write("")
time.sleep(300)
"""


def gone(pid: int) -> bool:
    seen = find_process(pid)
    return seen is None or seen.state == "Z"


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """A rank with such a daemon: the keeper, and the ids of its wrapper and of the daemon."""
    program, daemon = folder / "daemon.py", folder / "daemon.pid"
    program.write_text(DAEMON)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAMAN_")}
    rank = [sys.executable, "-m", "saman.launcher.rank", str(folder / "runs" / "x" / "1"), "--"]
    argv = [*rank, sys.executable, str(program), str(daemon)]
    (folder / "runs" / "x" / "1").mkdir(parents=True)
    left: list[int] = []
    with subprocess.Popen(argv, env=environment) as keeper:
        try:
            wait_for((folder / "daemon.pid.ready").exists)
            record = RankRecord.read(next((folder / "runs").rglob("00000.json")))
            assert record is not None and record.wrapper_pid != keeper.pid and record.pid is not None
            left = [record.wrapper_pid, record.pid, int(daemon.read_text())]
            yield keeper, record.wrapper_pid, left[-1]
        finally:
            for pid in (*left, keeper.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("victim", ["wrapper", "keeper"])
def test_a_daemon_without_marks_does_not_outlive_a_killed_wrapper(tmp_path: Path, victim: str) -> None:
    with kept(tmp_path) as (keeper, wrapper, daemon):
        assert not gone(daemon)
        os.kill(wrapper if victim == "wrapper" else keeper.pid, signal.SIGKILL)
        wait_for(lambda: gone(daemon), seconds=10)
        assert keeper.wait(timeout=10) == -signal.SIGKILL
        wait_for(lambda: gone(wrapper), seconds=5)


def test_an_orphaned_rank_that_ignores_sigterm_is_killed_without_the_grace_of_a_request(tmp_path: Path) -> None:
    with kept(tmp_path) as (keeper, wrapper, daemon):
        began = time.monotonic()
        keeper.kill()
        wait_for(lambda: gone(daemon) and gone(wrapper), seconds=10)
        assert time.monotonic() - began < 3.0  # a request to stop is granted 4 s


def test_a_request_to_stop_reaches_the_rank_through_the_keeper(tmp_path: Path) -> None:
    with kept(tmp_path) as (keeper, wrapper, daemon):
        keeper.terminate()
        assert keeper.wait(timeout=10) == 128 + signal.SIGKILL  # it ignores SIGTERM, and is killed after the grace
        wait_for(lambda: gone(daemon) and gone(wrapper), seconds=5)


@pytest.mark.ranks
def test_nothing_of_a_deaf_rank_is_left_seconds_after_saman_is_killed(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    with ranks.saman(deaf) as saman:
        saman.kill()
        assert ranks.nobody_is_left(seconds=3.0)


def test_a_suspended_wrapper_takes_its_resumption_for_no_signal(tmp_path: Path) -> None:
    """As under ``scontrol suspend``: CPython returns an uninitialised signal number then, SIGQUIT for instance."""
    program = (
        "import signal, sys\n"
        "from saman.launcher.supervision.processes import await_signal\n"
        "watched = (signal.SIGUSR1, signal.SIGCHLD)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, watched)\n"
        "print('ready', flush=True)\n"
        "sys.exit(0 if await_signal(watched, 0.3) is None else 1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None and waiting.stdout.readline()
        time.sleep(0.1)
        waiting.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        waiting.send_signal(signal.SIGCONT)
        assert waiting.wait(10) == 0
