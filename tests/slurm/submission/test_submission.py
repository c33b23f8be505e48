"""Submissions to a real Slurm: arrays, limits, refusals, and the script by hand."""

from __future__ import annotations

import json

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.runs import bash, site, standing, submitted, told, wait_for

from saman.configs.errors import UserError
from saman.jobs.cancel import cancel_runs
from saman.slurm.site import client
from saman.slurm.submission import planning
from saman.slurm.submission import submit as slurm
from saman.slurm.submission.arrays import submit_many

pytestmark = pytest.mark.slurm


def test_queued_says_why_and_cancel_takes_the_job_out(minicluster: Minicluster) -> None:
    cluster = site(sbatch=["--begin=now+1hour"])
    done = submitted(bash("later", "true", minicluster.shared), cluster, minicluster.shared)
    status = wait_for(done.run, "queued", seconds=15)
    assert "waits for its begin time" in status.detail and status.expected_start is not None
    assert "is cancelled" in next(cancel_runs([done.run]))
    assert standing(done.run).state == "cancelled"
    assert json.loads((done.run.path / "state.json").read_text())["state"] == "cancelled"


def test_six_runs_of_an_array_have_each_their_own_folder_and_end(minicluster: Minicluster) -> None:
    texts = [f"sleep 1; exit {5 if number == 3 else 0}" for number in range(6)]
    specs = [bash("six", text, minicluster.shared) for text in texts]
    plans = [planning.plan(spec, site(), minicluster.shared / "runs", "main", {}) for spec in specs]
    done = submit_many(plans, lambda plan: slurm.create_run(plan, (), None), concurrency=2)
    array = done[0].job.split("_")[0]
    assert [submission.job for submission in done] == [f"{array}_{index}" for index in range(6)]
    most = 0

    def over() -> bool:
        nonlocal most
        jobs = [job for job in client.queue().values() if job.id.startswith(f"{array}_")]
        most = max(most, sum(job.state.value == "running" for job in jobs))
        return all(submission.run.state.ended for submission in done)

    until(over, 90, every=0.2)
    assert [submission.run.state.value for submission in done] == ["completed"] * 3 + ["failed"] + ["completed"] * 2
    assert 1 <= most <= 2
    summary = done[3].run.summary()
    assert summary is not None and "exit code 5" in str(summary.message)


def test_an_account_that_does_not_exist_is_named_and_leaves_nothing(minicluster: Minicluster) -> None:
    with pytest.raises(UserError, match="account nobody-has-this does not exist") as caught:
        submitted(bash("poor", "true", minicluster.shared), site(account="nobody-has-this"), minicluster.shared)
    assert caught.value.remedy is not None
    assert not list((minicluster.shared / "runs").glob("poor/*"))


def test_a_qos_that_allows_less_is_named_with_its_value_and_the_request(minicluster: Minicluster) -> None:
    for command in (
        ["add", "qos", "tight", "maxwall=00:02:00"],
        ["modify", "user", client.user_name(), "set", "qos+=tight"],
    ):
        minicluster.run("sacctmgr", "-i", *command)
    spec = bash("long", "true", minicluster.shared, time_limit="00:05:00")
    plan = planning.plan(spec, site(qos="tight"), minicluster.shared / "runs", "main", {})
    until(lambda: client.ask(["scontrol", "show", "assoc_mgr", "flags=qos", "qos=tight"]).out.count("MaxWallPJ=2"), 15)
    with pytest.raises(UserError, match="QOS tight allows 0:02 h in one job .*; this needs 0:05 h"):
        planning.check_limits(plan)
    done = slurm.submit(plan)
    status = wait_for(done.run, "queued", seconds=15)
    until(lambda: "will never start" in standing(done.run).detail, 20)
    assert "QOSMaxWallDurationPerJobLimit" in standing(done.run).detail
    list(cancel_runs([done.run]))
    assert status.job == done.job


def test_test_only_says_when_the_job_would_start_and_submits_nothing(minicluster: Minicluster) -> None:
    before = set(client.queue())
    plan = planning.plan(bash("asked", "true", minicluster.shared), site(), minicluster.shared / "runs", "main", {})
    assert " to start at " in planning.test_only(plan)
    assert {job for job in client.queue() if job not in before} == set()


def test_the_command_line_submits_a_program_follows_it_and_prints_json(
    minicluster: Minicluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from saman.cli.main import main

    monkeypatch.chdir(minicluster.shared)

    def saman(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        assert ended.value.code in (0, None)
        return capsys.readouterr().out

    site_options = ["--cluster", "minicluster", "--partition", "main", "-np", "2", "--nodes", "2"]
    assert "#SBATCH --nodes=2" in saman("submit", *site_options, "--dry-run", "--", "bash", "-c", "echo $SAMAN_SIZE")
    made = json.loads(saman("submit", *site_options, "--json", "--no-snapshot", "--", "bash", "-c", "echo $SAMAN_SIZE"))
    saman("wait", made["id"], "--timeout", "60", "--every", "0.5")
    assert json.loads(saman("status", made["id"], "--json"))[0]["state"] == "completed"
    assert saman("logs", made["id"], "--rank", "1") == "2\n"


def test_the_script_runs_by_hand_with_plain_sbatch(minicluster: Minicluster) -> None:
    plan = planning.plan(bash("by-hand", "true", minicluster.shared), site(), minicluster.shared / "runs", "main", {})
    run = slurm.create_run(plan, (), None)
    file = run.path / "slurm" / "job.sbatch"
    file.write_text(slurm.render(plan.job([run.path], file)))
    minicluster.run("sbatch", str(file))
    assert wait_for(run).state == "completed", told(run)
