"""Builds the stages of this process: the graph without its weights, the cuts, the transports, the step."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.schemas.experiment import Experiment
from saman.pipeline.choose import pipeline_plan
from saman.trainers import keras_compat, models
from saman.trainers.keras_compat import tf
from saman.trainers.pipeline.connect import open_transports
from saman.trainers.pipeline.graph import Graph, graph_of
from saman.trainers.pipeline.plan import agree_on_cuts
from saman.trainers.pipeline.runner import StageRunner
from saman.trainers.pipeline.stage import Stage
from saman.trainers.pipeline.state import StageVariables
from saman.trainers.pipeline.step import PipelineStep
from saman.trainers.program import program
from saman.trainers.program.loss_scale import LossScale
from saman.trainers.strategies.pipeline import OneProcessPipelineStrategy, PipelineStrategy


def build_step(
    experiment: Experiment, strategy: PipelineStrategy | OneProcessPipelineStrategy, prepared: Any
) -> PipelineStep:
    """Build the stages of this process; all ranks call it together.

    Args:
        experiment: The experiment, with a ``train.pipeline`` part.
        strategy: The grid of stages and replicas.
        prepared: The ``PreparedData`` of the run.

    Raises:
        UserError: The model cannot be cut as requested, or draws random numbers that saman cannot seed.
    """
    pipeline = experiment.train.pipeline
    assert pipeline is not None  # the schema requires it for this strategy
    before = resident_bytes()
    model = keras_compat.build_without_values(
        lambda: models.build(experiment.model, prepared.input_shape, prepared.context)
    )
    graph = graph_of(model)
    refuse_unseeded_layers(graph)
    cuts = agree_on_cuts(experiment, graph, strategy)
    edges = [0, *cuts.positions, len(graph.steps)]
    scale = LossScale(experiment.train.precision)
    transports = open_transports(strategy, pipeline.transport)
    objective = prepared.objective(model)
    spec, normalize = prepared.element_spec, prepared.splits(0).normalize
    numbers = range(strategy.stages) if isinstance(strategy, OneProcessPipelineStrategy) else [strategy.stage]
    runners = []
    for number, device, transport in zip(numbers, strategy.devices, transports, strict=True):
        with tf.device(device):
            stage = Stage(graph, edges[number], edges[number + 1], f"stage_{number}")
            keras_compat.initialize_values(stage)
            built = program.build(experiment.train, stage, spec, normalize, objective, prepared.context)
        runner = StageRunner(
            program=built,
            graph=graph,
            index=number,
            plan=pipeline_plan(experiment),
            transport=transport,
            random_layers=_random_layers(model, stage),
            scale=scale,
            device=device,
        )
        runners.append(runner)
    variables = [StageVariables(model, runner.stage) for runner in runners]
    step = PipelineStep(runners, variables, strategy, scale)
    step.memory_start_bytes = before
    step.notices = (cuts.notice(graph),)
    return step


def _random_layers(model: Any, stage: Any) -> list[int]:
    """Return the numbers, in the whole model, of a stage's random layers."""
    numbers = {id(source): number for number, source in enumerate(keras_compat.random_sources(model))}
    return [numbers[id(source)] for source in keras_compat.random_sources(stage)]


def resident_bytes() -> int | None:
    """Return the resident memory of a stage's process while it is built; ``None`` if the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None


def refuse_unseeded_layers(graph: Graph) -> None:
    """Check that random layers draw from seeds that saman can set.

    Raises:
        UserError: A user's layer calls random functions without a seed generator.
    """
    for step in graph.steps:
        kind = type(step.layer)
        users = not kind.__module__.startswith(("keras.", "tensorflow."))
        if users and "random" in getattr(kind.call, "__code__", _NoCode).co_names and not _has_seed(step.layer):
            raise UserError(
                f"layer {step.name!r} ({kind.__name__}) draws random numbers that differ from rank to rank",
                where="model.build",
                remedy="give it a keras.random.SeedGenerator and draw with keras.random",
            )


class _NoCode:
    """Stands for the code of a call that has none, such as a compiled call."""

    co_names = ()


def _has_seed(layer: Any) -> bool:
    return bool(keras_compat.random_sources(layer)) if hasattr(layer, "non_trainable_variables") else False
