"""Builds the stages of this process: the graph without its weights, the cuts, the transport, the step."""

from __future__ import annotations

import json
import resource
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.schemas.experiment import Experiment
from saman.pipeline.cost import StepPrediction
from saman.trainers import keras_compat, models
from saman.trainers.keras_compat import KERAS_2, tf
from saman.trainers.loop.loss_scale import LossScale
from saman.trainers.pipeline.graph import Graph, graph_of
from saman.trainers.pipeline.runner import How, Runner
from saman.trainers.pipeline.sockets import Address, Listener, SocketTransport, connect
from saman.trainers.pipeline.stage import Stage
from saman.trainers.pipeline.state import Names
from saman.trainers.pipeline.step import PipelineStep
from saman.trainers.pipeline.transport import Mailbox, ThreadTransport, Transport
from saman.trainers.program import optimizers
from saman.trainers.program.objective import Objective
from saman.trainers.program.program import Program
from saman.trainers.strategies.pipeline import LocalPipelineStrategy, PipelineStrategy

_TOLD_BYTES = 1024  # what a stage says of itself to all ranks, padded


def build_step(experiment: Experiment, strategy: Any, prepared: Any) -> PipelineStep:
    """The stages of this process; raises ``UserError`` where the model cannot be cut as asked."""
    held = resident_bytes()
    model = unweighted(lambda: models.build(experiment.model, prepared.input_shape))
    graph = graph_of(model)
    spec = experiment.train.pipeline
    assert spec is not None
    refuse_what_is_random(graph)
    cuts, predicted = _agreed_cuts(experiment, graph, strategy)
    edges = [0, *cuts, len(graph.steps)]
    how = How(spec.stages, experiment.train.micro_batches, spec.order, spec.recompute)
    scale = LossScale(experiment.train.precision)
    numbers = list(range(spec.stages)) if isinstance(strategy, LocalPipelineStrategy) else [strategy.stage]
    transports = _transports(strategy, spec.transport, numbers)
    sources = {id(one): number for number, one in enumerate(keras_compat.random_sources(model))}
    runners, names = [], []
    for number, device, transport in zip(numbers, strategy.devices, transports, strict=True):
        with tf.device(device):
            stage = Stage(graph, edges[number], edges[number + 1], f"stage_{number}")
            weigh(stage)
            program = _program(experiment, prepared, stage)
        drawn = [sources[id(one)] for one in keras_compat.random_sources(stage)]
        runners.append(Runner(program, graph, number, how, transport, drawn, scale, device))
        names.append(Names(model, stage))
    step = PipelineStep(runners, names, strategy, scale)
    step.memory_start_bytes = held
    step.notes = (_said(graph, cuts, predicted),)
    return step


def _said(graph: Graph, cuts: Sequence[int], predicted: StepPrediction | None) -> dict[str, Any]:
    """How the model was split, for a notice."""
    names = [graph.steps[cut].name for cut in cuts]
    facts: dict[str, Any] = {"text": f"the model is split into {len(cuts) + 1} stages before {names}", "cuts": names}
    if predicted is not None:
        facts["predicted"] = {
            "step_seconds": predicted.step_seconds,
            "speedup": predicted.speedup,
            "stage_seconds": [stage.seconds for stage in predicted.stages],
            "memory_bytes": [stage.memory_bytes for stage in predicted.stages],
            "bubble_share": [stage.bubble_share for stage in predicted.stages],
        }
    return facts


def resident_bytes() -> int | None:
    """What the process holds in memory now; ``None`` where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None


def unweighted(build: Callable[[], Any]) -> Any:
    """The model without values in its variables, so that a rank only ever holds its own stage's.

    Where that cannot be (Keras 2, or a function that gives variables values itself) they are there.
    """
    if KERAS_2:
        return build()
    from keras import StatelessScope
    from keras.src.backend.common import global_state

    try:
        with StatelessScope(initialize_variables=False) as scope:
            model = build()
        complete = not scope.state_mapping
    except UserError:
        raise
    except Exception:  # what the user's function did is only allowed outside of such a scope
        complete = False
    # Keras would give all of them values at the next opportunity.
    global_state.set_global_attribute("uninitialized_variables", [])
    return model if complete else _rebuilt(build)


def _rebuilt(build: Callable[[], Any]) -> Any:
    keras_compat.keras.backend.clear_session()
    return build()


def weigh(model: Any) -> None:
    """Give the variables of ``model`` that have none their initial values, which depend on their layer alone."""
    if not KERAS_2:
        for variable in model.variables:
            if variable._value is None:
                variable._deferred_initialize()


def refuse_what_is_random(graph: Graph) -> None:
    """Random layers draw from seeds that saman can set; raises ``UserError`` for one that does not."""
    for step in graph.steps:
        kind = type(step.layer)
        own = not kind.__module__.startswith(("keras.", "tensorflow."))
        if own and "random" in getattr(kind.call, "__code__", _NoCode).co_names and not _seeded(step.layer):
            raise UserError(
                f"layer {step.name!r} ({kind.__name__}) draws random numbers that cannot be made the same on any rank",
                where="model.build",
                remedy="give it a keras.random.SeedGenerator and draw with keras.random",
            )


class _NoCode:
    co_names = ()


def _seeded(layer: Any) -> bool:
    return bool(keras_compat.random_sources(layer)) if hasattr(layer, "non_trainable_variables") else False


def _program(experiment: Experiment, prepared: Any, stage: Any) -> Program:
    """The stage with its own optimiser."""
    train, clip = experiment.train, experiment.train.clip_gradients
    optimizer = optimizers.build(train.optimizer)
    keras_compat.build_optimizer(optimizer, stage.trainable_variables)
    return Program(
        model=stage,
        optimizer=optimizer,
        objective=Objective(train.loss, train.from_logits),
        normalize=prepared.splits(0).normalize,
        element_spec=prepared.element_spec,
        clip_norm=clip.global_norm if clip else None,
        clip_value=clip.value if clip else None,
        seed=train.seed,
    )


def _agreed_cuts(experiment: Experiment, graph: Graph, strategy: Any) -> tuple[list[int], StepPrediction | None]:
    """The chief's cuts, on every rank; on the chief also what they promise, where the layers were measured."""
    from saman.trainers.pipeline.plan import cuts_of

    stages = strategy.stages
    problem: UserError | None = None
    predicted: StepPrediction | None = None
    cuts = [0] * (stages - 1)
    if strategy.chief:
        try:
            cuts, predicted = cuts_of(experiment, graph)
        except UserError as error:
            problem = error
    said = strategy.total(np.array([float(problem is not None), *(cuts if strategy.chief else [0] * (stages - 1))]))
    if problem is not None:
        raise problem
    if said[0]:
        raise UserError("the chief could not split the model", where="train.pipeline", remedy="its log says why")
    return [int(one) for one in said[1:]], predicted


def _transports(
    strategy: PipelineStrategy | LocalPipelineStrategy, asked: str, numbers: Sequence[int]
) -> list[Transport]:
    if isinstance(strategy, LocalPipelineStrategy):
        boxes = [Mailbox() for _ in numbers]
        return [ThreadTransport(number, boxes) for number in numbers]
    if strategy.stages == 1:
        return [ThreadTransport(0, [Mailbox()])]
    neighbours = [one for one in (strategy.stage - 1, strategy.stage + 1) if 0 <= one < strategy.stages]
    transport: Transport
    if asked == "mpi":
        transport = _mpi(strategy, neighbours)
    else:
        transport = _sockets(strategy, neighbours)
    strategy.keep(transport)
    return [transport]


def _mpi(strategy: PipelineStrategy, neighbours: Sequence[int]) -> Transport:
    from saman.trainers.pipeline.mpi import MpiTransport

    if not strategy.hvd.mpi_enabled():
        raise EnvironmentLack(
            "these ranks were not started by MPI",
            where="train.pipeline.transport",
            remedy="sockets, or launch.with=mpirun",
        )
    first = strategy.replica * strategy.stages
    return MpiTransport({stage: first + stage for stage in neighbours})


def _sockets(strategy: PipelineStrategy, neighbours: Sequence[int]) -> Transport:
    """Tell all ranks where this one listens; each stage calls the one before it and is called by the one behind."""
    hvd, listener = strategy.hvd, Listener()
    secret = hvd.broadcast(tf.constant(np.frombuffer(secrets.token_bytes(32), np.uint8)), 0, name="saman.secret")
    told = json.dumps([listener.address.hosts, listener.address.port]).encode().ljust(_TOLD_BYTES)[:_TOLD_BYTES]
    everybody = hvd.allgather(tf.constant(np.frombuffer(told, np.uint8)[np.newaxis]), name="saman.addresses").numpy()
    connections = {}
    for stage in neighbours:
        if stage < strategy.stage:
            hosts, port = json.loads(everybody[strategy.replica * strategy.stages + stage].tobytes())
            address = Address(tuple(hosts), port)
            connections[stage] = connect(address, secret.numpy().tobytes(), strategy.stage, stage)
        else:
            connections[stage] = listener.accept(secret.numpy().tobytes(), stage)
    listener.close()
    return SocketTransport(connections)
