"""One stage at work: its passes over the micro-batches of a step, in the order of the schedule, as one graph.

    left neighbour ──activations──►  forward ──activations──► right neighbour      the last stage turns its outputs
    left neighbour ◄──gradients────  backward ◄──gradients─── right neighbour      into the loss and its gradient

Messages are nodes of the graph that call the transport. Each action waits for the action before it, so that a stage
keeps the order, and the memory, of the schedule; within a pass TensorFlow chooses the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from saman.pipeline.chain import PipelinePlan
from saman.pipeline.schedule import ORDERS
from saman.trainers import keras_compat
from saman.trainers.data.feed import Slice
from saman.trainers.keras_compat import tf
from saman.trainers.pipeline.graph import Graph, arrange_inputs
from saman.trainers.pipeline.messages import Messages
from saman.trainers.pipeline.stage import Stage, travelling_specs
from saman.trainers.pipeline.transport import Transport, tag_of
from saman.trainers.program.loss_scale import LossScale
from saman.trainers.program.micro_batches import derive_seed, take_micro_batch, with_any_length
from saman.trainers.program.objective import BatchMeasures
from saman.trainers.program.program import Program
from saman.trainers.program.sums import Sums


@dataclass
class _MicroBatch:
    """The tensors that a stage keeps of a micro-batch between its two passes, while the graph is traced."""

    number: Any  # int64: its number in the global batch
    examples: Any  # float64
    arriving: Any
    labels: Any
    tape: Any = None
    targets: list[Any] = field(default_factory=list)
    extra: Any = None  # the stage's own loss, a scalar from which gradients start
    moved: list[Any] = field(default_factory=list)
    measures: Any = None


class StageRunner:
    """Runs one stage of a pipeline.

    Attributes:
        program: Holds the stage as its model, and the stage's own optimiser.
        index: The stage's number, counted from 0.
        first: Whether the stage is the first of the pipeline.
        last: Whether the stage is the last of the pipeline.
        messages: The stage's connection to its neighbours.
    """

    def __init__(
        self,
        *,
        program: Program,
        graph: Graph,
        index: int,
        plan: PipelinePlan,
        transport: Transport,
        random_layers: Sequence[int],
        scale: LossScale,
        device: str | None = None,
    ) -> None:
        """Prepare a stage; nothing is traced before the first step.

        Args:
            program: The stage and its optimiser.
            graph: The graph of the whole model.
            index: The stage's number, counted from 0.
            plan: Stages, micro-batches and order of the schedule; equal on all stages.
            transport: Carries messages to the neighbouring stages.
            random_layers: The numbers, in the whole model, of this stage's random layers.
            scale: The loss scale of the run.
            device: The device of the stage's tensors; TensorFlow chooses if it is ``None``.
        """
        self.program, self.index, self.plan = program, index, plan
        self.messages, self.scale, self.device = Messages(transport), scale, device
        self.stage: Stage = program.model
        self.first, self.last = index == 0, index == plan.stages - 1
        self.variables = list(program.model.trainable_variables)
        self.statistics = keras_compat.moving_statistics(program.model)
        self._graph, self._random_layers = graph, list(random_layers)
        self._watched = [keras_compat.tensor_of(variable) for variable in self.variables]
        self._arriving_specs = travelling_specs(graph, self.stage.begin)
        self._leaving_specs = [] if self.last else travelling_specs(graph, self.stage.end)
        self._steps: dict[int, Any] = {}
        # Not inlined: the graph would grow with the number of micro-batches.
        self._pass = tf.function(
            self._trace_pass, autograph=False, reduce_retracing=True, experimental_attributes={"_noinline": True}
        )

    def on_device(self) -> AbstractContextManager[Any]:
        """Return the context in which the stage's tensors are made."""
        place: AbstractContextManager[Any] = tf.device(self.device) if self.device else nullcontext()
        return place

    def model_inputs(self, arriving: Any) -> list[Any]:
        """Return the arguments of the stage's model: raw inputs are normalised and put in order."""
        if not self.first:
            return list(arriving)
        return arrange_inputs(self._graph, self.program.normalized(arriving))

    def step(self, step: int, part: Slice, batch: Any) -> Sums:
        """Run both passes of every micro-batch of this replica's slice.

        Micro-batches without examples, in a short last batch, are skipped by all stages alike.

        Args:
            step: The number of the step, counted from 0.
            part: This replica's slice of the global batch.
            batch: The slice as an (inputs, labels) pair.

        Returns:
            The sums over the slice, for the variables of this stage; ``measures`` is a NumPy array.
        """
        examples = int(batch[1].shape[0])
        filled = min(self.plan.micro_batches, examples)
        with self.on_device():
            if not filled:
                sums = Sums.zeros(self.variables, self.statistics, self.program.objective.width)
                return Sums(sums.gradients, sums.moved, np.zeros(self.program.objective.width))
            if filled not in self._steps:
                self._steps[filled] = self._compile_step(filled)
            given = [*([batch[0]] if self.first else []), *([batch[1]] if self.last else [])]
            with self.messages.own_errors():
                where = tf.constant([step, part.index, part.count], tf.int64)
                sums = Sums(*self._steps[filled](where, tf.constant(examples), *given))
        return Sums(sums.gradients, sums.moved, np.asarray(sums.measures))

    # ---- the graph of a step -----------------------------------------------------------------------------------

    def _compile_step(self, filled: int) -> Any:
        """Return a step with examples in ``filled`` micro-batches, traced once for batches of any length."""
        inputs, labels = (tf.nest.map_structure(with_any_length, spec) for spec in self.program.element_spec)
        signature = [tf.TensorSpec([3], tf.int64), tf.TensorSpec([], tf.int32)]
        signature += [*([inputs] if self.first else []), *([labels] if self.last else [])]

        def trace(where: Any, examples: Any, *given: Any) -> tuple[list[Any], list[Any], Any]:
            inputs, labels = given[0] if self.first else None, given[-1] if self.last else None
            sums = self._trace_step(filled, where, examples, inputs, labels)
            return sums.gradients, sums.moved, sums.measures

        return tf.function(trace, input_signature=signature, autograph=False)

    def _trace_step(self, filled: int, where: Any, examples: Any, inputs: Any, labels: Any) -> Sums:
        """Trace the schedule, action by action.

        ``where`` is int64[3]: the step, and index and count of the slice. Only the first stage gets ``inputs``, only
        the last stage ``labels``.
        """
        count, (step, index, parts) = self.plan.micro_batches, tf.unstack(where)
        kept: dict[int, _MicroBatch] = {}
        sums: Sums | None = None
        done: list[Any] = []  # tensors that the next action waits for
        for action in ORDERS[self.plan.order](self.index, self.plan.stages, filled):
            which = action.micro_batch
            with tf.control_dependencies(done):
                if action.kind == "forward":
                    number = index + parts * which
                    arriving = take_micro_batch(inputs, which, count) if self.first else self._receive(which)
                    goal = take_micro_batch(labels, which, count) if self.last else None
                    size = tf.cast((examples - which + count - 1) // count, tf.float64)
                    kept[which] = _MicroBatch(number, size, arriving, goal)
                    done = self._trace_forward(step, which, kept[which])
                else:
                    more = self._trace_backward(step, which, kept.pop(which))
                    sums = more if sums is None else sums + more
                    done = sums.tensors()
        assert sums is not None  # at least one micro-batch has examples
        return sums

    def _trace_forward(self, step: Any, which: int, micro_batch: _MicroBatch) -> list[Any]:
        """Trace a forward pass; its outputs are sent to the next stage at once."""
        if self.plan.recompute and not self.last:
            leaving = self._call_pass(step, micro_batch)[0]
        else:
            leaving = self._record_forward(step, micro_batch)
        if self.last:
            return [micro_batch.measures]
        return [self.messages.send_node(self.index + 1, tag_of(which, False), leaving)]

    def _record_forward(self, step: Any, micro_batch: _MicroBatch) -> list[Any]:
        """Trace a forward pass under a tape, for the backward pass."""
        with tf.GradientTape(watch_accessed_variables=False) as micro_batch.tape:
            micro_batch.tape.watch([*self._watched, *self._differentiable(micro_batch.arriving)])
            leaving, micro_batch.extra, micro_batch.moved, micro_batch.measures = self._call_pass(step, micro_batch)
        micro_batch.targets = [tensor for tensor in leaving if tensor.dtype.is_floating]
        return leaving

    def _trace_backward(self, step: Any, which: int, micro_batch: _MicroBatch) -> Sums:
        """Trace a backward pass; the gradients of what arrived are sent back at once."""
        wanted = [spec for spec in self._leaving_specs if spec.has_gradient]
        arrived = self.messages.receive_nodes(self.index + 1, tag_of(which, True), wanted)
        if micro_batch.tape is None:
            with tf.control_dependencies(arrived):
                # Without the copy, TensorFlow would merge the second forward pass with the first.
                micro_batch.arriving = tf.nest.map_structure(tf.identity, micro_batch.arriving)
                self._record_forward(step, micro_batch)
        sources = self._differentiable(micro_batch.arriving)
        gradients = micro_batch.tape.gradient(
            [*micro_batch.targets, micro_batch.extra],
            [*sources, *self._watched],
            output_gradients=[*arrived, tf.ones_like(micro_batch.extra)],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        if sources:
            self.messages.send_node(self.index - 1, tag_of(which, True), gradients[: len(sources)])
        own = [tf.convert_to_tensor(gradient) for gradient in gradients[len(sources) :]]
        if self.scale.dynamic:
            own = [gradient * tf.cast(micro_batch.examples, gradient.dtype) for gradient in own]
        return Sums(own, micro_batch.moved, micro_batch.measures)

    def _call_pass(self, step: Any, micro_batch: _MicroBatch) -> Any:
        return self._pass(step, micro_batch.number, micro_batch.examples, micro_batch.arriving, micro_batch.labels)

    def _trace_pass(self, step: Any, number: Any, examples: Any, arriving: Any, labels: Any) -> Any:
        """Return what leaves, the stage's own loss, the moves of statistics, and float64[width] measures.

        Each random layer draws from a seed made of (seed, step, global micro-batch, layer in the whole model).
        """
        seeds = [derive_seed(self.program.seed, step, number, layer) for layer in self._random_layers]
        passed = keras_compat.forward(self.stage, self.model_inputs(arriving), seeds)
        loss, leaving = passed.added_loss() * examples, passed.outputs
        zero, metrics = _double(0.0), tf.zeros([self.program.objective.metrics.width], tf.float64)
        measures = BatchMeasures(loss, zero, zero, metrics)
        if self.last:
            found = self.program.objective.measure(labels, passed.outputs)
            loss, leaving = loss + found.loss, []
            measures = replace(found, loss=loss, examples=examples)
        # Half precision has no room for a sum: the mean is differentiated, and multiplied again when it is added up.
        extra = loss / examples * _double(self.scale.value) if self.scale.dynamic else loss
        moved = [tf.cast(examples, move.dtype) * move for move in passed.moved]
        return leaving, extra, moved, measures.vector()

    def _receive(self, which: int) -> list[Any]:
        return self.messages.receive_nodes(self.index - 1, tag_of(which, False), self._arriving_specs)

    def _differentiable(self, tensors: Any) -> list[Any]:
        """Return the tensors that arrived from the stage before and have a gradient."""
        return [] if self.first else [tensor for tensor in tensors if tensor.dtype.is_floating]


def _double(value: Any) -> Any:
    return tf.cast(value, tf.float64)
