"""The schema of ``train.pipeline``: the split of a model's layers over ranks or devices."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt, model_validator

from saman.configs.problems import Strict
from saman.configs.units import Size


class Pipeline(Strict):
    """The split: ``stages`` × replicas = ranks. ``cuts`` names the first layer of every later stage, or is ``auto``.

    ``memory_limit`` is the memory of a stage beyond TensorFlow's own. ``devices: local`` puts the stages on the
    GPUs (or logical devices) of one process.
    """

    stages: PositiveInt = 2
    cuts: Literal["auto"] | list[str] = "auto"
    order: Literal["1f1b", "gpipe"] = "1f1b"
    recompute: bool = False
    memory_limit: Size | Literal["none"] = "none"
    transport: Literal["sockets", "mpi"] = "sockets"
    devices: Literal["ranks", "local"] = "ranks"

    @model_validator(mode="after")
    def _as_many_cuts(self) -> Pipeline:
        if self.cuts != "auto" and len(self.cuts) != self.stages - 1:
            raise ValueError(f"{self.stages} stages need {self.stages - 1} cuts, not {len(self.cuts)}")
        return self
