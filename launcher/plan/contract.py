"""Whether the chosen options of the exchange keep the same steps for any number of ranks, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from saman.configs.schemas.launch.exchange import Exchange, HorovodEngine
from saman.configs.schemas.script import Script

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment

_DIGITS = {"fp16": "three", "bf16": "two"}


def contract_note(spec: Experiment | Script) -> str | None:
    """Return a sentence on the options that were chosen; ``None`` for a program and where none was chosen."""
    if isinstance(spec, Script):
        return None
    if spec.train.strategy != "horovod":
        unused = ", ".join(_engine(spec.launch.horovod))
        return f"the strategy {spec.train.strategy} does not use {unused}" if unused else None
    ranks = spec.resources.ranks
    if ranks == 1:
        return None
    others = list(_others(spec.train.exchange))
    kept = [*_kept(spec.train.exchange), *_engine(spec.launch.horovod)]
    kept += ["train.micro_batches"] if spec.train.micro_batches > 1 else []
    if not others and not kept:
        return None
    equal = f"the same steps as a single rank, to rounding, with {', '.join(kept)}" if kept else ""
    if not others:
        return equal
    unequal = f"not the same steps as a single rank: {'; '.join(others)}"
    return f"{unequal} ({', '.join(kept)}: no influence)" if kept else unequal


def _others(exchange: Exchange) -> Iterator[str]:
    if exchange.compression != "none":
        digits = _DIGITS[exchange.compression]
        yield f"train.exchange.compression: {exchange.compression} keeps about {digits} digits of a gradient"
    if exchange.reduction == "adasum":
        yield "train.exchange.reduction: adasum is another algorithm"


def _kept(exchange: Exchange) -> Iterator[str]:
    plain = Exchange()
    for name in ("sparse", "bucket", "process_sets"):
        if getattr(exchange, name) != getattr(plain, name):
            yield f"train.exchange.{name}"


def _engine(engine: HorovodEngine) -> Iterator[str]:
    plain = HorovodEngine()
    for name in HorovodEngine.model_fields:
        if getattr(engine, name) != getattr(plain, name):
            yield f"launch.horovod.{name}"
