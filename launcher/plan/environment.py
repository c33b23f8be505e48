"""The environment of the ranks: variables to set, to remove and to forward to other nodes. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from saman.configs.schemas.script import Script
from saman.configs.units import parse_size
from saman.runs import variables
from saman.runs.tf_cluster.roles import Roles

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment, Resources

SEARCH_PATHS = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
# Left behind by an enclosing run or job: inherited values would give the rank a wrong identity.
_STRAY_PREFIXES = (
    *("OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "OMPI_FILE_", "OMPI_APP_", "OMPI_FIRST_RANKS", "OMPI_COMMAND", "OMPI_ARGV"),
    *(
        "OMPI_NUM_APP",
        "OMPI_MCA_orte_",
        "OMPI_MCA_ess",
        "PMIX_",
        "PMI_",
        "PMI2_",
        "PRTE_LAUNCHED",
        "HYDI_",
        "MPI_LOCAL",
    ),
    *(variables.PREFIX, "HOROVOD_LOCAL_", "HOROVOD_CROSS_", "HOROVOD_GLOO_RENDEZVOUS_"),
)
_STRAY = frozenset(
    {"HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_HOSTNAME", "HOROVOD_CONTROLLER", "HOROVOD_CPU_OPERATIONS", "TF_CONFIG"}
)
_KEPT_PREFIXES = ("PMIX_MCA_",)
_FORWARDED = (*SEARCH_PATHS, "VIRTUAL_ENV", "CONDA_PREFIX", *variables.SETTINGS)
_FORWARDED_PREFIXES = ("HOROVOD_", "NCCL_", "TF_", "XLA_", "KERAS_", "CUDA_", "OMP_", "KMP_", "GLOO_")


def clean_environment(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """The inherited variables without those of an enclosing run; search paths made absolute."""
    # Absolute, because ranks are started from the run folder.
    kept = {
        name: value
        for name, value in environ.items()
        if name in variables.SETTINGS
        or (name not in _STRAY and (not name.startswith(_STRAY_PREFIXES) or name.startswith(_KEPT_PREFIXES)))
    }
    for name in SEARCH_PATHS:
        if kept.get(name):
            kept[name] = os.pathsep.join(os.path.join(directory, entry) for entry in kept[name].split(os.pathsep))  # noqa: PTH118  ("" and "." too)
    return kept


def forwarded(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the inherited variables to forward to ranks on other nodes."""
    return tuple(
        sorted(
            name
            for name in environ
            if name in _FORWARDED or name.startswith(_FORWARDED_PREFIXES) and name not in _STRAY
        )
    )


def job_environment(
    spec: Experiment | Script,
    directory: Path,
    code_path: Iterable[Path],
    environ: Mapping[str, str],
    threads: int | None = None,
) -> dict[str, str]:
    """Variables to set for every process of a run; ``launch.environment`` overrides all others.

    Args:
        spec: the experiment or script.
        directory: the folder in which the program starts.
        code_path: folders of the user's code, in the order of the search.
        environ: the user's environment; a variable set there is kept where saman has only a default.
        threads: threads of each process; ``None`` for as many as it has cores.
    """
    own = {
        variables.DIRECTORY: str(directory),
        variables.CODE_PATH: os.pathsep.join(str(folder) for folder in code_path),
        variables.LOG_LIMIT: str(parse_size(spec.launch.log_limit)),
        "PYTHONUNBUFFERED": "1",
    }
    if isinstance(spec, Script):
        own[variables.STOP_SIGNAL] = spec.launch.stop_signal
        if (asked := spec.launch.tf_config) is not None:
            own[variables.TF_ROLES] = Roles(asked.chief, asked.servers, asked.evaluator).text
        own |= {"TF_USE_LEGACY_KERAS": "1"} if spec.legacy_keras else {}
    else:
        own["KERAS_BACKEND"] = "tensorflow"
        # TensorFlow prints a page of notices per rank unless the user asks for it.
        own |= {} if "TF_CPP_MIN_LOG_LEVEL" in environ else {"TF_CPP_MIN_LOG_LEVEL": "2"}
    given = {**({} if threads is None else _thread_variables(threads)), **spec.launch.environment}
    return own | dict(given) | {variables.GIVEN: ",".join(given)}


def threads_per_process(resources: Resources, devices_per_process: int, cores_per_rank: int) -> int | None:
    """Threads of each process; ``None`` where it has a thread for each core that it is bound to.

    Args:
        resources: the request.
        devices_per_process: ranks in one process.
        cores_per_rank: cores of each rank, by its placement.
    """
    if resources.threads_per_rank == "auto" and resources.binding == "cores":
        return None
    each = cores_per_rank if resources.threads_per_rank == "auto" else resources.threads_per_rank
    return each * devices_per_process


def _thread_variables(threads: int) -> dict[str, str]:
    return {"TF_NUM_INTRAOP_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
