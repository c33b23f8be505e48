"""The ``train.pipeline`` part of an experiment: how a model's layers are split over ranks or devices."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt, model_validator

from saman.configs.names import Size
from saman.configs.problems import Strict


class Pipeline(Strict):
    """``stages`` × replicas = ranks. ``cuts`` names the first layer of each stage but the first, or ``auto``.

    ``memory_limit`` is what a stage may take over what TensorFlow itself takes. ``devices: local`` puts the stages on
    the GPUs (or logical devices) of one process.
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
            raise ValueError(f"{self.stages} stages have {self.stages - 1} cuts between them, not {len(self.cuts)}")
        return self
