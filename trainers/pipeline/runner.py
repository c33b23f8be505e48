"""One stage at work: its passes over the micro-batches of a step, in the order of the schedule.

    left neighbour ──activations──►  forward ──activations──► right neighbour      the last stage turns its outputs
    left neighbour ◄──gradients────  backward ◄──gradients─── right neighbour      into the loss and its gradient

A forward pass runs as one compiled function under an eager tape; the tape holds what the compiled backward pass needs,
and lets go of it after that pass. On the last stage of 1F1B a backward pass follows its forward pass at once: there
both are one function, which spares the tape.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from saman.pipeline.schedule import ORDERS, Action
from saman.trainers import keras_compat
from saman.trainers.keras_compat import tf
from saman.trainers.pipeline.graph import Graph, arranged
from saman.trainers.pipeline.stage import Stage, travelling
from saman.trainers.pipeline.transport import Transport, tag_of
from saman.trainers.program import Program
from saman.trainers.step import CORRECT, COUNT, LOSS, random_seed


@dataclass(frozen=True)
class How:
    """How stages run, alike on all of them."""

    stages: int
    micro_batches: int
    order: str = "1f1b"
    recompute: bool = False


@dataclass
class Spent:
    """Seconds of a window: waiting for neighbours, handing tensors over, computing."""

    waiting: float = 0.0
    transfer: float = 0.0
    computing: float = 0.0


@dataclass(frozen=True)
class Sums:
    """What a stage adds up over the micro-batches of one step."""

    gradients: list[Any]
    moved: list[Any]  # of each moving statistic: Σ over micro-batches of count · (new - old)
    measures: np.ndarray  # float64[4]; of losses that layers add, each stage has its own


@dataclass
class _Held:
    """What a micro-batch leaves on a stage between its two passes."""

    number: Any
    arriving: list[Any]
    examples: int
    labels: Any
    tape: Any = None
    targets: list[Any] = field(default_factory=list)
    extra: Any = None
    gradients: list[Any] | None = None  # where both passes were one function


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
        self.transport, self.scale, self.device = transport, scale, device
        self.stage: Stage = program.model
        self.spent = Spent()
        self.first, self.last = index == 0, index == how.stages - 1
        self.variables = list(program.model.trainable_variables)
        self.statistics = keras_compat.statistics(program.model)
        self._graph, self._sources = graph, list(sources)
        self._watched = [keras_compat.tensor_of(one) for one in self.variables]
        self._arrives = travelling(graph, self.stage.begin)
        self._leaves = [] if self.last else travelling(graph, self.stage.end)
        with self.on_device():
            self._totals = [tf.Variable(tf.zeros_like(one), trainable=False) for one in self._watched]
        self._at_once = self.last and how.order == "1f1b"
        self._both = tf.function(self._traced_both, autograph=False, reduce_retracing=True)
        self._forward = tf.function(self._traced_forward, autograph=False, reduce_retracing=True)
        self._infer = tf.function(self._traced_inference, autograph=False, reduce_retracing=True)
        self._judge = tf.function(self._traced_judgement, autograph=False, reduce_retracing=True)
        self._replace = tf.function(self._traced_replace, autograph=False)
        self._add = tf.function(self._traced_add, autograph=False)
        self._waits: list[int] = []

    def on_device(self) -> AbstractContextManager[Any]:
        """Where the stage's tensors lie."""
        place: AbstractContextManager[Any] = tf.device(self.device) if self.device else nullcontext()
        return place

    # ---- a step --------------------------------------------------------------------------------------------

    def step(self, step: int, part: Any, batch: Any) -> Sums:
        """Both passes of every micro-batch of this replica's slice ``part`` of global batch ``step``.

        Micro-batches without examples, of a short last batch, are left out by all stages alike.
        """
        count = self.how.micro_batches
        pieces = [tf.nest.map_structure(lambda one, i=i: one[i::count], batch) for i in range(count)]
        there = [i for i, piece in enumerate(pieces) if piece[1].shape[0]]
        self._measures, self._moved, self._first_gradient = np.zeros(4), self._no_movement(), True
        held: dict[int, _Held] = {}
        with self.on_device():
            for action in ORDERS[self.how.order](self.index, self.how.stages, len(there)):
                which = there[action.micro_batch]
                if action.kind == "forward":
                    number = tf.constant(part.index + part.count * which, tf.int64)
                    held[which] = self._begin(tf.constant(step, tf.int64), number, action, pieces[which])
                    pieces[which] = None
                else:
                    self._finish(tf.constant(step, tf.int64), action, held.pop(which))
            gradients = [one.read_value() if there else tf.zeros_like(one) for one in self._totals]
        return Sums(gradients, self._moved, self._measures)

    def _begin(self, step: Any, number: Any, action: Action, piece: Any) -> _Held:
        """A forward pass; what leaves goes to the next stage at once."""
        arriving = piece[0] if self.first else self._receive(self.index - 1, tag_of(action.micro_batch, False))
        labels = piece[1] if self.last else None
        held = _Held(number, arriving, int(piece[1].shape[0]), labels)
        leaving: Any
        if self._at_once:
            leaving = self._computed(lambda: self._both_passes(step, held))
        elif self.how.recompute and not self.last:
            leaving = self._computed(lambda: self._forward(step, number, _double(held.examples), arriving, labels)[0])
        else:
            leaving = self._with_tape(step, held)
        if not self.last:
            self._send(self.index + 1, tag_of(action.micro_batch, False), leaving)
        return held

    def _both_passes(self, step: Any, held: _Held) -> None:
        """Forward and backward pass in one function; the gradients wait for the backward pass's turn."""
        held.gradients, moved, measures = self._both(
            step, held.number, _double(held.examples), held.arriving, held.labels
        )
        self._note(moved, measures)

    def _note(self, moved: Sequence[Any], measures: Any) -> None:
        self._measures += np.asarray(measures)
        self._moved = [total + one for total, one in zip(self._moved, moved, strict=True)]

    def _with_tape(self, step: Any, held: _Held) -> Any:
        """Run the forward pass so that it can be taken back; notes what is summed over micro-batches."""

        def run() -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([*self._watched, *self._floating(held.arriving)])
                leaving, extra, moved, measures = self._forward(
                    step, held.number, _double(held.examples), held.arriving, held.labels
                )
            held.tape, held.extra = tape, extra
            held.targets = [] if self.last else [one for one in leaving if one.dtype.is_floating]
            self._note(moved, measures)
            return leaving

        return self._computed(run)

    def _finish(self, step: Any, action: Action, held: _Held) -> None:
        """A backward pass; gradients of what arrived go back at once, before this stage's own are added up."""
        arrived = [] if self.last else self._receive(self.index + 1, tag_of(action.micro_batch, True))
        if held.tape is None and held.gradients is None:
            self._with_tape(step, held)
        sources = [] if self.first else self._floating(held.arriving)

        def run() -> Any:
            gradients = held.tape.gradient(
                [*held.targets, held.extra],
                [*sources, *self._watched],
                output_gradients=[*arrived, tf.ones_like(held.extra)],
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            held.tape = None
            return gradients

        gradients = held.gradients if held.gradients is not None else self._computed(run)
        if not self.first:
            self._send(self.index - 1, tag_of(action.micro_batch, True), gradients[: len(sources)])
        own = [tf.convert_to_tensor(one) for one in gradients[len(sources) :]]
        factor = _double(held.examples if self.scale.dynamic else 1)
        self._computed(lambda: (self._replace if self._first_gradient else self._add)(own, factor))
        self._first_gradient = False

    # ---- inference -------------------------------------------------------------------------------------------

    def infer(self, inputs: Any, tag: int = 0) -> Any:
        """Outputs of the whole model on the last stage, ``None`` on the others; all stages call it alike.

        A stage runs at most two batches ahead of the next one.
        """
        with self.on_device():
            arriving = inputs if self.first else self._receive(self.index - 1, tag)
            leaving = self._infer(arriving)
            if self.last:
                return leaving
            if len(self._waits) == 2:
                self._waits.pop(0)
                self.transport.receive(self.index + 1, _GO_ON)
            self._send(self.index + 1, tag, leaving)
            self._waits.append(tag)
        return None

    def inferred(self) -> None:
        """Tell the stage before that its batch is through."""
        if not self.first:
            self.transport.send(self.index - 1, _GO_ON, [])

    def returned(self, outputs: Any) -> Any:
        """The last stage's ``outputs``, handed back from stage to stage to the first; ``None`` on the others."""
        if not self.last:
            outputs = self._receive(self.index + 1, _BACK)[0]
        if self.first:
            return outputs
        self._send(self.index - 1, _BACK, [outputs])
        return None

    def judged(self, batch: Any) -> np.ndarray:
        """float64[4] of sums over a validation batch; zeros but on the last stage."""
        if not batch[1].shape[0]:
            return np.zeros(4)
        outputs = self.infer(batch[0])
        self.inferred()
        if not self.last:
            return np.zeros(4)
        with self.on_device():
            return np.asarray(self._judge(batch[1], outputs))

    # ---- states, towards the first stage -----------------------------------------------------------------------

    def send_named(self, state: Mapping[str, np.ndarray]) -> None:
        """Send named arrays to the stage before."""
        names = np.frombuffer("\n".join(state).encode(), np.uint8)
        self.transport.send(self.index - 1, _BACK, [names, *(np.asarray(one) for one in state.values())])

    def receive_named(self) -> dict[str, np.ndarray]:
        """Named arrays from the stage behind."""
        names, *arrays = self.transport.receive(self.index + 1, _BACK)
        return dict(zip(names.tobytes().decode().split("\n"), arrays, strict=True))

    # ---- compiled ----------------------------------------------------------------------------------------------

    def _traced_forward(self, step: Any, number: Any, examples: Any, arriving: Any, labels: Any) -> Any:
        """What leaves, the scalar whose gradient starts here, how statistics moved, and measures."""
        passed = keras_compat.forward(self.stage, self._entering(arriving), self._seeds(step, number))
        added = sum((_double(tf.reduce_sum(one)) for one in passed.losses), _double(0.0)) * examples
        correct, loss, counted = _double(0.0), added, _double(0.0)
        leaving = passed.outputs
        if self.last:
            objective, counted = self.program.objective, examples
            fitted = objective.fitted(labels, passed.outputs)
            loss = tf.reduce_sum(objective.losses(fitted, passed.outputs)) + added
            if objective.counts_correct:
                correct = tf.reduce_sum(objective.correct(fitted, passed.outputs))
            leaving = []
        # Half precision has no room for a sum: the mean is differentiated, and multiplied again when it is added up.
        extra = loss / examples * _double(self.scale.value) if self.scale.dynamic else loss
        moved = [tf.cast(examples, one.dtype) * one for one in passed.moved]
        places = {LOSS: loss, CORRECT: correct, COUNT: counted}
        return leaving, extra, moved, tf.stack([places.get(place, _double(0.0)) for place in range(4)])

    def _traced_both(self, step: Any, number: Any, examples: Any, arriving: Any, labels: Any) -> Any:
        """Gradients of what arrived and of the variables, how statistics moved, and measures."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            sources = [*self._floating(arriving), *self._watched]
            tape.watch(sources)
            _, extra, moved, measures = self._traced_forward(step, number, examples, arriving, labels)
        gradients = tape.gradient(extra, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(one) for one in gradients], moved, measures

    def _traced_inference(self, arriving: Any) -> Any:
        return keras_compat.predict(self.stage, self._entering(arriving))

    def _traced_judgement(self, labels: Any, outputs: Any) -> Any:
        objective = self.program.objective
        labels = objective.fitted(labels, outputs)
        loss = tf.reduce_sum(objective.losses(labels, outputs))
        correct = tf.reduce_sum(objective.correct(labels, outputs)) if objective.counts_correct else _double(0.0)
        return tf.stack([loss, correct, _double(tf.shape(labels)[0]), _double(0.0)])

    def _traced_replace(self, gradients: list[Any], factor: Any) -> None:
        for total, one in zip(self._totals, gradients, strict=True):
            total.assign(one * tf.cast(factor, one.dtype) if self.scale.dynamic else one)

    def _traced_add(self, gradients: list[Any], factor: Any) -> None:
        for total, one in zip(self._totals, gradients, strict=True):
            total.assign_add(one * tf.cast(factor, one.dtype) if self.scale.dynamic else one)

    def _entering(self, arriving: Any) -> list[Any]:
        return arranged(self._graph, self.program.normalized(arriving)) if self.first else list(arriving)

    def _seeds(self, step: Any, number: Any) -> list[Any]:
        """One seed for each random layer, made of (seed, step, global micro-batch, layer in the whole model)."""
        return [random_seed(self.program.seed, step, number, layer) for layer in self._sources]

    # ---- small things --------------------------------------------------------------------------------------------

    def _receive(self, stage: int, tag: int) -> list[Any]:
        began = time.perf_counter()
        arrays = self.transport.receive(stage, tag)
        here = time.perf_counter()
        tensors = [tf.convert_to_tensor(array) for array in arrays]
        self.spent.waiting += here - began
        self.spent.transfer += time.perf_counter() - here
        return tensors

    def _send(self, stage: int, tag: int, tensors: Sequence[Any]) -> None:
        began = time.perf_counter()
        self.transport.send(stage, tag, [_as_array(one) for one in tensors])
        self.spent.transfer += time.perf_counter() - began

    def _computed(self, work: Any) -> Any:
        began = time.perf_counter()
        result = work()
        self.spent.computing += time.perf_counter() - began
        return result

    def _floating(self, tensors: Any) -> list[Any]:
        return [] if self.first else [one for one in tensors if one.dtype.is_floating]

    def _no_movement(self) -> list[Any]:
        return [tf.zeros(one.shape, one.dtype) for one in self.statistics]


# Tags beside those of micro-batches: an empty message that lets the stage before send another inference batch, and
# what goes back to the first stage.
_GO_ON, _BACK = 1 << 20, 1 << 20 | 1


def _as_array(tensor: Any) -> np.ndarray:
    """The tensor's memory as an array, without a copy where it lies on the host."""
    try:
        return np.asarray(memoryview(tensor))
    except (TypeError, ValueError, BufferError):  # on a GPU, or a type that buffers do not know, such as bfloat16
        return np.asarray(tensor)


def _double(value: Any) -> Any:
    return tf.cast(value, tf.float64)
