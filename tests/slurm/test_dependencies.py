"""A job waits for the runs, studies and jobs that its user names, and leaves the queue if they end otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.runs import bash, saman, site, submit_line, told, wait_for

from saman.configs.errors import UserError
from saman.jobs.workflows.prerequisites import dependency_on
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import After, JobSubmission, Prerequisite
from saman.slurm.dependencies import Dependency, joined, on_run, unknown_ends, unmet, unmet_at_start, waits_for
from saman.slurm.submission import planning
from saman.slurm.submission.submit import create_run


def queued_run(folder: Path, name: str = "first", job: str = "41", **facts: object) -> RunFolder:
    run = create_run(planning.plan(bash(name, "true", folder), site(), folder / "runs", "main", {}), (), None)
    run.append("queued", "submitter", job=job, cluster="minicluster", **facts)
    return run


def test_the_options_name_each_condition_once_and_leave_no_job_that_can_never_start(tmp_path: Path) -> None:
    first, second = queued_run(tmp_path), queued_run(tmp_path, "second")
    both = joined([on_run(first, ["41"], After.OK), on_run(second, ["42"], After.OK), Dependency(any_jobs=("7",))])
    assert both.options() == ["--dependency=afterok:41:42,afterany:7", "--kill-on-invalid-dep=yes"]
    assert both.options(before="8")[0] == "--dependency=afterok:41:42,afterany:7:8"
    assert Dependency().options() == [] and Dependency(held=True).options() == ["--hold"]


def test_a_run_with_follow_up_jobs_is_waited_for_until_all_have_ended_and_judged_by_its_folder(tmp_path: Path) -> None:
    run = queued_run(tmp_path)
    found = on_run(run, ["41", "42", "43"], After.OK)
    assert found.options()[0] == "--dependency=afterany:41:42:43"
    assert unmet(found.prerequisites) is None
    assert "which is queued" in str(unmet_at_start(found.prerequisites))  # all its jobs have ended, but not the run
    run.append("failed", "job", message="broken")
    assert "which has failed" in str(unmet(found.prerequisites))
    for judge in (unmet, unmet_at_start):
        assert judge([Prerequisite(After.ANY, run=run.path)]) is None
    run.append("completed", "supervisor")
    assert unmet_at_start(found.prerequisites) is None


def test_a_submission_remembers_what_it_waits_for(tmp_path: Path) -> None:
    first = queued_run(tmp_path)
    wanted = (Prerequisite(After.OK, run=first.path), Prerequisite(After.ANY, job="9"))
    second = queued_run(tmp_path, "second", **Dependency(wanted).facts)
    (submission,) = filter(None, map(JobSubmission.from_event, second.events()))
    assert submission.after == wanted
    assert waits_for(wanted) == f"waits for first/{first.id} (queued) to complete, job 9 to end"


def test_a_job_that_slurm_removed_names_the_job_it_needed() -> None:
    wanted = [Prerequisite(After.OK, job="7"), Prerequisite(After.ANY, job="8")]
    assert unknown_ends(wanted) == "it was cancelled, or job 7 did not complete"
    assert unknown_ends(wanted[1:]) is None


def began(run: RunFolder) -> float:
    return next(event.time for event in run.events() if event.kind == "attempt_started")


@pytest.mark.slurm
def test_jobs_wait_for_each_other_and_a_failure_takes_those_out_that_needed_a_success(
    minicluster: Minicluster,
) -> None:
    home = minicluster.shared / "dependencies"
    home.mkdir()
    first = submit_line(home, "sleep 300", "--set", 'sbatch=["--begin=now+1hour"]')
    ok = submit_line(home, "true", "--after", first.id)
    after_ok = submit_line(home, "true", "--after", ok.id)
    ended = submit_line(home, "true", "--after-any", after_ok.id)
    status = saman(home, "status", ok.id).stdout
    assert f"waits for bash/{first.id} (queued) to complete" in status
    refused = saman(home, "submit", "--cluster", "minicluster", "--after", "99999999", "--", "true")
    assert refused.returncode == 2 and "Slurm knows no job 99999999" in refused.stderr
    saman(home, "cancel", first.id)
    assert wait_for(ok).state == "cancelled" and wait_for(after_ok).state == "cancelled"
    detail = wait_for(ok).detail
    assert "removed from the queue" in detail and f"bash/{first.id}, which was cancelled" in detail
    assert wait_for(ended).state == "completed", told(ended)
    with pytest.raises(UserError, match="would never start"):
        dependency_on([first.id], (), home / "runs")


@pytest.mark.slurm
def test_a_requeued_run_is_waited_for_until_it_completes(minicluster: Minicluster) -> None:
    home = minicluster.shared / "requeued-first"
    home.mkdir()
    first = submit_line(home, "[ $SAMAN_ATTEMPT -gt 1 ] || { sleep 2; exit 85; }", "launch.stop_signal=none")
    until(lambda: (first.attempts() and "running") or first.state.ended, 30)
    second = submit_line(home, "true", "--after", first.id)
    first.request_stop("a test", "user")
    assert wait_for(second).state == "completed", told(second)
    ends = [event.time for event in first.events() if event.kind == "completed"]
    assert len(first.attempts()) == 2 and ends and began(second) >= ends[-1], told(first)
