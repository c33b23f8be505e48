"""The schemas of Horovod's options: how gradients are exchanged, and how its engine is set."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from saman.configs.problems import Strict
from saman.configs.units import Size


class Exchange(Strict):
    """``train.exchange``: what is sent between the ranks of the strategy ``horovod``, and how it is combined."""

    compression: Literal["none", "fp16", "bf16"] = "none"
    reduction: Literal["sum", "adasum"] = "sum"  # adasum: Maleki et al., 2021
    sparse: Literal["never", "auto"] = "never"  # auto: rows of an embedding that few examples touch
    sparse_density: Annotated[float, Field(gt=0, le=1)] = 0.25  # most rows touched, over all ranks, of all rows
    bucket: Size = "32M"  # of gradients in a message
    process_sets: list[list[NonNegativeInt]] = []  # ranks of Horovod's process sets, for the user's own collectives

    @model_validator(mode="after")
    def _combines(self) -> Exchange:
        if self.reduction == "adasum" and (self.compression != "none" or self.sparse != "never"):
            raise ValueError("reduction: adasum takes whole gradients; remove compression and sparse")
        for ranks in self.process_sets:
            if not ranks or len(set(ranks)) < len(ranks):
                raise ValueError(f"process_sets: {ranks} is not a list of different ranks")
        return self

    @property
    def keeps_the_steps(self) -> bool:
        """Whether any number of ranks takes the same optimiser steps."""
        return self.reduction == "sum" and self.compression == "none"

    @property
    def is_plain(self) -> bool:
        """Whether gradients travel whole, in the message of everything else that is summed."""
        return self.keeps_the_steps and self.sparse == "never"

    def problem_on(self, strategy: str, ranks: int) -> str | None:
        """The reason why ranks cannot exchange like this; ``None`` if they can."""
        if self != Exchange() and strategy != "horovod":
            return f"the strategy {strategy} has no such options; remove it, or use train.strategy: horovod"
        if self.reduction == "adasum" and ranks & (ranks - 1):
            return f"reduction: adasum needs a power of two ranks, not {ranks}"
        for members in self.process_sets:
            if max(members) >= ranks or len(members) == ranks:
                return f"process_sets: {members} is not a part of the ranks 0 to {ranks - 1}"
        return None


class HorovodEngine(Strict):
    """``launch.horovod``: settings of Horovod's engine; an empty value keeps Horovod's own default.

    Any of them changes when tensors travel and in which groups, never what is summed.
    """

    fusion_threshold: Size | None = None  # HOROVOD_FUSION_THRESHOLD; Horovod's default is 128 MiB
    cycle_time_ms: PositiveFloat | None = None  # HOROVOD_CYCLE_TIME; Horovod's default is 1 ms
    hierarchical_allreduce: bool = False  # HOROVOD_HIERARCHICAL_ALLREDUCE: within nodes first; NCCL only
    timeline: bool = False  # HOROVOD_TIMELINE: a trace of every operation, in the attempt's folder
    autotune: bool = False  # HOROVOD_AUTOTUNE: Horovod searches threshold and cycle time while it trains
