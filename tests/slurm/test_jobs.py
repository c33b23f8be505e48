"""The life of jobs on a real Slurm: placed as planned, followed, cancelled, cut short, gone on with."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.runs import bash, script, site, standing, submitted, told, wait_for

from saman.configs.errors import UserError
from saman.configs.loading.experiments import load_experiment
from saman.jobs.cancel import cancel_runs
from saman.runs.folder import RunFolder
from saman.runs.ranks.records import RankRecord
from saman.slurm.site import client
from saman.slurm.submission import planning
from saman.slurm.submission import submit as slurm
from saman.slurm.submission.code_copy import code_copy

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module", autouse=True)
def late(minicluster: Minicluster) -> RunFolder:
    """A run that will meet its time limit, submitted first, because a minute is the shortest that Slurm knows."""
    spec = bash("late", "sleep 300", minicluster.shared, time_limit="00:01:00")
    return submitted(spec, site(requeue={"by": "none"}), minicluster.shared, exclude=("node1", "node2")).run


HOSTILE = [
    "two words",
    "it's",
    'say "x"',
    "$(touch PWNED)",
    "`touch PWNED`",
    "a\nb",
    "ü 数据 🙂",
    "a,b",
    "*",
    "",
    "\\",
    "-x",
]


def test_every_rank_lands_where_planned_and_hostile_text_arrives_intact(minicluster: Minicluster) -> None:
    home = minicluster.shared / "a folder with 'quotes', \"more\", $HOME, 100% & ü"
    home.mkdir()
    (home / "show.py").write_text(
        "import json, os, sys\n"
        "facts = [sys.argv[1:], os.environ['FROM_CLUSTER'], os.environ['FROM_RUN'], os.getcwd()]\n"
        "open(os.environ['SAMAN_RUN'] + '/said-' + os.environ['SAMAN_PROCESS'], 'w').write(json.dumps(facts))\n"
    )
    nasty = "a,b='$(touch PWNED)'\n\"x\" ü"
    spec = script("hostile", ["python3", "show.py", *HOSTILE], home, nodes=4)
    spec = spec.model_copy(update={"launch": spec.launch.model_copy(update={"environment": {"FROM_RUN": nasty}})})
    cluster = site(environment={"FROM_CLUSTER": nasty}, sbatch=["--comment=$(touch PWNED)"])
    plan = planning.plan(spec, cluster, home / "runs 'of' $mine", "main", {})
    copy = code_copy(spec, (home,), home / "runs 'of' $mine")
    assert copy is not None
    run = slurm.submit(plan, (home,), copy).run
    (home / "show.py").write_text("raise SystemExit('edited while queued')\n")
    assert wait_for(run).state == "completed", told(run)
    attempt = run.attempt(1)
    nodes = [record.node for rank in range(4) if (record := RankRecord.read(attempt.rank_record(rank)))]
    assert nodes == ["node1", "node2", "node3", "node4"]
    for process in range(4):
        arguments, of_cluster, of_run, where = json.loads((run.path / f"said-{process}").read_text())
        assert (arguments, of_cluster, of_run) == (HOSTILE, nasty, nasty)
        assert Path(where) == copy.of(home)
    assert not list(minicluster.shared.rglob("PWNED")) and not list(minicluster.root.glob("spool/**/PWNED"))


def test_a_job_that_silently_runs_on_one_node_fails(minicluster: Minicluster) -> None:
    shim = minicluster.shared / "shim"
    shim.mkdir()
    real = client.ask(["which", "srun"]).out.strip()
    (shim / "srun").write_text(
        "#!/bin/bash\nargs=()\n"
        'for word in "$@"; do\n'
        "  case $word in --nodes=*) word=--nodes=1;; --nodelist=*) word=--nodelist=node1;; "
        "--ntasks-per-node=*) word=--ntasks-per-node=2;; esac\n"
        f'  args+=("$word")\ndone\nexec {real} --overcommit "${{args[@]}}"\n'
    )
    (shim / "srun").chmod(0o755)
    cluster = site(environment={"PATH": f"{shim}:{os.environ['PATH']}"})
    run = submitted(bash("elsewhere", "sleep 1", minicluster.shared, nodes=2), cluster, minicluster.shared).run
    status = wait_for(run)
    assert status.state == "failed", told(run)
    assert "was planned on node2, but is on node1" in status.detail


def test_ranks_run_in_the_image_where_the_site_has_containers_only(minicluster: Minicluster) -> None:
    folder = minicluster.shared / "apptainer"
    folder.mkdir()
    image = "/images/it's $(touch PWNED).sif"
    (folder / "apptainer").write_text(  # stands for the real one: shows its options, runs what follows the image
        '#!/bin/bash\nprintf "%s\\n" "$@" >"$SAMAN_RUN/options"\n'
        f'while [ "$1" != {shlex.quote(image)} ]; do shift; done; shift; exec "$@"\n'
    )
    (folder / "apptainer").chmod(0o755)
    cluster = site(
        container={"image": image, "binds": ["/a b:/c:ro"]}, environment={"PATH": f"{folder}:{os.environ['PATH']}"}
    )
    text = 'echo "rank $SAMAN_PROCESS in the image"'
    run = submitted(bash("image", text, minicluster.shared), cluster, minicluster.shared).run
    assert wait_for(run).state == "completed", told(run)
    assert "rank 0 in the image" in run.attempt(1).log(0).read_text()
    options = (run.path / "options").read_text().splitlines()
    assert options[:4] == ["exec", "--bind", "/a b:/c:ro", "--bind"] and image in options
    assert not list(minicluster.shared.rglob("PWNED"))


def test_the_sites_modules_are_loaded_and_one_that_is_missing_is_named(minicluster: Minicluster) -> None:
    if not any(Path(file).is_file() for file in ("/etc/profile.d/modules.sh", "/etc/profile.d/lmod.sh")):
        pytest.skip("no Environment Modules or Lmod here (apt-get install environment-modules)")
    folder = minicluster.shared / "modules of 'ours'"
    (folder / "tool").mkdir(parents=True)
    text = '#%Module1.0\nsetenv TOOL_SAYS "from the module"\nprepend-path PATH /opt/tool\n'
    (folder / "tool" / "1.0").write_text(text)
    modules = {"purge": True, "use": [str(folder)], "load": ["tool/1.0"]}
    text = 'echo "$TOOL_SAYS"; echo "$PATH"'
    cluster = site(software={"modules": modules, "python": sys.executable})
    loaded = submitted(bash("modules", text, minicluster.shared), cluster, minicluster.shared).run
    cluster = site(software={"modules": {**modules, "load": ["tool/2.0"]}, "python": sys.executable})
    missing = submitted(bash("no-module", text, minicluster.shared), cluster, minicluster.shared)
    assert wait_for(loaded).state == "completed", told(loaded)
    says, path = loaded.attempt(1).log(0).read_text().splitlines()
    assert says == "from the module" and "/opt/tool" in path.split(":")
    until(lambda: client.queue()[missing.job].state.ended, 20)
    assert "saman: module load tool/2.0 failed on node" in (missing.run.path / "slurm" / "job.out").read_text()
    until(lambda: (client.accounting([missing.job]) or {})[missing.job].code == 3, 20)


@pytest.mark.parametrize("dialect", ["gres", "gpus-per-node", "gpus-per-task"])
def test_every_rank_records_the_gpus_that_the_job_has_on_its_node(minicluster: Minicluster, dialect: str) -> None:
    cluster = site(gpus={"request": dialect, "typed": True})
    text = 'echo "$CUDA_VISIBLE_DEVICES"; sleep 1'
    spec = bash(f"gpus-{dialect}", text, minicluster.shared, nodes=2, ranks_per_node=2, gpus_per_rank=1)
    done = submitted(spec, cluster, minicluster.shared)
    shown = client.show_job(done.job)
    assert shown["TresPerTask" if dialect == "gpus-per-task" else "TresPerNode"] == {
        "gres": "gres:gpu:fake:2", "gpus-per-node": "gres:gpu:fake:2", "gpus-per-task": "gres:gpu:fake:1",
    }[dialect]  # fmt: skip
    assert wait_for(done.run).state == "completed", told(done.run)
    attempt = done.run.attempt(1)
    for rank in range(4):  # programs choose theirs by local rank among the node's
        record = RankRecord.read(attempt.rank_record(rank))
        assert record is not None and len(set(record.gpus)) == 2, record
        assert attempt.log(rank).read_text() == ",".join(record.gpus) + "\n"


def test_a_rank_of_an_experiment_gets_its_own_gpu_where_requests_are_per_task(minicluster: Minicluster) -> None:
    changes = ["model.build=mlp", "resources.nodes=2", "resources.ranks_per_node=2", "resources.gpus_per_rank=1",
               "resources.cpus_per_rank=1", "resources.memory_per_rank=1G", "train.strategy=horovod"]  # fmt: skip
    spec = load_experiment("quickstart", ["name=own-gpu", *changes]).experiment
    cluster = site(gpus={"request": "gpus-per-task", "typed": True})
    run = submitted(spec, cluster, minicluster.shared).run
    until(lambda: _kinds(run, [("rank_started", 1)] * 4), 60)
    list(cancel_runs([run]))
    found = {(event.facts["node"], *event.facts["gpus"]) for event in run.events() if event.kind == "rank_started"}
    assert len(found) == 4 and all(len(one) == 2 for one in found), found


def test_a_failing_rank_is_named_with_its_exit_code(minicluster: Minicluster) -> None:
    text = 'echo "last words of $SAMAN_PROCESS"; [ $SAMAN_PROCESS = 1 ] && exit 7; sleep 30'
    run = submitted(bash("fails", text, minicluster.shared, nodes=2), site(), minicluster.shared).run
    status = wait_for(run)
    assert (status.state, status.first_failing_rank) == ("failed", 1), told(run)
    assert "exit" in status.detail and "7" in status.detail
    until(lambda: client.accounting([status.job or ""]), 15)
    assert standing(run).exit_code == 1


def test_queued_says_why_and_cancel_takes_the_job_out(minicluster: Minicluster) -> None:
    cluster = site(sbatch=["--begin=now+1hour"])
    done = submitted(bash("later", "true", minicluster.shared), cluster, minicluster.shared)
    status = wait_for(done.run, "queued", seconds=15)
    assert "waits for its begin time" in status.detail and status.expected_start is not None
    assert "is cancelled" in next(cancel_runs([done.run]))
    assert standing(done.run).state == "cancelled"
    assert json.loads((done.run.path / "state.json").read_text())["state"] == "cancelled"


@pytest.mark.parametrize("how", ["saman cancel", "scancel", "scancel a queued job"])
def test_a_cancelled_run_is_cancelled_and_not_requeued(minicluster: Minicluster, how: str) -> None:
    cluster = site(sbatch=["--begin=now+1hour"] if "queued" in how else [])
    done = submitted(bash("endless", "sleep 300", minicluster.shared, nodes=2), cluster, minicluster.shared)
    if "queued" not in how:
        until(lambda: any(event.kind == "rank_started" for event in done.run.events()), 30)
    if how == "saman cancel":
        list(cancel_runs([done.run]))
    else:
        client.cancel([done.job])
    status = wait_for(done.run, seconds=60)
    assert status.state == "cancelled", told(done.run)
    until(lambda: client.queue()[done.job].state.ended, 30)
    assert client.queue()[done.job].state.value == "cancelled"


def test_six_runs_of_an_array_have_each_their_own_folder_and_end(minicluster: Minicluster) -> None:
    texts = [f"sleep 1; exit {5 if number == 3 else 0}" for number in range(6)]
    specs = [bash("six", text, minicluster.shared) for text in texts]
    plans = [planning.plan(spec, site(), minicluster.shared / "runs", "main", {}) for spec in specs]
    done = slurm.submit_many(plans, lambda plan: slurm.create_run(plan, (), None), concurrency=2)
    array = done[0].job.split("_")[0]
    assert [one.job for one in done] == [f"{array}_{index}" for index in range(6)]
    most = 0

    def over() -> bool:
        nonlocal most
        jobs = [job for job in client.queue().values() if job.id.startswith(f"{array}_")]
        most = max(most, sum(job.state.value == "running" for job in jobs))
        return all(one.run.state.ended for one in done)

    until(over, 90, every=0.2)
    assert [one.run.state.value for one in done] == ["completed"] * 3 + ["failed"] + ["completed"] * 2
    assert 1 <= most <= 2
    summary = done[3].run.summary()
    assert summary is not None and "exit code 5" in str(summary.message)


def test_a_node_that_dies_twice_is_not_used_a_third_time(minicluster: Minicluster) -> None:
    text = "[ $SAMAN_ATTEMPT -gt 2 ] && exit 0; sleep 300"
    run = submitted(bash("unlucky", text, minicluster.shared, nodes=2), site(), minicluster.shared).run
    others = "node3,node4"
    for attempt in (1, 2):
        started = [("rank_started", attempt)] * 2
        until(lambda wanted=started: _kinds(run, wanted), 60)  # type: ignore[misc]
        minicluster.run("scontrol", "update", f"NodeName={others}", "State=DRAIN", "Reason=kept-away-by-a-test")
        minicluster.down_node("node2")
        until(lambda number=attempt: _lost(run, number), 60)  # type: ignore[misc]
        minicluster.up_node("node2")
        if attempt == 2:  # until then the run can only come back to the node that it lost
            until(lambda: _kinds(run, [("preempted", None)]), 60)
            minicluster.run("scontrol", "update", f"NodeName={others}", "State=RESUME")
    status = wait_for(run)
    assert status.state == "completed", told(run)
    assert [event.facts["node"] for event in run.events() if event.kind == "node_failed"] == ["node2", "node2"]
    last = [RankRecord.read(run.attempts()[-1].rank_record(rank)) for rank in (0, 1)]
    assert all(record and record.node != "node2" for record in last)


def test_a_run_whose_first_node_dies_goes_on_by_itself(minicluster: Minicluster) -> None:
    text = "[ $SAMAN_ATTEMPT -gt 1 ] && exit 0; sleep 300"
    run = submitted(bash("headless", text, minicluster.shared, nodes=2), site(), minicluster.shared).run
    until(lambda: _kinds(run, [("rank_started", 1)] * 2), 60)
    node = (RankRecord.read(run.attempt(1).rank_record(0)) or pytest.fail("no record")).node
    try:
        minicluster.down_node(node)
        assert wait_for(run).state == "completed", told(run)
    finally:
        minicluster.up_node(node)
    assert [event.facts["node"] for event in run.events() if event.kind == "node_failed"] == [node]


def test_without_scontrol_a_follow_up_goes_on_or_goes_away(minicluster: Minicluster) -> None:
    cluster = site(requeue={"by": "follow-up", "attempts": 3, "seconds_before_end": 30})
    text = "[ $SAMAN_ATTEMPT -gt 1 ] && exit 0; sleep 1; exit 85"
    again = submitted(bash("again", text, minicluster.shared), cluster, minicluster.shared)
    once = submitted(bash("once", "exit 0", minicluster.shared), cluster, minicluster.shared)
    broken = submitted(bash("broken", "exit 4", minicluster.shared), cluster, minicluster.shared)
    assert len(again.follow_ups) == 2
    assert wait_for(again.run).state == "completed", told(again.run)
    assert wait_for(once.run).state == "completed" and wait_for(broken.run).state == "failed"
    waiting = [*again.follow_ups, *once.follow_ups, *broken.follow_ups]
    until(lambda: all(client.queue()[job].state.ended for job in waiting), 60)
    assert [len(one.run.attempts()) for one in (again, once, broken)] == [2, 1, 1]


def test_every_task_of_an_array_has_follow_ups_of_its_own_where_compute_nodes_have_no_slurm_commands(
    minicluster: Minicluster,
) -> None:
    lacking = minicluster.shared / "lacking"
    lacking.mkdir()
    for command in ("scontrol", "sacct", "squeue"):
        (lacking / command).write_text("#!/bin/sh\nexit 127\n")
        (lacking / command).chmod(0o755)
    cluster = site(
        requeue={"by": "follow-up", "attempts": 3, "seconds_before_end": 30},
        environment={"PATH": f"{lacking}:{os.environ['PATH']}"},
    )
    texts = ["[ $SAMAN_ATTEMPT -gt 1 ] && exit 0; sleep 2; exit 85", "sleep 2", "exit 4", "sleep 300", "exit 0"]
    specs = [bash("tasks", text, minicluster.shared) for text in texts]
    plans = [planning.plan(spec, cluster, minicluster.shared / "runs", "main", {}) for spec in specs]
    done = slurm.submit_many(plans, lambda plan: slurm.create_run(plan, (), None), concurrency=2)
    client.cancel([done[4].job])  # before it began: its follow-up must not begin the run instead
    runs = [one.run for one in done]
    until(lambda: _kinds(runs[3], [("rank_started", 1)]), 60)
    client.cancel([done[3].job])
    for run, state in zip(runs, ("completed", "completed", "failed", "cancelled", "cancelled"), strict=True):
        assert wait_for(run).state == state, told(run)
    waiting = [job for one in done for job in one.follow_ups]
    assert len(waiting) == 10
    until(lambda: all(client.queue()[job].state.ended for job in waiting), 60)
    assert [run.state.value for run in runs] == ["completed", "completed", "failed", "cancelled", "cancelled"]
    assert [len(run.attempts()) for run in runs] == [2, 1, 1, 1, 0]
    assert (runs[0].attempt(2).path / "job.sbatch").read_text().count("  /") == 1  # its own, not the array's


def test_attempts_are_limited_and_resume_counts_anew(minicluster: Minicluster) -> None:
    cluster = site(requeue={"by": "scontrol", "attempts": 2, "seconds_before_end": 30})
    run = submitted(bash("restless", "sleep 0.5; exit 85", minicluster.shared), cluster, minicluster.shared).run
    status = wait_for(run)
    assert status.state == "failed" and "all 2 attempts" in status.detail, told(run)
    assert len(run.attempts()) == 2
    slurm.resubmit(run)
    wait_for(run, "running", "queued")
    until(lambda: run.state.ended, 60)
    assert len(run.attempts()) == 4


def test_an_account_that_does_not_exist_is_named_and_leaves_nothing(minicluster: Minicluster) -> None:
    with pytest.raises(UserError, match="account nobody-has-this does not exist") as caught:
        submitted(bash("poor", "true", minicluster.shared), site(account="nobody-has-this"), minicluster.shared)
    assert caught.value.remedy is not None
    assert not list((minicluster.shared / "runs").glob("poor/*"))


def test_a_qos_that_allows_less_is_named_with_its_value_and_the_request(minicluster: Minicluster) -> None:
    for command in (["add", "qos", "tight", "maxwall=00:02:00"], ["modify", "user", _me(), "set", "qos+=tight"]):
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


def test_a_run_is_followed_from_its_folder_where_slurm_cannot_be_asked(
    minicluster: Minicluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submitted(bash("away", "sleep 6", minicluster.shared), site(), minicluster.shared).run
    until(lambda: _kinds(run, [("rank_started", 1)]), 30)
    with monkeypatch.context() as away:
        away.setenv("PATH", "/nowhere")
        assert standing(run).state == "running"
    with monkeypatch.context() as off:  # accounting off
        off.setattr(client, "accounting", lambda ids: None)
        assert wait_for(run).state == "completed"


def test_a_time_limit_is_said_with_what_to_do(late: RunFolder) -> None:
    run = late
    status = wait_for(run, seconds=170)
    assert status.state == "failed" and "time limit" in status.detail, told(run)


def _kinds(run: RunFolder, wanted: Sequence[tuple[str, int | None]]) -> bool:
    found = [(event.kind, event.attempt) for event in run.events()]
    return all(found.count(one) >= wanted.count(one) for one in wanted)


def _lost(run: RunFolder, number: int) -> bool:
    return sum(event.kind == "node_failed" for event in run.events()) >= number


def _me() -> str:
    return client.user_name()


def test_nothing_is_left_running(no_jobs: Minicluster) -> None:
    time.sleep(0.5)
    assert not [job for job in client.queue().values() if job.state.value == "running"]
