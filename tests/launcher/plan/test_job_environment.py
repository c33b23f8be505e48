"""The variables that ranks start with: an enclosing run's identity is removed, settings are kept."""

from __future__ import annotations

from pathlib import Path

from saman.configs.schemas.experiment import Resources
from saman.configs.schemas.script import Script
from saman.launcher.plan.environment import clean_environment, forwarded, job_environment, threads_per_process

STRAY = {"OMPI_COMM_WORLD_RANK": "3", "PMIX_RANK": "3", "PMI_RANK": "1", "MPI_LOCALRANKID": "1", "PMI_FD": "9",
         "HOROVOD_RANK": "1", "HOROVOD_SIZE": "2", "HOROVOD_LOCAL_RANK": "1"}  # fmt: skip


def test_variables_of_an_enclosing_run_are_taken_away_and_settings_kept() -> None:
    stray = {**STRAY, "TF_CONFIG": "{}", "SAMAN_RUN": "/x", "HOROVOD_GLOO_RENDEZVOUS_PORT": "1"}
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


def test_threads_are_those_of_the_experiment_or_as_many_as_cores() -> None:
    def threads(**resources: object) -> int | None:
        return threads_per_process(Resources.model_validate(resources), 2, cores_per_rank=4)

    assert threads() is None  # the wrapper of a rank counts the cores that it is bound to
    assert threads(threads_per_rank=3) == 6
    assert threads(binding="none") == 8
    spec = Script.model_validate({"name": "a", "command": ["x"], "directory": "/"})
    variables = job_environment(spec, Path("/"), (), {}, threads=6)
    assert variables["TF_NUM_INTRAOP_THREADS"] == variables["OMP_NUM_THREADS"] == "6"
    assert set(variables["SAMAN_GIVEN"].split(",")) == {"TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"}
