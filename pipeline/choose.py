"""Splits an experiment's model at its own cuts, or at the best cuts for a measured profile, and predicts the step."""

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

_ADAPTIVE_SLOTS = 2  # variables per weight of Adam, AdamW and LAMB


@dataclass(frozen=True)
class PipelineSplit:
    """The split of a model and its prediction.

    Attributes:
        cuts: Positions of the layers before which the model is cut.
        names: The names of these layers.
        plan: How the stages run.
        limit_bytes: The memory limit of each stage; ``None`` for no limit.
        prediction: Times, bubble and memory of the step.
    """

    cuts: tuple[int, ...]
    names: tuple[str, ...]
    plan: PipelinePlan
    limit_bytes: int | None
    prediction: StepPrediction


def split(experiment: Experiment, profile: Profile) -> PipelineSplit:
    """Split an experiment's model.

    Raises:
        UserError: The experiment's cuts are not possible, or no split fits into the memory limit.
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
    """Return how the stages of an experiment run."""
    spec, train = experiment.train.pipeline or Pipeline(), experiment.train
    optimizer = train.optimizer
    slots = int(optimizer.momentum > 0) if isinstance(optimizer, Sgd) else _ADAPTIVE_SLOTS
    return PipelinePlan(
        stages=spec.stages,
        micro_batches=train.micro_batches,
        order=spec.order,
        recompute=spec.recompute,
        copies=3 + slots,
        update_copies=4 + slots,
    )


def _position(name: str, layers: Sequence[str]) -> int:
    if name not in layers:
        remedy = choices(name, layers)
        raise UserError(f"the model has no layer {name!r}", where="train.pipeline.cuts", remedy=remedy)
    return layers.index(name)
