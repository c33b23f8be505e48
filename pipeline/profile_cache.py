"""Profiles of models on this machine: measured once by a process of its own, then read from a cache.

The process is ``python -m saman.trainers.profile``; this file needs no TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from saman.configs import yaml12
from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.names import is_reference
from saman.configs.schemas.experiment import Experiment
from saman.pipeline.profile import Profile, micro_batch_examples
from saman.runs import variables
from saman.runs.caches import cache_folder
from saman.runs.commands import run_command
from saman.runs.files.whole import read_json, write_whole

# Variables of a rank: with them the measuring process, which may be started by a rank, would act as that rank.
_RANK_VARIABLES = ("OMPI_", "PMIX_", "PMI_", "HOROVOD_", variables.PREFIX, "SLURM_PROCID", "TF_CONFIG")


def load_or_measure(experiment: Experiment, code_path: Iterable[Path], threads: int, again: bool = False) -> Profile:
    """Return the layers' profile for a pipeline, from the cache or measured now (seconds to a minute).

    Args:
        experiment: The experiment; its micro-batch size, precision and data determine the measurement.
        code_path: Folders of the user's code.
        threads: Threads of the measuring process: as many as a rank will have.
        again: Measure even if the profile is in the cache.

    Raises:
        UserError: The model cannot be cut.
        EnvironmentLack: The training environment is missing, or the cache folder cannot be written.
    """
    path = list(code_path)
    found = None if again else load(experiment, path, threads)
    if found is not None:
        return found
    file = _file(experiment, path, threads)
    _measure(experiment, path, threads, file)
    profile = Profile.from_json(read_json(file))
    if profile is None:
        raise EnvironmentLack("the new profile cannot be read", where=str(file), remedy="check the disk, then repeat")
    return profile


def load(experiment: Experiment, code_path: Iterable[Path], threads: int) -> Profile | None:
    """Return the profile from the cache.

    Args:
        experiment: The experiment; its model, data, precision and micro-batch size identify the profile.
        code_path: Folders of the user's code; its content is part of the identity.
        threads: Threads of a rank during the measurement.

    Returns:
        The profile; ``None`` if the model was not measured on this machine.
    """
    return Profile.from_json(read_json(_file(experiment, list(code_path), threads)))


def _file(experiment: Experiment, code_path: list[Path], threads: int) -> Path:
    identity = json.dumps(_identity(experiment, code_path, threads), sort_keys=True)
    return cache_folder() / "profiles" / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.json"


def _identity(experiment: Experiment, code_path: list[Path], threads: int) -> dict[str, Any]:
    """Return everything that the measured times depend on, as far as it is known without building the model."""
    references = [name for name in (experiment.model.build, experiment.data.source) if is_reference(name)]
    return {
        "model": experiment.model.model_dump(mode="json"),
        "data": experiment.data.model_dump(mode="json"),
        "code": {name: _source_digest(name, code_path) for name in references},
        "examples": micro_batch_examples(experiment),
        "precision": experiment.train.precision,
        "gpus": experiment.resources.gpus_per_rank,
        "threads": threads,
        "processor": _processor(),
        "python": sys.version.split()[0],
        "interpreter": sys.prefix,
    }


def _measure(experiment: Experiment, code_path: list[Path], threads: int, file: Path) -> None:
    """Start the process that measures and writes ``file``."""
    request = file.with_suffix(".experiment.yaml")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(request, yaml12.dump(experiment.written()))
    except OSError as error:
        remedy = f"set {variables.CACHE_DIR} to a folder that can be written"
        problem = f"cannot write profiles: {error.strerror}"
        raise EnvironmentLack(problem, where=str(file.parent), remedy=remedy) from None
    command = [sys.executable, "-m", "saman.trainers.profile", str(request), str(file)]
    done = run_command(command, environment=_environment(os.environ, code_path, threads))
    request.unlink(missing_ok=True)
    if done.returncode == 0:
        return
    last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
    message = last[0].removeprefix("saman: ")
    if done.returncode == 2:
        raise UserError(message)
    raise EnvironmentLack(f"measuring the layers failed: {message}", remedy="saman doctor shows what is missing")


def _environment(environ: Mapping[str, str], code_path: list[Path], threads: int) -> dict[str, str]:
    """Return the environment of the measuring process."""
    kept = {
        name: text
        for name, text in environ.items()
        if name in variables.SETTINGS or not name.startswith(_RANK_VARIABLES)
    }
    return {
        **kept,
        variables.CODE_PATH: os.pathsep.join(str(folder) for folder in code_path),
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1",
        "OMP_NUM_THREADS": str(threads),
    }


def _source_digest(reference: str, code_path: list[Path]) -> str | None:
    """Return the SHA-256 of the file that ``package.module:function`` names, or ``None`` if it is not found."""
    parts = reference.partition(":")[0].split(".")
    for folder in [*code_path, *(Path(entry) for entry in sys.path if entry)]:
        file = folder.joinpath(*parts).with_suffix(".py")
        if file.is_file():
            return hashlib.sha256(file.read_bytes()).hexdigest()
    return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} × {os.cpu_count()}"
