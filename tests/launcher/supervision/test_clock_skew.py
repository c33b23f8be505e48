"""Clocks of nodes differ: a stall is what the observer sees standing still, by its own clock."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from saman.configs.loading.experiments import load_experiment
from saman.launcher.plan.placement import Placement, Process
from saman.launcher.starters.start import Start
from saman.launcher.supervision.background_view import BackgroundView
from saman.launcher.supervision.progress import AttemptWatch
from saman.launcher.supervision.stalls import find_stall
from saman.launcher.supervision.supervisor import SupervisionOptions, _Supervisor
from saman.launcher.supervision.views import SilentView
from saman.runs.folder import Attempt, RunFolder
from saman.runs.ranks.heartbeats import Beat, BeatObserver, write_beat

LIMITS = {"train": 120.0}
WALL = 1_700_000_000.0
HOUR = 3600.0


def _watch(seconds: int, skew: float, moves: bool, lives: bool = True) -> tuple[int, ...] | None:
    """Watch two ranks for ``seconds``; the clock of rank 1 is ``skew`` off, and it may stand still or fall silent."""
    observer, stall = BeatObserver(), None
    for second in range(0, seconds, 5):
        step = second if moves else 0
        there = WALL + skew
        beats = {
            0: Beat("train", step, 1, 1, WALL + step, WALL + second),
            1: Beat("train", step, 1, 1, there + step, there + (second if lives else 0)),
        }
        stall = find_stall(observer.observe(beats, float(second)), LIMITS, float(second))
    return stall.ranks if stall else None


@pytest.mark.parametrize("skew", [-HOUR, 0.0, HOUR])
def test_a_node_with_another_time_has_not_stalled(skew: float) -> None:
    assert _watch(seconds=300, skew=skew, moves=True) is None


@pytest.mark.parametrize("skew", [-HOUR, 0.0, HOUR])
def test_a_stall_is_seen_whatever_the_clocks_say(skew: float) -> None:
    assert _watch(seconds=100, skew=skew, moves=False) is None
    assert _watch(seconds=200, skew=skew, moves=False) == (0, 1)


@pytest.mark.parametrize("skew", [-HOUR, 0.0, HOUR])
def test_the_silent_rank_is_named_whatever_the_clocks_say(skew: float) -> None:
    assert _watch(seconds=200, skew=skew, moves=False, lives=False) == (1,)


def test_a_clock_that_is_set_back_during_a_run_is_no_stall() -> None:
    observer = BeatObserver()
    for second in range(0, 400, 5):
        wall = WALL + second - (365 * 24 * HOUR if second > 100 else 0)
        beats = {0: Beat("train", second, 1, 1, wall, wall)}
        assert find_stall(observer.observe(beats, float(second)), LIMITS, float(second)) is None


def test_seconds_without_progress_count_from_the_last_change_seen() -> None:
    observer = BeatObserver()
    beat = Beat("train", 1, 1, 1, WALL - HOUR, WALL - HOUR)
    observer.observe({0: beat}, 1000.0)
    (seen,) = observer.observe({0: replace(beat, alive=WALL)}, 1050.0).values()
    assert (seen.time, seen.alive) == (1000.0, 1050.0)


def test_the_last_word_of_a_process_that_hung_is_not_taken_for_its_replacement() -> None:
    observer = BeatObserver()
    hung, fresh = Beat("train", 7, 1, pid=1, time=WALL, alive=WALL), Beat("start", pid=2, time=WALL, alive=WALL)
    observer.observe({0: hung}, 0.0)
    assert find_stall(observer.observe({0: hung}, 500.0), LIMITS, 500.0) is not None
    observer.forget([0])
    assert observer.observe({0: hung}, 501.0) == {}
    assert find_stall(observer.observe({0: fresh}, 502.0), LIMITS, 502.0) is None


@pytest.mark.parametrize("skew", [-HOUR, HOUR])
def test_silence_is_measured_by_the_clock_of_the_file_system(tmp_path: Path, skew: float) -> None:
    attempt = Attempt(tmp_path / "1")
    attempt.make_folders()
    process = Process(index=0, node="n1", local_index=0, first_rank=0, ranks_here=1, cores=(0,), threads=1)
    watch = AttemptWatch(attempt, Placement((process,), cores_per_rank=1))
    now = time.time()
    write_beat(attempt.heartbeat(0), Beat("train", 1, 1, 1, now + skew, now + skew))
    os.utime(attempt.heartbeat(0), (now - 100, now - 100))
    silent = watch.silent_seconds(now)
    assert silent is not None and abs(silent - 100) < 1


def test_the_supervisor_believes_its_own_clock_only(tmp_path: Path) -> None:
    spec = load_experiment("quickstart", []).experiment
    run = RunFolder.create(tmp_path / "runs", spec)
    attempt = run.new_attempt()
    attempt.make_folders()
    process = Process(index=0, node="n1", local_index=0, first_rank=0, ranks_here=1, cores=(0,), threads=1)
    supervisor = _Supervisor(
        run=run,
        attempt=attempt,
        start=Start("processes", ()),
        placement=Placement((process,), cores_per_rank=1),
        environ={},
        signals=[],
        watching=SupervisionOptions(stall_seconds=LIMITS, abort_on_stall=True),
        view=BackgroundView(SilentView()),
    )
    for step in range(3):
        behind = time.time() - HOUR
        write_beat(attempt.heartbeat(0), Beat("train", step, 1, 1, behind, behind))
        supervisor._read_heartbeats()
        assert supervisor.stall is None
