"""The pure decisions: partition, limits, reasons, what a start lost, what a preflight shows."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.configs.loading.clusters import load_cluster
from saman.configs.loading.files import shipped
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.script import Script
from saman.jobs.status import RunStatus, SlurmView, status_of
from saman.launcher.node.mpi import Flavour, MpiInstallation
from saman.launcher.starters.start import Command, Start
from saman.runs.events import Event
from saman.runs.folder import RunFolder
from saman.slurm.job import decisions
from saman.slurm.job.allocation import allocation, cpus_per_node
from saman.slurm.job.container import contained
from saman.slurm.job.decisions import Begin, Cause
from saman.slurm.job.shield import shielded
from saman.slurm.preflight import by_node, odd_ones, option
from saman.slurm.site import job_states, limits
from saman.slurm.site.client import RecordedJob, clean_environment, fields_of
from saman.slurm.site.discovery import cluster_yaml, describe
from saman.slurm.site.job_states import JobState
from saman.slurm.submission import limit_check
from saman.slurm.submission.refusals import refusal
from saman.slurm.submission.resource_request import ResourceRequest, choose


def cluster(**keys: Any) -> Cluster:
    partitions = [
        {"name": "cheap", "cores_per_node": 8, "max_nodes": 2, "max_time": "01:00:00", "memory_per_node": "16G",
         "cost_per_node_hour": 0.5},
        {"name": "large", "cores_per_node": 64, "max_time": "2-00:00:00", "gpus_per_node": 4, "cost_per_node_hour": 4},
    ]  # fmt: skip
    return validated(Cluster, {"name": "site", "partitions": partitions, **keys}, "site.yaml")


def run(**resources: Any) -> Script:
    return validated(Script, {"name": "x", "command": ["true"], "directory": "/", "resources": resources}, "x")


def test_the_cheapest_partition_that_fits_is_taken_and_the_choice_explained() -> None:
    choice = choose(cluster(), run(nodes=2, ranks_per_node=4))
    assert choice.partition.name == "cheap" and choice.cost == pytest.approx(1.0)
    assert choice.request == ResourceRequest(2, 4, 2, 0, 16 << 30, 3600, False)
    assert any("large would cost" in reason for reason in choice.reasons)


def test_if_no_partition_fits_each_says_why() -> None:
    with pytest.raises(UserError) as caught:
        choose(cluster(), run(nodes=3, ranks_per_node=1, gpus_per_rank=5, time_limit="3-00:00:00"))
    text = str(caught.value)
    assert "partition cheap: 3 nodes are asked for and at most 2 are allowed" in text
    assert "5 GPUs per node are asked for and a node has 4" in text and "at most 2-00:00:00 is allowed" in text


def test_ranks_on_gpus_get_the_cores_that_belong_to_them() -> None:
    choice = choose(cluster(), run(nodes=1, ranks_per_node=2, gpus_per_rank=1))
    assert (choice.request.cpus_per_task, choice.request.gpus_per_node) == (16, 2)


@pytest.mark.parametrize("name", shipped("clusters"))
def test_every_shipped_cluster_file_is_sound_and_says_what_is_wrong_in_a_changed_one(name: str) -> None:
    assert load_cluster(name).partitions
    for change, message in (("nme=x", "did you mean 'name'"), ("mpi.start=ssh", "valid: gloo, mpirun, srun"),
                            ("sbatch=['--nodes=9']", "saman sets --nodes itself"), ("account=$(id)", "account"),
                            ("network={interface: 'eth0; id'}", "network.interface")):  # fmt: skip
        with pytest.raises(UserError, match=message.replace("$", r"\$").replace("(", r"\(").replace(")", r"\)")):
            load_cluster(name, (change,))


def test_an_enclosing_jobs_variables_are_left_out_and_slurm_conf_is_kept() -> None:
    before = {"SLURM_CONF": "c", "SLURM_JOB_ID": "1", "SBATCH_ACCOUNT": "a", "SQUEUE_FORMAT": "%i", "HOME": "h"}
    assert clean_environment(before) == {"SLURM_CONF": "c", "HOME": "h"}


@pytest.mark.parametrize(
    ("slurm", "state"),
    [("CANCELLED by 1000", JobState.CANCELLED), ("COMPLETING", JobState.ENDING), ("NODE_FAIL", JobState.NODE_FAIL),
     ("OUT_OF_ME+", JobState.UNKNOWN), ("OUT_OF_MEMORY", JobState.FAILED), ("TIMEOUT", JobState.TIMEOUT)],
)  # fmt: skip
def test_slurms_states_are_understood(slurm: str, state: JobState) -> None:
    assert job_states.job_state(slurm) is state


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Priority", "waits behind jobs of higher priority"),
        ("QOSMaxWallDurationPerJobLimit", "more time than the QOS allows in one job, so it will never start"),
        ("AssocGrpCpuLimit", "the account or user may use only so many cores at once"),
        ("QOSMaxSubmitJobPerUserLimit", "the QOS allows only so many submitted jobs for one user"),
        ("ReqNodeNotAvail,_UnavailableNodes:n1", "nodes that are down, reserved or in maintenance"),
        ("SomethingNew", "Slurm's reason is SomethingNew"),
    ],
)
def test_pending_reasons_are_said_in_plain_words(reason: str, words: str) -> None:
    assert words in job_states.reason(reason)


def test_refusals_name_what_was_asked_for() -> None:
    asked = dict.fromkeys(
        [
            "account",
            "partition",
            "qos",
            "time",
            "nodes",
            "tasks",
            "cpus",
            "memory",
            "gpus",
            "constraint",
            "reservation",
        ],
        "?",
    )
    text = "sbatch: error: Batch job submission failed: Invalid qos specification"
    assert "the QOS express does not exist" in refusal(text, {**asked, "qos": "express"})[0]
    said = refusal("sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: x", asked)[0]
    assert "because the QOS allows only so many submitted jobs for one user" in said
    assert "something new" in refusal("sbatch: error: something new", asked)[0]


LIMITS = """Current Association Manager state
ClusterName=c Account=root UserName= ParentAccount= GrpJobs=N(3) GrpTRES=cpu=N(9),gres/gpu=16(4) MaxJobs= MaxWallPJ=
ClusterName=c Account=a UserName= ParentAccount=root(1) GrpJobs=4(3) GrpTRESMins=cpu=600(300) MaxWallPJ=120
ClusterName=c Account=a UserName=me(7) ParentAccount= GrpJobs=N(3) MaxJobs=2 MaxTRESPJ=node=1
ClusterName=c Account=a UserName=other(8) ParentAccount= MaxJobs=1
QOS=fast(3) GrpTRES=cpu=N(2) MaxWallPJ=5 Account Limits= a={MaxJobsPA=N(1)} User Limits= 7={MaxSubmitJobsPU=2(1)} 8={MaxSubmitJobsPU=2(2)}
QOS=slow(4) MaxWallPJ=1 Account Limits= User Limits=
"""  # noqa: E501


def test_only_the_limits_that_count_for_me_are_read() -> None:
    found = {
        (one.owner, one.name, one.resource): (one.amount, one.used)
        for one in limits.read_limits(LIMITS, "a", ["fast"], 7)
    }
    assert found == {
        ("account root", "GrpTRES", "gres/gpu"): (16, 4),
        ("account a", "GrpJobs", "jobs"): (4, 3),
        ("account a", "GrpTRESMins", "cpu-minutes"): (600, 300),
        ("account a", "MaxWallPJ", "wall"): (120, None),
        ("you in account a", "MaxJobs", "jobs"): (2, None),
        ("you in account a", "MaxTRESPJ", "node"): (1, None),
        ("QOS fast", "MaxWallPJ", "wall"): (5, None),
        ("QOS fast", "MaxSubmitJobsPU", "submit"): (2, 1),
    }


def test_limits_of_a_qos_that_nobody_has_used_yet_are_read_too() -> None:
    known = limits.read_limits(LIMITS, "a", ["fast"], 7)
    found = limits.unused_limits("fast||5|cpu=16,gres/gpu=2|9||\nslow||||||\n", known)
    assert {(one.name, one.resource): (one.amount, one.used) for one in found} == {
        ("MaxTRESPU", "cpu"): (16, 0), ("MaxTRESPU", "gres/gpu"): (2, 0), ("MaxJobsPA", "jobs"): (9, 0),
    }  # fmt: skip


def test_a_request_is_held_against_limits_with_their_value_and_the_need() -> None:
    found = limits.read_limits(LIMITS, "a", ["fast"], 7)
    findings = limit_check.judge(found, [ResourceRequest(2, 1, 4, 0, None, 3600, False)] * 2, 8)
    by_name = {(one.limit.owner, one.limit.name): one for one in findings}
    assert by_name["QOS fast", "MaxWallPJ"].verdict is limit_check.LimitVerdict.NEVER
    assert "allows 0:05 h in one job (MaxWallPJ); this needs 1:00 h" in by_name["QOS fast", "MaxWallPJ"].sentence()
    assert (
        by_name["account a", "GrpTRESMins"].verdict is limit_check.LimitVerdict.WAITS
    )  # 300 used and 2 × 8 × 60 needed
    assert by_name["account a", "GrpJobs"].verdict is limit_check.LimitVerdict.WAITS
    submit = by_name["QOS fast", "MaxSubmitJobsPU"]
    assert submit.verdict is limit_check.LimitVerdict.REFUSED and "Slurm would refuse it now" in submit.sentence()
    assert by_name["account a", "MaxWallPJ"].verdict is limit_check.LimitVerdict.FITS


def _events(*kinds: str) -> list[Event]:
    return [Event(kind, "submitter" if kind == "queued" else "x") for kind in kinds]


@pytest.mark.parametrize(
    ("kinds", "attempts", "begin"),
    [
        (("created", "queued"), 0, Begin.GO),
        (("queued", "attempt_started", "preempted"), 1, Begin.GO),
        (("queued", "attempt_started", "completed"), 1, Begin.NOT_NEEDED),
        (("queued", "attempt_started", "cancelled"), 1, Begin.NOT_NEEDED),
        (("queued", "attempt_started", "preempted", "attempt_started", "preempted"), 2, Begin.USED_UP),
        (("queued", "attempt_started", "attempt_started", "failed", "queued"), 2, Begin.GO),
    ],
)
def test_a_start_goes_on_only_where_it_is_needed(kinds: tuple[str, ...], attempts: int, begin: Begin) -> None:
    assert decisions.on_start(_events(*kinds), attempts, 2, ["n1"]).begin is begin


def test_a_node_lost_twice_is_avoided() -> None:
    lost = [Event("node_failed", "job", facts={"node": "n2"})] * 2
    assert decisions.on_start([*_events("queued"), *lost], 1, 9, ["n1", "n2"]) == decisions.Decision(
        Begin.ELSEWHERE, "n2 failed 2 times in this run and is left out", ("n2",)
    )
    assert decisions.on_start([*_events("queued"), *lost[:1]], 1, 9, ["n1", "n2"]).begin is Begin.GO


def test_the_node_that_fell_silent_first_is_the_lost_one_where_slurm_cannot_be_asked() -> None:
    assert decisions.suspects({}, {"n1": 130.0, "n2": 100.0, "n3": 131.0}, 0.0) == {"n2"}
    shown = {"n1": {"State": "IDLE"}, "n2": {"State": "DOWN*"}}
    assert decisions.suspects(shown, {}, 0.0) == {"n2"}


@pytest.mark.parametrize(
    ("shown", "recorded", "log", "cause"),
    [
        ({"Restarts": "1"}, None, "", Cause.PREEMPTED),
        ({"Restarts": "0"}, "CANCELLED by 0", "", Cause.CANCELLED),
        ({}, None, "*** JOB 5 ON n1 CANCELLED AT 2026-11-21T04:45:25 DUE TO PREEMPTION ***", Cause.PREEMPTED),
        ({}, None, "*** JOB 5 ON n1 CANCELLED AT 2026-11-21T04:45:25 ***", Cause.CANCELLED),
        ({}, None, "*** JOB 5 ON n1 CANCELLED AT X DUE TO NODE FAILURE, SEE LOG ***", Cause.NODE_FAILURE),
        ({}, "RUNNING", "*** JOB 4 ON n1 CANCELLED AT X ***", Cause.UNKNOWN),
    ],
)
def test_why_slurm_takes_the_nodes_away(shown: dict[str, str], recorded: str | None, log: str, cause: Cause) -> None:
    assert decisions.cause(shown, 0, recorded, log, "5") is cause


def test_the_allocation_is_read_from_slurms_variables() -> None:
    environ = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2",
               "SLURM_JOB_NODELIST": "r[1-2]n[01-02]", "SLURM_JOB_CPUS_PER_NODE": "4(x3),8"}  # fmt: skip
    found = allocation(environ, 0)
    assert (found.job, found.nodes, found.cores) == ("7_2", ("r1n01", "r1n02", "r2n01", "r2n02"), (4, 4, 4, 8))
    assert [node.pinnable for node in found.offers(allowed_here=4)] == [True] * 4
    assert not found.offers(allowed_here=64)[0].pinnable
    assert cpus_per_node("", 2) == (1, 1)


def test_ranks_run_in_the_image_and_the_wrapper_outside() -> None:
    site = load_cluster("apptainer-only")
    assert site.container is not None
    argv = (
        "srun",
        "/v/python",
        "-m",
        "saman.launcher.rank",
        "/r",
        "--",
        "/v/python",
        "-m",
        "saman.trainers.worker",
        "/r",
    )
    start = Start("srun", (Command(argv),), (Command(("/v/python", "-m", "saman.trainers.rendezvous")),))
    made = contained(start, site.container, "/v/python", [Path("/r")], gpus=True)
    inside = list(made.commands[0].argv[6:])
    assert made.commands[0].argv[:6] == argv[:6] and inside[:3] == ["apptainer", "exec", "--nv"]
    assert inside[-5:] == [site.container.image, "/usr/bin/python3", "-m", "saman.trainers.worker", "/r"]
    assert made.companions[0].argv[0] == "apptainer"


@pytest.mark.parametrize(
    ("version", "agent"),
    [((4, 1, 8), ["--mca", "orte_launch_agent", "/v/python -m saman.slurm.job.shield orted"]),
     ((5, 0, 11), ["--prtemca", "prte_launch_agent", "/v/python -m saman.slurm.job.shield prted"])],
)  # fmt: skip
def test_slurms_sigterm_is_kept_from_open_mpi_and_its_daemons(version: tuple[int, ...], agent: list[str]) -> None:
    mpi = MpiInstallation(Flavour.OPEN_MPI, version, "/v/mpirun")
    made = shielded(Start("mpirun", (Command(("/v/mpirun", "-np", "2", "x")),)), mpi, "/v/python")
    mpirun = ["/v/python", "-m", "saman.slurm.job.shield", "/v/mpirun", *agent, "-x", "SAMAN_SIGTERM", "-np", "2", "x"]
    assert list(made.commands[0].argv) == mpirun and made.stop_signal is signal.SIGINT
    assert made.commands[0].environment == {"SAMAN_SIGTERM": "checkpoint"}


def test_starters_that_end_their_ranks_on_sigterm_say_so() -> None:
    for starter, mpi in (("mpirun", MpiInstallation(Flavour.MPICH, (4, 2), "/v/mpirun")), ("horovodrun", None)):
        start = Start(starter, (Command((starter, "x")),))
        made = shielded(start, mpi, "/v/python")
        assert made.commands == start.commands and "the last regular checkpoint counts" in made.notes[-1]


def test_processes_are_asked_for_a_checkpoint_by_sigterm_and_ended_by_sigint() -> None:
    made = shielded(Start("processes", (Command(("python", "x")),)), None, "/v/python")
    assert made.commands == (Command(("python", "x"), {"SAMAN_SIGTERM": "checkpoint"}),)
    assert made.stop_signal is signal.SIGINT


def test_a_first_cluster_file_is_one_that_loads() -> None:
    from saman.configs import yaml12
    from saman.slurm.site.client import Answer

    nodes = ["gpu|64|512000|10|gpu:a100:4(S:0-1)", "gpu|128|1024000|2|gpu:a100:8", "cpu|48|190000+|100|(null)"]
    shown = [fields_of("PartitionName=gpu MaxNodes=4 MaxTime=1-00:00:00 OverSubscribe=EXCLUSIVE")]
    mpi = Answer(0, "MPI plugin types are...\n\tpmix\n\tpmi2\n", "")
    site = describe("Alps", nodes, shown, limits.UserLimits("phys", ("normal",), (), True), mpi)
    loaded = validated(Cluster, yaml12.parse(cluster_yaml(site), "x"), "x")
    gpu, cpu = loaded.partitions
    assert (gpu.cores_per_node, gpu.gpus_per_node, gpu.gpu_type, gpu.max_nodes) == (64, 4, "a100", 4)
    assert gpu.whole_nodes and gpu.max_time == "1-00:00:00" and loaded.mpi.pmi == "pmix"
    assert (cpu.cores_per_node, cpu.gpus_per_node, cpu.max_nodes) == (48, 0, 100)


def test_a_slow_node_stands_out_and_a_noisy_one_does_not() -> None:
    def rank(node: str, seconds: float) -> dict[str, Any]:
        return {"node": node, "matmul_seconds": seconds, "clock_offset_seconds": 0.0001}

    sound = [rank(f"n{number}", 0.010 + 0.0001 * number) for number in range(6)]
    assert odd_ones(by_node(sound)) == []
    found = odd_ones(by_node([*sound, rank("n9", 0.020)]))
    assert [one.node for one in found] == ["n9"] and option(found) == "--exclude n9"


def _seen(run: RunFolder, quiet: float, view: SlurmView) -> RunStatus:
    """Where the run stands ``quiet`` seconds after its last event."""
    events = run.events()
    return status_of(run, events, view, events[-1].time + quiet)


def test_a_job_that_slurm_no_longer_knows_has_vanished_once_it_has_been_silent_for_long(tmp_path: Path) -> None:
    from saman.slurm.submission.run_jobs import record_queued

    folder = RunFolder.create(tmp_path, run())
    record_queued(folder, "7", "site", "submitter")
    folder.append("attempt_started", "supervisor", 1)
    nothing = SlurmView({}, {}, reachable=True)
    assert _seen(folder, 30, nothing).state == "running"  # squeue lags too
    vanished = _seen(folder, 200, nothing)
    assert vanished.state == "vanished" and vanished.over and "no longer knows job 7" in vanished.detail
    away = _seen(folder, 200, SlurmView({}, None, reachable=False))
    assert away.state == "running" and "cannot be asked from here" in away.detail


def test_accounting_that_lags_behind_the_end_of_a_job_is_waited_for(tmp_path: Path) -> None:
    from saman.slurm.submission.run_jobs import record_queued

    folder = RunFolder.create(tmp_path, run())
    record_queued(folder, "7_1", "site", "submitter")
    folder.append("attempt_started", "supervisor", 1)

    def recorded(state: JobState) -> SlurmView:
        return SlurmView({}, {"7_1": RecordedJob("7_1", state, 1, 0, None, "n1")}, reachable=True)

    lagging = _seen(folder, 200, recorded(JobState.RUNNING))  # not in squeue any more
    assert (lagging.state, lagging.detail) == ("running", "job 7_1 is ending")
    assert _seen(folder, 5, recorded(JobState.FAILED)).state == "running"  # the job's last events may still come
    ended = _seen(folder, 200, recorded(JobState.FAILED))
    assert (ended.state, ended.exit_code) == ("failed", 1)
    assert "preempted and not requeued" in _seen(folder, 200, recorded(JobState.PREEMPTED)).detail
