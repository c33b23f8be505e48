"""Splits an experiment's model at its own cuts, or at the best cuts for a measured profile, and predicts the step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import UserError, choices
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.splitting import Pipeline
from saman.configs.schemas.training import Sgd
from saman.configs.units import parse_size
from saman.pipeline.chain import PipelinePlan
from saman.pipeline.cost import StepPrediction, predict_pipelined_step
from saman.pipeline.partition import check_cuts, partition
from saman.pipeline.profile import Profile
from saman.pipeline.profile_cache import load_or_measure

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


@dataclass(frozen=True)
class MeasuredSplit:
    """The split of a model, and the profile of its layers."""

    profile: Profile
    split: PipelineSplit


def profile_and_split(
    experiment: Experiment, code_path: Iterable[Path], cores: int, again: bool = False
) -> MeasuredSplit:
    """Choose the split into pipeline stages by the layers' profile on this machine.

    Args:
        experiment: A pipeline.
        code_path: Folders of the user's code.
        cores: Number of cores that this process may use; its ranks share them.
        again: Measure even if the profile is in the cache.

    Raises:
        UserError: The model cannot be cut, or no split fits into the memory limit.
        EnvironmentLack: The training environment is missing, or the cache folder cannot be written.
    """
    profile = load_or_measure(experiment, code_path, threads_per_rank(experiment, cores), again)
    return MeasuredSplit(profile, choose_split(experiment, profile))


def threads_per_rank(experiment: Experiment, cores: int) -> int:
    """Return the threads of a pipeline's rank on a node with this number of usable cores.

    Example:
        >>> from saman.configs.loading.experiments import load_experiment
        >>> threads_per_rank(load_experiment("quickstart", ranks=2).experiment, 8)
        4
    """
    resources = experiment.resources
    if resources.cpus_per_rank != "auto":
        return resources.cpus_per_rank
    return max(1, cores // resources.ranks_per_node)


def choose_split(experiment: Experiment, profile: Profile) -> PipelineSplit:
    """Choose the split of a model into pipeline stages.

    Raises:
        UserError: The experiment's cuts are not possible, or no split fits into the memory limit.
    """
    spec = experiment.train.pipeline or Pipeline()
    plan = pipeline_plan(experiment)
    limit = None if spec.memory_limit == "none" else parse_size(spec.memory_limit)
    layers = [layer.name for layer in profile.chain.layers]
    if spec.cuts == "auto":
        cuts = partition(profile.chain, plan, profile.link, limit).cuts
    else:
        cuts = tuple(_position(name, layers) for name in spec.cuts)
        check_cuts(profile.chain, cuts, plan, limit)
    prediction = predict_pipelined_step(profile.chain, cuts, plan, profile.link)
    return PipelineSplit(cuts, tuple(layers[cut] for cut in cuts), plan, limit, prediction)


def pipeline_plan(experiment: Experiment) -> PipelinePlan:
    """Choose the stages, micro-batches and schedule of an experiment's pipeline."""
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
