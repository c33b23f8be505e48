"""How an experiment's model is split: its own cuts, or the best ones by a measured profile; and what they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saman.configs.errors import UserError, choices
from saman.configs.names import size_bytes
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.splitting import Pipeline
from saman.configs.schemas.training import Sgd
from saman.pipeline.chain import PipelinePlan
from saman.pipeline.cost import StepPrediction, predict
from saman.pipeline.partition import check_cuts, partition
from saman.pipeline.profile import Profile

_SLOTS = 2  # variables that Adam and its kin keep per weight


@dataclass(frozen=True)
class PipelineSplit:
    """Cuts before layers by position, the layers they fall before, and what is to be expected."""

    cuts: tuple[int, ...]
    names: tuple[str, ...]
    plan: PipelinePlan
    limit_bytes: int | None
    prediction: StepPrediction


def split(experiment: Experiment, profile: Profile) -> PipelineSplit:
    """The split of an experiment's model.

    Raises ``UserError`` for cuts that cannot be made, and where nothing fits into the memory limit.
    """
    spec = experiment.train.pipeline or Pipeline()
    plan = plan_of(experiment)
    limit = None if spec.memory_limit == "none" else size_bytes(spec.memory_limit)
    layers = [layer.name for layer in profile.chain.layers]
    if spec.cuts == "auto":
        cuts = partition(profile.chain, plan, profile.link, limit).cuts
    else:
        cuts = tuple(_position(name, layers) for name in spec.cuts)
        check_cuts(profile.chain, cuts, plan, limit)
    prediction = predict(profile.chain, cuts, plan, profile.link)
    return PipelineSplit(cuts, tuple(layers[cut] for cut in cuts), plan, limit, prediction)


def plan_of(experiment: Experiment) -> PipelinePlan:
    """How an experiment's pipeline is run."""
    spec, train = experiment.train.pipeline or Pipeline(), experiment.train
    optimizer = train.optimizer
    slots = int(optimizer.momentum > 0) if isinstance(optimizer, Sgd) else _SLOTS
    return PipelinePlan(spec.stages, train.micro_batches, spec.order, spec.recompute, 3 + slots, 4 + slots)


def _position(name: str, layers: Sequence[str]) -> int:
    if name not in layers:
        remedy = choices(name, layers)
        raise UserError(f"the model has no layer {name!r}", where="train.pipeline.cuts", remedy=remedy)
    return layers.index(name)
