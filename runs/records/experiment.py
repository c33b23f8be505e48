"""Reads resolved experiments as they were written, without pydantic: cheap over thousands of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.regular_files import read_regular


@dataclass(frozen=True)
class WrittenExperiment:
    """An experiment as its file holds it. ``digest`` equals ``Experiment.digest`` of the experiment written there."""

    values: Mapping[str, Any]
    digest: str

    @property
    def train(self) -> Mapping[str, Any]:
        """The section ``train``."""
        return self.values.get("train") or {}

    @property
    def resources(self) -> Mapping[str, Any]:
        """The section ``resources``."""
        return self.values.get("resources") or {}

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return int(self.resources.get("nodes") or 1)

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return self.nodes * int(self.resources.get("ranks_per_node") or 1)

    @property
    def batch_size_per_rank(self) -> int | None:
        """Examples per rank and step, where the experiment fixes that."""
        return self.train.get("batch_size_per_rank")

    @property
    def global_batch_size(self) -> int:
        """Examples per optimiser step over all ranks."""
        from saman.configs.schemas.training import global_batch_size

        return global_batch_size(self.train.get("global_batch_size"), self.batch_size_per_rank, self.ranks)


def read_written(path: Path) -> WrittenExperiment:
    """Read the record of an experiment at ``path``. Raises ``UserError`` if the file is missing or no YAML."""
    try:
        return _parse(read_regular(path))
    except OSError as error:
        raise UserError(f"this file cannot be read: {error.strerror}", where=str(path)) from error


@lru_cache(maxsize=4096)  # repeats of a run have equal files, and YAML is slow to parse
def _parse(data: bytes) -> WrittenExperiment:
    from saman.configs import yaml12
    from saman.configs.schemas.experiment import digest_of

    values = yaml12.parse_written(data.decode(errors="replace"), "experiment.yaml")
    values = values if isinstance(values, dict) else {}
    return WrittenExperiment(values, digest_of(values))
