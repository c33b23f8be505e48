"""One stage at work: its passes over the micro-batches of a step, in the order of the schedule, as one graph.

    left neighbour ──activations──►  forward ──activations──► right neighbour      the last stage turns its outputs
    left neighbour ◄──gradients────  backward ◄──gradients─── right neighbour      into the loss and its gradient

Messages are nodes of the graph that call the transport. Each action waits for the one before it, so that a stage keeps
the order, and the memory, of the schedule; within a pass TensorFlow runs what it likes when it likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from saman.pipeline.schedule import ORDERS
from saman.trainers import keras_compat
from saman.trainers.data.feed import Slice
from saman.trainers.keras_compat import tf
from saman.trainers.loop.step import CORRECT, COUNT, LOSS, any_length, micro_batch, random_seed
from saman.trainers.pipeline.graph import Graph, arranged
from saman.trainers.pipeline.messages import Messages
from saman.trainers.pipeline.stage import Stage, travelling
from saman.trainers.pipeline.transport import Transport, tag_of
from saman.trainers.program.program import Program


@dataclass(frozen=True)
class How:
    """How stages run, alike on all of them."""

    stages: int
    micro_batches: int
    order: str = "1f1b"
    recompute: bool = False


@dataclass(frozen=True)
class Sums:
    """What a stage adds up over the micro-batches of one step."""

    gradients: list[Any]
    moved: list[Any]  # of each moving statistic: Σ over micro-batches of count · (new - old)
    measures: Any  # float64[4]; of losses that layers add, each stage has its own

    def tensors(self) -> list[Any]:
        """All of them."""
        return [*self.gradients, *self.moved, self.measures]

    def __add__(self, other: Sums) -> Sums:
        gradients = [one + more for one, more in zip(self.gradients, other.gradients, strict=True)]
        moved = [one + more for one, more in zip(self.moved, other.moved, strict=True)]
        return Sums(gradients, moved, self.measures + other.measures)


@dataclass
class _Held:
    """What a micro-batch leaves on a stage between its two passes, while the graph is made."""

    number: Any  # int64: of the global micro-batch
    examples: Any  # float64
    arriving: Any
    labels: Any
    tape: Any = None
    targets: list[Any] = field(default_factory=list)
    extra: Any = None  # the scalar of this stage whose gradient starts here
    moved: list[Any] = field(default_factory=list)
    measures: Any = None


class Runner:
    """Stage ``index`` of ``how.stages``. ``program`` holds the stage as its model, and this stage's optimiser."""

    def __init__(
        self,
        program: Program,
        graph: Graph,
        index: int,
        how: How,
        transport: Transport,
        sources: Sequence[int],
        scale: Any,
        device: str | None = None,
    ) -> None:
        """``sources`` are the numbers, in the whole model, of this stage's random layers."""
        self.program, self.index, self.how = program, index, how
        self.messages, self.scale, self.device = Messages(transport), scale, device
        self.stage: Stage = program.model
        self.first, self.last = index == 0, index == how.stages - 1
        self.variables = list(program.model.trainable_variables)
        self.statistics = keras_compat.statistics(program.model)
        self._graph, self._sources = graph, list(sources)
        self._watched = [keras_compat.tensor_of(one) for one in self.variables]
        self._arrives = travelling(graph, self.stage.begin)
        self._leaves = [] if self.last else travelling(graph, self.stage.end)
        self._steps: dict[int, Any] = {}
        # Called once for each micro-batch; where it were inlined, the graph would grow with their number.
        self._pass = tf.function(
            self._traced_pass, autograph=False, reduce_retracing=True, experimental_attributes={"_noinline": True}
        )

    def on_device(self) -> AbstractContextManager[Any]:
        """Where the stage's tensors lie."""
        place: AbstractContextManager[Any] = tf.device(self.device) if self.device else nullcontext()
        return place

    # ---- a step --------------------------------------------------------------------------------------------

    def step(self, step: int, part: Slice, batch: Any) -> Sums:
        """Both passes of every micro-batch of this replica's slice ``part`` of global batch ``step``.

        Micro-batches without examples, of a short last batch, are left out by all stages alike.
        """
        examples = int(batch[1].shape[0])
        there = min(self.how.micro_batches, examples)
        with self.on_device():
            if not there:
                return self._nothing()
            if there not in self._steps:
                self._steps[there] = self._step_of(there)
            given = [*([batch[0]] if self.first else []), *([batch[1]] if self.last else [])]
            with self.messages.own_errors():
                where = tf.constant([step, part.index, part.count], tf.int64)
                sums = Sums(*self._steps[there](where, tf.constant(examples), *given))
        return Sums(sums.gradients, sums.moved, np.asarray(sums.measures))

    def _step_of(self, there: int) -> Any:
        """A step with examples in ``there`` micro-batches; it is traced once, for batches of any length."""
        inputs, labels = (tf.nest.map_structure(any_length, one) for one in self.program.element_spec)
        signature = [tf.TensorSpec([3], tf.int64), tf.TensorSpec([], tf.int32)]
        signature += [*([inputs] if self.first else []), *([labels] if self.last else [])]

        def traced(where: Any, examples: Any, *given: Any) -> tuple[list[Any], list[Any], Any]:
            inputs, labels = given[0] if self.first else None, given[-1] if self.last else None
            sums = self._traced_step(there, where, examples, inputs, labels)
            return sums.gradients, sums.moved, sums.measures

        return tf.function(traced, input_signature=signature, autograph=False)

    def _traced_step(self, there: int, where: Any, examples: Any, inputs: Any, labels: Any) -> Sums:
        """The schedule, action by action; ``inputs`` are those of the first stage, ``labels`` those of the last.

        ``where`` is int64[3]: step, and index and count of the slice.
        """
        count, (step, index, parts) = self.how.micro_batches, tf.unstack(where)
        held: dict[int, _Held] = {}
        sums: Sums | None = None
        done: list[Any] = []  # what the next action waits for
        for action in ORDERS[self.how.order](self.index, self.how.stages, there):
            which = action.micro_batch
            with tf.control_dependencies(done):
                if action.kind == "forward":
                    number = index + parts * which
                    arriving = micro_batch(inputs, which, count) if self.first else self._arriving(which)
                    goal = micro_batch(labels, which, count) if self.last else None
                    held[which] = _Held(number, _double((examples - which + count - 1) // count), arriving, goal)
                    done = self._traced_forward(step, which, held[which])
                else:
                    more = self._traced_backward(step, which, held.pop(which))
                    sums = more if sums is None else sums + more
                    done = sums.tensors()
        assert sums is not None
        return sums

    def _traced_forward(self, step: Any, which: int, held: _Held) -> list[Any]:
        """A forward pass; what leaves goes to the next stage at once."""
        if self.how.recompute and not self.last:
            leaving = self._passed(step, held)[0]
        else:
            leaving = self._taped(step, held)
        return [held.measures] if self.last else [self.messages.sent(self.index + 1, tag_of(which, False), leaving)]

    def _taped(self, step: Any, held: _Held) -> list[Any]:
        """A forward pass that can be taken back."""
        with tf.GradientTape(watch_accessed_variables=False) as held.tape:
            held.tape.watch([*self._watched, *self._floating(held.arriving)])
            leaving, held.extra, held.moved, held.measures = self._passed(step, held)
        held.targets = [one for one in leaving if one.dtype.is_floating]
        return leaving

    def _traced_backward(self, step: Any, which: int, held: _Held) -> Sums:
        """A backward pass; gradients of what arrived go back at once."""
        wanted = [one for one in self._leaves if one.has_gradient]
        arrived = self.messages.received(self.index + 1, tag_of(which, True), wanted)
        if held.tape is None:
            with tf.control_dependencies(arrived):
                held.arriving = tf.nest.map_structure(tf.identity, held.arriving)  # or it would be the first pass's
                self._taped(step, held)
        sources = self._floating(held.arriving)
        gradients = held.tape.gradient(
            [*held.targets, held.extra],
            [*sources, *self._watched],
            output_gradients=[*arrived, tf.ones_like(held.extra)],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        if sources:
            self.messages.sent(self.index - 1, tag_of(which, True), gradients[: len(sources)])
        own = [tf.convert_to_tensor(one) for one in gradients[len(sources) :]]
        if self.scale.dynamic:
            own = [one * tf.cast(held.examples, one.dtype) for one in own]
        return Sums(own, held.moved, held.measures)

    def _passed(self, step: Any, held: _Held) -> Any:
        return self._pass(step, held.number, held.examples, held.arriving, held.labels)

    def _traced_pass(self, step: Any, number: Any, examples: Any, arriving: Any, labels: Any) -> Any:
        """What leaves, the scalar whose gradient starts here, how statistics moved, and measures."""
        passed = keras_compat.forward(self.stage, self.entering(arriving), self._seeds(step, number))
        loss = sum((_double(tf.reduce_sum(one)) for one in passed.losses), _double(0.0)) * examples
        correct, counted = _double(0.0), _double(0.0)
        leaving = passed.outputs
        if self.last:
            objective, counted = self.program.objective, examples
            fitted = objective.fitted(labels, passed.outputs)
            loss += tf.reduce_sum(objective.losses(fitted, passed.outputs))
            if objective.counts_correct:
                correct = tf.reduce_sum(objective.correct(fitted, passed.outputs))
            leaving = []
        # Half precision has no room for a sum: the mean is differentiated, and multiplied again when it is added up.
        extra = loss / examples * _double(self.scale.value) if self.scale.dynamic else loss
        moved = [tf.cast(examples, one.dtype) * one for one in passed.moved]
        places = {LOSS: loss, CORRECT: correct, COUNT: counted}
        return leaving, extra, moved, tf.stack([places.get(place, _double(0.0)) for place in range(4)])

    def entering(self, arriving: Any) -> list[Any]:
        """What the stage is called with: raw inputs are normalised and arranged."""
        return arranged(self._graph, self.program.normalized(arriving)) if self.first else list(arriving)

    def _seeds(self, step: Any, number: Any) -> list[Any]:
        """One seed for each random layer, made of (seed, step, global micro-batch, layer in the whole model)."""
        return [random_seed(self.program.seed, step, number, layer) for layer in self._sources]

    def _arriving(self, which: int) -> list[Any]:
        return self.messages.received(self.index - 1, tag_of(which, False), self._arrives)

    def _floating(self, tensors: Any) -> list[Any]:
        return [] if self.first else [one for one in tensors if one.dtype.is_floating]

    def _nothing(self) -> Sums:
        gradients, moved = (
            [tf.zeros(one.shape, one.dtype) for one in some] for some in (self.variables, self.statistics)
        )
        return Sums(gradients, moved, np.zeros(4))


def _double(value: Any) -> Any:
    return tf.cast(value, tf.float64)
