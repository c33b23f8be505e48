"""What is done to weights beside the optimiser: averages, frozen layers, rates of layers, a warm start."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, field_validator

from saman.configs.problems import Strict

# A pattern of names: ``*`` and ``?`` stand for any text, as in file names.
Patterns = list[Annotated[str, Field(min_length=1, max_length=200)]]
LayerRates = dict[Annotated[str, Field(min_length=1, max_length=200)], NonNegativeFloat]


class Average(Strict):
    """``train.ema``: an exponential moving average of the weights (Polyak and Juditsky, 1992), updated in each step.

    With ``export`` the average is validated, tested and exported, else the weights of the last step.
    """

    decay: float = Field(0.999, gt=0, lt=1)
    export: bool = True


class WarmStart(Strict):
    """``train.warm_start``: the weights of another model, by the names of its variables.

    Attributes:
        source: A published version (``birds``, ``birds:stable``, ``birds:7``), or a ``.keras`` file.
        missing: What follows where the other model lacks a weight, or has it in another shape.
        only: Patterns of the names of the weights to take; all by default.
    """

    source: str = Field(alias="from", min_length=1)
    missing: Literal["error", "keep"] = "error"
    only: Patterns = ["*"]

    @field_validator("source")
    @classmethod
    def _readable(cls, source: str) -> str:
        if "/" in source and not source.endswith(".keras"):
            raise ValueError(f"{source!r} is no .keras file, and no model's name such as birds:7")
        return source

    @property
    def is_file(self) -> bool:
        """Whether the source is a file, not a published version."""
        return self.source.endswith(".keras")
