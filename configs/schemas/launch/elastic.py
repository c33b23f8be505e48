"""The schema of ``launch.elastic``: how many ranks a run may lose, and win back, while it goes on."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt, model_validator

from saman.configs.problems import Strict


class Elastic(Strict):
    """A run that goes on with ``min`` to ``max`` ranks; ``max`` is the number of ranks that ``resources`` ask for."""

    min: PositiveInt
    max: PositiveInt
    replace_nodes: bool = True  # in a Slurm job of several nodes: ask for a node in place of a lost node
    warm_spares: NonNegativeInt = 0  # processes beside the ranks that are ready to take a lost rank's place at once

    @model_validator(mode="after")
    def _ordered(self) -> Elastic:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is more than max ({self.max})")
        return self
