"""The examples of a rank at each step: ordered by (seed, epoch), sliced by rank, then mapped and batched.

Position p of a global batch belongs to slice p mod count. Every m-th example of a slice, starting at the i-th, forms
micro-batch i of m, which is number index + count · i in the global batch: a single rank with count · m micro-batches
gets exactly the same groups. Global batches divide by count · m; the last may be short.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from saman.configs.errors import UserError
from saman.trainers.data.interface import RandomAccess
from saman.trainers.data.order import mix, permute
from saman.trainers.keras_compat import tf
from saman.trainers.user_code.graphs import in_graph


@dataclass(frozen=True)
class Slice:
    """The ``index``-th of ``count`` parts of each global batch.

    ``fixed`` says whether graphs may rely on its size: slices of an elastic run change while its graphs stay.
    """

    index: int
    count: int
    fixed: bool = True


@dataclass(frozen=True, kw_only=True)
class Feed:
    """A dataset as batches.

    Attributes:
        dataset: ``RandomAccess`` or a ``tf.data.Dataset``.
        examples: The number of examples.
        global_batch_size: Examples per step, a multiple of the number of slices.
        seed: The seed of the run.
        epoch: The epoch, counted from 0.
        shuffle: Whether the order depends on (seed, epoch).
        map: Applied to each example, or to each batch with ``maps_batches``.
        maps_batches: Whether ``map`` takes a whole batch.
        where: The part of the experiment that messages name.
        weigh: Turns a batch (inputs, labels) or (inputs, labels, weights) into (inputs, labels, weights); ``None``
            leaves batches as they are.
    """

    dataset: Any
    examples: int
    global_batch_size: int
    seed: int
    epoch: int
    shuffle: bool
    map: Callable[..., Any] | None
    maps_batches: bool
    where: str
    weigh: Callable[..., Any] | None = None

    @property
    def steps(self) -> int:
        """The number of global batches in a pass, a short last batch included."""
        return -(-self.examples // self.global_batch_size)

    @property
    def full_steps(self) -> int:
        """Global batches in one pass in which every slice is full; at most one short batch follows them."""
        return self.examples // self.global_batch_size

    @property
    def is_endless(self) -> bool:
        """Whether ``full_batches`` runs on into the next epochs, so that an epoch costs no new pipeline."""
        return isinstance(self.dataset, RandomAccess)

    @property
    def is_equal_each_epoch(self) -> bool:
        """Whether the batches depend on the data alone, and neither on the seed nor on the epoch."""
        return not (self.shuffle or self._map_takes_seed)

    def full_batches(self, part: Slice, skip: int = 0) -> Any:
        """Return the slice's full batches as a ``tf.data.Dataset`` with static batch sizes.

        Args:
            part: The slice.
            skip: The global batch of this epoch to begin with.

        Returns:
            Tuples (inputs, labels), and weights if there are any: those of this epoch, or of all epochs from this epoch
            on if ``is_endless``.
        """
        if not self.is_endless:
            dataset = self.batched(part, skip)
            static = [self._per_slice(part)]

            def fix(*batch: Any) -> Any:
                return tf.nest.map_structure(lambda tensor: tf.ensure_shape(tensor, static + tensor.shape[1:]), batch)

            return dataset.take(self.full_steps - skip).map(in_graph(fix if part.fixed else _of_any_length))
        index, count = tf.constant(part.index, tf.int64), tf.constant(part.count, tf.int64)
        return self._from_step(index, count, self.epoch * self.full_steps + skip, part.fixed)

    def pipeline(self) -> Callable[[Any, Any, Any], Any]:
        """Return a graph that makes the pipeline of any slice: a new slice costs no tracing; for ``is_endless`` only.

        The graph takes index and count of the slice, and the step of the run to begin with (int64), and returns what
        ``full_batches`` returns for such a slice that is not ``fixed``.
        """
        numbers = [tf.TensorSpec([], tf.int64)] * 3
        return tf.function(partial(self._from_step, fixed=False), input_signature=numbers, autograph=False)

    def _from_step(self, index: Any, count: Any, step: Any, fixed: bool) -> Any:
        """Return the full batches of a slice from a step of the run on; ``fixed`` as in ``Slice``."""
        here = tf.range(index, self.global_batch_size, count, dtype=tf.int64)

        def places(number: Any) -> tuple[Any, Any]:
            return number % self.full_steps * self.global_batch_size + here, number // self.full_steps

        steps = tf.data.Dataset.range(step, tf.int64.max)
        size = here.shape[0] if fixed else tf.size(here, tf.int64)
        dataset = self._mapped(steps, places, size, drop_remainder=True)
        if not fixed:
            dataset = dataset.map(in_graph(_of_any_length))
        return _in_order(self._weighed(dataset), tuned=False)

    def batches(self, part: Slice, skip: int = 0, dataset: Any = None) -> Iterator[Any]:
        """Yield the (inputs, labels) of a slice, with weights if there are any, exactly ``steps - skip`` of them.

        Args:
            part: The slice.
            skip: The number of global batches to skip.
            dataset: What ``batched`` returned for the same slice and ``skip``; ``None`` makes a new pipeline.

        Yields:
            A tuple for each global batch; of length 0 if a short last batch has no example for the slice.
        """
        if skip >= self.steps:
            return  # a pipeline for nothing would cost 30 ms in each epoch
        if dataset is None:
            dataset = self.batched(part, skip)
        empty = tf.nest.map_structure(_empty_batch, dataset.element_spec)
        iterator = iter(dataset)
        for _ in range(skip, self.steps):
            yield next(iterator, empty)

    def whole_batches(self) -> Iterator[Any]:
        """Yield the (inputs, labels) of every global batch once, undivided and without weights.

        Random access needs no ``tf.data`` pipeline for this, whose buffers would stay with the process (30 MB).
        """
        whole, reader = Slice(0, 1), self.reader()
        if reader is None:
            batches = self.batches(whole)
        else:
            batches = (self.read_batch(reader, whole, number) for number in range(self.steps))
        for inputs, labels, *_ in batches:
            yield inputs, labels

    def reader(self) -> Any | None:
        """Return a graph that reads, maps and weighs the examples at positions (int64[n]) of an epoch (int64) at once.

        It reads a single batch in less than a millisecond, where a new pipeline takes 30. There is none (``None``)
        where examples have no random access or are mapped one by one.
        """
        if not self.is_endless or self._maps_examples:
            return None

        def read(position: Any, epoch: Any) -> Any:
            batch = self._read(position, epoch)
            return batch if self.weigh is None else in_graph(self.weigh)(*batch)

        with tf.device("CPU:0"):  # like pipelines
            places = [tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int64)]
            return tf.function(read, input_signature=places, autograph=False).get_concrete_function()

    def read_batch(self, reader: Any, part: Slice, number: int) -> Any:
        """Return the slice of global batch ``number``, as ``batches`` yields it, by the ``reader`` of these data."""
        size = self.global_batch_size
        places = range(number * size + part.index, min((number + 1) * size, self.examples), part.count)
        if not places:
            return tf.nest.map_structure(_empty_batch, reader.structured_outputs)
        with tf.device("CPU:0"):
            return reader(tf.range(places.start, places.stop, places.step, tf.int64), tf.constant(self.epoch, tf.int64))

    def batched(self, part: Slice, skip: int = 0) -> Any:
        """Return the slice as a ``tf.data.Dataset`` of batches.

        Raises:
            UserError: The examples are not (input, label) pairs.
        """
        per_slice = self._per_slice(part)
        if isinstance(self.dataset, RandomAccess):
            epoch = tf.constant(self.epoch, tf.int64)
            dataset = self._mapped(self._positions(part, skip), lambda position: (position, epoch), per_slice)
        elif self.maps_batches:
            batches = self._every_nth_example(part, skip).batch(per_slice)
            dataset = batches.map(in_graph(self._apply_map), tf.data.AUTOTUNE)
        else:
            examples = self._every_nth_example(part, skip)
            dataset = examples.map(in_graph(self._apply_map), tf.data.AUTOTUNE).batch(per_slice)
        _check_pairs(dataset.element_spec, self.where)
        tuned = part.fixed and not isinstance(self.dataset, RandomAccess)
        return _in_order(self._weighed(dataset), tuned)

    def _per_slice(self, part: Slice) -> int:
        """Return the number of examples of the slice in a full batch."""
        return len(range(part.index, self.global_batch_size, part.count))

    def _positions(self, part: Slice, skip: int) -> Any:
        """Return the positions of the slice in each global batch, those that are not empty."""
        size = self.global_batch_size
        if size % part.count == 0:
            positions = tf.data.Dataset.range(skip * size + part.index, self.examples, part.count)
            return positions.batch(size // part.count)

        def of_batch(number: Any) -> Any:
            return tf.range(number * size + part.index, tf.minimum((number + 1) * size, self.examples), part.count)

        def has_examples(number: Any) -> Any:
            return number * size + part.index < self.examples

        return tf.data.Dataset.range(skip, self.steps).filter(in_graph(has_examples)).map(in_graph(of_batch))

    def _mapped(self, elements: Any, places: Callable[[Any], Any], size: Any, drop_remainder: bool = False) -> Any:
        """Return batches of read and mapped examples.

        Args:
            elements: A dataset with an element per batch.
            places: Turns an element into int64[n] positions in an epoch, and the epoch.
            size: The number of examples of a full batch.
            drop_remainder: Whether all batches are full.
        """
        dataset = elements.map(in_graph(lambda element: self._read(*places(element))), tf.data.AUTOTUNE)
        if self._maps_examples:
            dataset = dataset.unbatch().map(in_graph(self._apply_map), tf.data.AUTOTUNE).batch(size, drop_remainder)
        return dataset

    def _read(self, position: Any, epoch: Any) -> Any:
        """Return the batch at positions of an epoch, mapped; before a map of single examples, with what it needs."""
        order = permute(position, self.examples, self.seed, epoch) if self.shuffle else position
        example = in_graph(self.dataset.read)(order)
        if self._maps_examples:
            return position, example, tf.fill(tf.shape(position), epoch)
        return self._apply_map(position, example, epoch)

    @property
    def _map_takes_seed(self) -> bool:
        return self.map is not None and "seed" in inspect.signature(self.map).parameters

    @property
    def _maps_examples(self) -> bool:
        return self.map is not None and not self.maps_batches

    def _every_nth_example(self, part: Slice, skip: int) -> Any:
        """Return (position in the epoch, example) pairs; every rank reads the whole dataset."""
        dataset = self.dataset
        if self.shuffle:
            seed = mix(self.seed, self.epoch)
            dataset = dataset.shuffle(max(1, self.examples), seed=seed, reshuffle_each_iteration=False)
        rest, size = dataset.enumerate().skip(skip * self.global_batch_size), self.global_batch_size
        if size % part.count == 0:
            return rest.shard(part.count, part.index)
        return rest.filter(lambda position, _: position % size % part.count == part.index)

    def _apply_map(self, position: Any, example: Any, epoch: Any = None) -> Any:
        if self.map is None:
            return example
        values, change = example if isinstance(example, tuple) else (example,), in_graph(self.map)
        if not self._map_takes_seed:
            return change(*values)
        start = tf.stack([mix(self.seed, 0), tf.cast(self.epoch if epoch is None else epoch, tf.int32)])

        def seed_of(place: Any) -> Any:
            return tf.random.experimental.stateless_fold_in(start, tf.cast(place, tf.int32))

        if self.maps_batches:
            seeds = tf.map_fn(seed_of, position, fn_output_signature=tf.TensorSpec([2], tf.int32))
            return change(*values, seed=seeds)
        return change(*values, seed=seed_of(position))

    def _weighed(self, dataset: Any) -> Any:
        return dataset if self.weigh is None else dataset.map(in_graph(self.weigh))


def count(dataset: Any, where: str) -> tuple[int, bool]:
    """Return the number of examples of a dataset, and whether it had to be read completely.

    Raises:
        UserError: The dataset is endless, empty, or of another type.
    """
    if isinstance(dataset, RandomAccess):
        if dataset.examples < 1:
            raise UserError("the dataset is empty", where=where, remedy="check the source of the examples")
        return dataset.examples, False
    if not isinstance(dataset, tf.data.Dataset):
        problem = f"{type(dataset).__name__} is neither a tf.data.Dataset nor RandomAccess"
        raise UserError(problem, where=where, remedy="return Splits of either type")
    known = int(dataset.cardinality().numpy())
    if known == tf.data.INFINITE_CARDINALITY:
        raise UserError("the dataset is endless", where=where, remedy="remove .repeat(): every epoch reads it again")
    read = known == tf.data.UNKNOWN_CARDINALITY
    if read:
        known = int(dataset.reduce(tf.constant(0, tf.int64), lambda total, *_: total + 1).numpy())
    if known == 0:
        raise UserError("the dataset is empty", where=where, remedy="check the source of the examples")
    return known, read


def _of_any_length(*batch: Any) -> Any:
    """Return a batch whose number of examples graphs do not know."""
    return tf.nest.map_structure(
        lambda tensor: tf.compat.v1.placeholder_with_default(tensor, [None, *tensor.shape[1:]]), batch
    )


def _in_order(dataset: Any, tuned: bool) -> Any:
    """Keep the order of the examples, whatever runs in parallel, and read two batches ahead.

    Args:
        dataset: Batches.
        tuned: Whether tf.data tunes its parallelism while it reads, which only users' own datasets may need: the end
            of a tuned iterator waits for a thread that may sleep as long as the iterator has lived (8 s after 12 s,
            seen with TensorFlow 2.21). Untuned, ``AUTOTUNE`` means a call per thread.
    """
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = tuned
    return dataset.with_options(options).prefetch(2)


def _empty_batch(spec: Any) -> Any:
    return tf.zeros([0, *(size or 0 for size in spec.shape[1:])], spec.dtype)


def _check_pairs(spec: Any, where: str) -> None:
    if not (isinstance(spec, tuple) and len(spec) in (2, 3)):
        raise UserError(
            f"examples are {tf.nest.map_structure(lambda part: tuple(part.shape), spec)}",
            where=where,
            remedy="return (input, label) pairs or (input, label, weight), after the map if there is a map",
        )
    if len(spec) == 3 and not (isinstance(spec[2], tf.TensorSpec) and spec[2].shape.rank == 1):
        raise UserError("a weight is no single number", where=where, remedy="return a number per example")
