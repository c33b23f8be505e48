"""A process knows who it is under every start method, and strangers' variables are not believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from saman.configs.schemas.script import Script
from saman.launcher.plan.environment import clean_environment, forwarded, job_environment
from saman.launcher.plan.placement import Placement, Process
from saman.launcher.rank.assignment import (
    MisplacedRank,
    chosen_cores,
    chosen_gpus,
    horovod_variables,
    planned,
    rank_variables,
)
from saman.runs.ranks.identity import ProcessIdentity, identify

# What real start methods set (shortened to what is read).
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "PMIX_RANK": "3"}  # fmt: skip
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2", "PMI_FD": "9"}
SLURM = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_NTASKS_PER_NODE": "2(x4)"}
GLOO = {"HOROVOD_RANK": "1", "HOROVOD_SIZE": "2", "HOROVOD_LOCAL_RANK": "1", "HOROVOD_LOCAL_SIZE": "2"}
TWO = Placement(
    (Process(0, "n0", 0, 0, 1, (0, 1), (0,), 2), Process(1, "n0", 1, 1, 1, (2, 3), (1,), 2)), cores_per_rank=2
)


@pytest.mark.parametrize(
    ("environ", "starter", "process", "processes"),
    [
        (OPEN_MPI, "mpirun", 3, 4),
        (HYDRA, "mpirun", 1, 2),
        (SLURM, "srun", 5, 8),
        (GLOO, "horovodrun", 1, 2),
        (OPEN_MPI, "horovodrun", 3, 4),
        (OPEN_MPI | SLURM, "mpirun", 3, 4),
        (OPEN_MPI | SLURM, "srun", 5, 8),
        (SLURM | {"SAMAN_PROCESS": "1", "SAMAN_PROCESSES": "2"}, "processes", 1, 2),
        (OPEN_MPI, None, 3, 4),
        (SLURM, None, 5, 8),
        ({}, None, 0, 1),
    ],
)
def test_a_process_knows_who_it_is(environ: dict[str, str], starter: str | None, process: int, processes: int) -> None:
    found = identify(environ, starter)
    assert (found.process, found.processes) == (process, processes)


def test_singletons_are_noticed() -> None:
    with pytest.raises(ValueError, match="mpirun set none of OMPI_COMM_WORLD_RANK, PMI_RANK"):
        identify(SLURM, "mpirun")
    with pytest.raises(MisplacedRank, match="started 1 process.* 2 were planned"):
        planned(TWO, ProcessIdentity(0, 1, source="srun"), "n0", 4)


def test_a_process_on_another_node_than_planned_is_misplaced() -> None:
    assert planned(TWO, ProcessIdentity(1, 2), "n0.cluster.edu", 4).first_rank == 1
    with pytest.raises(MisplacedRank, match="was planned on n0, but is on n1"):
        planned(TWO, ProcessIdentity(1, 2), "n1", 4)


def test_without_a_plan_a_process_takes_its_share_of_the_node() -> None:
    process = planned(None, ProcessIdentity(5, 8, 1, 2, "srun"), "n2", 8)
    assert (process.index, process.first_rank, process.cores) == (5, 5, (0, 1, 2, 3))[:2] + ((4, 5, 6, 7),)


@pytest.mark.parametrize(
    ("allowed", "indices", "chosen"),
    [
        ([4, 5, 6, 7], (2, 3), (6, 7)),
        ([4, 5], (2, 3), (4, 5)),
        ([4, 5, 6], (2, 3), (6, 4)),
        ([4, 5], (), (4, 5)),
        ([9], (0, 1), (9,)),
    ],
)
def test_cores_are_indices_into_what_the_process_may_use(
    allowed: list[int], indices: tuple[int, ...], chosen: tuple[int, ...]
) -> None:
    assert chosen_cores(allowed, indices) == chosen


def test_gpus_are_indices_into_what_is_visible_and_too_few_fail_the_run() -> None:
    assert chosen_gpus(["GPU-a", "GPU-b"], (1,)) == ("GPU-b",)
    assert chosen_gpus(["3"], (1,)) == ("3",)
    with pytest.raises(MisplacedRank, match="2 GPUs were planned for this process, 1 are visible"):
        chosen_gpus(["0"], (0, 1))


def test_threads_match_the_cores_of_the_process() -> None:
    variables = rank_variables(TWO.processes[1], TWO, ProcessIdentity(1, 2), cores=2)
    assert variables["TF_NUM_INTRAOP_THREADS"] == variables["OMP_NUM_THREADS"] == "2"
    assert (variables["SAMAN_FIRST_RANK"], variables["SAMAN_SIZE"], variables["SAMAN_CORES_PER_RANK"]) == (
        "1",
        "2",
        "2",
    )


def test_horovod_is_told_of_nodes_as_horovodrun_would() -> None:
    placement = Placement(tuple(Process(i, f"n{i // 2}", i % 2, i, 1) for i in range(4)), 1)
    variables = horovod_variables(placement.processes[3], placement, "10.0.0.1", 7)
    names = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE")
    assert [variables[f"HOROVOD_{name}"] for name in names] == ["3", "4", "1", "2", "1", "2"]
    assert "HOROVOD_GLOO_IFACE" not in variables


def test_variables_of_an_enclosing_run_are_taken_away_and_settings_kept() -> None:
    stray = {**OPEN_MPI, **HYDRA, **GLOO, "TF_CONFIG": "{}", "SAMAN_RUN": "/x", "HOROVOD_GLOO_RENDEZVOUS_PORT": "1"}
    kept = {"HOROVOD_CYCLE_TIME": "1", "OMPI_MCA_btl": "self", "SLURM_CONF": "/etc", "PMIX_MCA_gds": "hash"}
    assert clean_environment({**stray, **kept}, Path("/here")) == kept


def test_search_paths_become_absolute() -> None:
    cleaned = clean_environment({"PYTHONPATH": "src:/abs", "PATH": "/bin"}, Path("/here"))
    assert cleaned == {"PYTHONPATH": "/here/src:/abs", "PATH": "/bin"}
    assert forwarded({"PYTHONPATH": "x", "NCCL_DEBUG": "1", "SECRET": "2", "TF_CONFIG": "3"}) == (
        "NCCL_DEBUG",
        "PYTHONPATH",
    )


def test_what_the_user_sets_has_the_last_word() -> None:
    spec = Script.model_validate(
        {"name": "a", "command": ["x"], "directory": "/", "launch": {"environment": {"OMP_NUM_THREADS": "3"}}}
    )
    variables = job_environment(spec, Path("/"), (), {})
    assert variables["OMP_NUM_THREADS"] == "3" and variables["SAMAN_GIVEN"] == "OMP_NUM_THREADS"
    legacy = job_environment(spec.model_copy(update={"legacy_keras": True}), Path("/"), (), {})
    assert legacy["TF_USE_LEGACY_KERAS"] == "1" and "KERAS_BACKEND" not in legacy
