"""The schema of ``launch.elastic``: how many ranks a run may lose, and win back, while it goes on."""

from __future__ import annotations

from pydantic import PositiveInt, model_validator

from saman.configs.problems import Strict


class Elastic(Strict):
    """A run that goes on with ``min`` to ``max`` ranks; ``max`` is the number of ranks that ``resources`` ask for."""

    min: PositiveInt
    max: PositiveInt

    @model_validator(mode="after")
    def _ordered(self) -> Elastic:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is more than max ({self.max})")
        return self
