"""A run has one supervisor: a second one is refused, a vanished folder is told, and nothing is overwritten."""

from __future__ import annotations

import shutil
import signal
import threading

import pytest
from ranks import PLAIN, Ranks, wait_for

from saman.configs.errors import EnvironmentLack, UserError
from saman.launcher.local import resume_locally
from saman.launcher.planning import Options

HEAD = "import os, signal, sys, time\nn = int(os.environ['SAMAN_ATTEMPT'])\n"


def test_a_running_run_is_not_resumed_and_of_two_resumes_one_goes_on(ranks: Ranks) -> None:
    with ranks.saman(HEAD + "time.sleep(300 if n == 1 else 2)", ranks=1) as saman:
        run = ranks.run_folder()
        before = {file: file.read_bytes() for file in run.path.rglob("*.json")}
        with pytest.raises(UserError, match="this run is running"):
            resume_locally(run, Options(runs_dir=run.runs_dir, facts=PLAIN))
        assert {file: file.read_bytes() for file in before} == before and len(run.attempts()) == 1
        saman.send_signal(signal.SIGKILL)
        saman.wait()
    assert ranks.nobody_is_left(10.0)
    results: list[object] = []

    def resume() -> None:
        try:
            results.append(resume_locally(run, Options(runs_dir=run.runs_dir, facts=PLAIN)).exit_code)
        except UserError as error:
            results.append(error)

    threads = [threading.Thread(target=resume) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(0) == 1 and len(run.attempts()) == 2, results
    assert sum(isinstance(result, UserError) for result in results) == 1


def test_a_run_that_waits_to_restart_is_not_resumed_by_another(ranks: Ranks) -> None:
    refused: list[object] = []

    def resume() -> None:
        wait_for(lambda: _happened(ranks, "restarting"))
        run = ranks.run_folder()
        try:
            resume_locally(run, Options(runs_dir=run.runs_dir, facts=PLAIN))
        except UserError as error:
            refused.append(error.problem)
        run.request_stop("a test", "user")

    thread = threading.Thread(target=resume)
    thread.start()
    ranks.run(HEAD + "os.kill(os.getpid(), 9)", restart={"backoff": "1h", "longest_backoff": "1h"})
    thread.join()
    assert refused == ["this run is running"]


def _happened(ranks: Ranks, kind: str) -> bool:
    made = list((ranks.folder / "runs").glob("*/*"))
    return bool(made) and any(event.kind == kind for event in ranks.run_folder().events())


def test_a_run_folder_that_vanishes_ends_its_ranks_and_is_not_made_anew(ranks: Ranks) -> None:
    moved = ranks.folder / "moved"

    def move() -> None:
        wait_for(lambda: _happened(ranks, "rank_started"))
        shutil.move(ranks.run_folder().path, moved)

    thread = threading.Thread(target=move)
    thread.start()
    with pytest.raises(EnvironmentLack, match="vanished"):
        ranks.run(HEAD + "time.sleep(300)", ranks=1, restart={"times": 3})
    thread.join()
    assert ranks.nobody_is_left()
    assert moved.is_dir() and not list((ranks.folder / "runs").glob("*/*"))
