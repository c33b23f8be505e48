"""What a model's layers take on this machine: measured once by a process of its own, then read from a cache.

The process is ``python -m saman.trainers.profile``; this file needs no TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saman.configs import yaml12
from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.files import read_json, write_whole
from saman.configs.names import is_reference
from saman.configs.schemas.experiment import Experiment
from saman.pipeline.chain import Chain, Layer, Link
from saman.runs import variables
from saman.runs.caches import cache_folder
from saman.runs.commands import run_command

SCHEMA = 1
# Of a rank that profiles: inherited values would make the measuring process a rank.
_OF_RANKS = ("OMPI_", "PMIX_", "PMI_", "HOROVOD_", variables.PREFIX, "SLURM_PROCID", "TF_CONFIG")


@dataclass(frozen=True)
class Profile:
    """A measured chain. ``examples`` were in the micro-batch; ``whole_seconds`` is what one process takes for it."""

    chain: Chain
    link: Link
    examples: int
    whole_seconds: float
    about: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As it lies in the cache."""
        chain = self.chain
        return {
            "schema": SCHEMA,
            "layers": [asdict(layer) for layer in chain.layers],
            "crossing_bytes": chain.crossing_bytes,
            "gradient_bytes": chain.gradient_bytes,
            "uncuttable": {str(at): why for at, why in chain.uncuttable.items()},
            "link": asdict(self.link),
            "examples": self.examples,
            "whole_seconds": self.whole_seconds,
            "about": dict(self.about),
        }

    @classmethod
    def from_json(cls, value: Any) -> Profile | None:
        """``None`` where it is missing, torn or of another schema."""
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            return None
        try:
            chain = Chain(
                tuple(Layer(**layer) for layer in value["layers"]),
                tuple(value["crossing_bytes"]),
                tuple(value["gradient_bytes"]),
                {int(at): why for at, why in value["uncuttable"].items()},
            )
            link = Link(**value["link"])
            return cls(chain, link, value["examples"], value["whole_seconds"], value["about"])
        except (KeyError, TypeError, ValueError):
            return None


def micro_batch_examples(experiment: Experiment) -> int:
    """Examples in one micro-batch of one replica."""
    return max(1, experiment.global_batch_size // max(1, experiment.replicas) // experiment.train.micro_batches)


def measured(experiment: Experiment, code_path: Iterable[Path], threads: int, again: bool = False) -> Profile:
    """The profile of an experiment's model, from the cache or measured now (seconds to a minute).

    Raises ``UserError`` for a model that cannot be cut, ``EnvironmentLack`` where the training environment is missing.
    """
    path = list(code_path)
    found = None if again else known(experiment, path, threads)
    if found is not None:
        return found
    file = _file(experiment, path, threads)
    _measure(experiment, path, threads, file)
    profile = Profile.from_json(read_json(file))
    if profile is None:
        raise EnvironmentLack("the profile that was just measured cannot be read", where=str(file))
    return profile


def known(experiment: Experiment, code_path: Iterable[Path], threads: int) -> Profile | None:
    """The profile of an experiment's model where it was measured before on this machine."""
    return Profile.from_json(read_json(_file(experiment, list(code_path), threads)))


def _file(experiment: Experiment, code_path: list[Path], threads: int) -> Path:
    return cache_folder() / "profiles" / f"{_digest(_about(experiment, code_path, threads))}.json"


def _about(experiment: Experiment, code_path: list[Path], threads: int) -> dict[str, Any]:
    """Everything that the measured times depend on and that is known without building the model."""
    references = [one for one in (experiment.model.build, experiment.data.source) if is_reference(one)]
    return {
        "model": experiment.model.model_dump(mode="json"),
        "data": experiment.data.model_dump(mode="json"),
        "code": {one: _source_digest(one, code_path) for one in references},
        "examples": micro_batch_examples(experiment),
        "precision": experiment.train.precision,
        "gpus": experiment.resources.gpus_per_rank,
        "threads": threads,
        "processor": _processor(),
        "python": sys.version.split()[0],
        "interpreter": sys.prefix,
    }


def _measure(experiment: Experiment, code_path: list[Path], threads: int, file: Path) -> None:
    request = file.with_suffix(".experiment.yaml")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(request, yaml12.dump(experiment.resolved()))
    except OSError as error:
        remedy = f"set {variables.CACHE_DIR} to a folder that can be written"
        problem = f"profiles cannot be kept: {error.strerror}"
        raise EnvironmentLack(problem, where=str(file.parent), remedy=remedy) from None
    environment = {
        name: text for name, text in os.environ.items() if name in variables.SETTINGS or not name.startswith(_OF_RANKS)
    }
    environment.update(
        {variables.CODE_PATH: os.pathsep.join(str(folder) for folder in code_path)},
        TF_NUM_INTRAOP_THREADS=str(threads),
        TF_NUM_INTEROP_THREADS="1",
        OMP_NUM_THREADS=str(threads),
    )
    command = [sys.executable, "-m", "saman.trainers.profile", str(request), str(file)]
    done = run_command(command, environment=environment)
    request.unlink(missing_ok=True)
    if done.returncode == 0:
        return
    last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
    said = last[0].removeprefix("saman: ")
    if done.returncode == 2:
        raise UserError(said)
    raise EnvironmentLack(f"the layers could not be measured: {said}", remedy="saman doctor says what is missing")


def _source_digest(reference: str, code_path: list[Path]) -> str | None:
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


def _digest(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
