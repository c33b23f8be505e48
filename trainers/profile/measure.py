"""Measures the profile of an experiment's model: time, memory and messages of each layer."""

from __future__ import annotations

from typing import Any

from saman.configs.schemas.experiment import Experiment
from saman.pipeline.chain import Chain, Layer
from saman.pipeline.profile import Profile, micro_batch_examples
from saman.trainers import assembly, keras_compat, models
from saman.trainers.data.feed import Slice
from saman.trainers.keras_compat import tf
from saman.trainers.pipeline.graph import arrange_inputs, graph_of
from saman.trainers.profile.link import measure_link
from saman.trainers.profile.memory import crossing_bytes, kept_bytes, parameter_bytes
from saman.trainers.profile.timing import measure_passes
from saman.trainers.program.program import cast_floating
from saman.trainers.strategies.devices import claim
from saman.trainers.strategies.single import SingleStrategy


def measure(experiment: Experiment) -> Profile:
    """Measure the model for a micro-batch of the experiment, on the first device of this process.

    Raises:
        UserError: The model has no graph, or the data do not follow the interface.
    """
    claim(1, experiment.resources.gpus_per_rank)
    keras_compat.start_session(experiment.train.seed, experiment.train.precision)
    strategy = SingleStrategy()
    strategy.size = experiment.resources.ranks  # the data are prepared as for a rank of the run
    prepared = assembly.prepare(experiment, strategy)
    # A model without a graph is refused before its weights take time and memory.
    model = keras_compat.build_without_values(
        lambda: models.build(experiment.model, prepared.input_shape, prepared.context)
    )
    graph = graph_of(model)
    keras_compat.initialize_values(graph.model)
    examples = micro_batch_examples(experiment)
    batch = _example_inputs(prepared, examples)
    normalize = prepared.splits(0).normalize
    inputs = arrange_inputs(graph, cast_floating(normalize(batch) if normalize else batch))
    times = measure_passes(graph, inputs)
    kept = kept_bytes(graph, inputs)
    layers = tuple(
        Layer(
            name=step.name,
            forward_seconds=times.layers[at].forward_seconds,
            backward_seconds=times.layers[at].backward_seconds,
            parameter_bytes=parameter_bytes(graph, at),
            activation_bytes=kept[at],
        )
        for at, step in enumerate(graph.steps)
    )
    forward, backward = crossing_bytes(graph, inputs)
    return Profile(
        chain=Chain(layers, forward, backward, graph.uncuttable()),
        link=measure_link(),
        examples=examples,
        whole_seconds=times.whole.seconds,
        about={"model": experiment.model.build, "tensorflow": tf.__version__},
    )


def _example_inputs(prepared: assembly.PreparedData, count: int) -> Any:
    """Return the inputs of ``count`` training examples, repeated if the first batch has fewer."""
    [inputs, _] = next(iter(prepared.feeds.train(0).batches(Slice(0, 1))))
    return tf.nest.map_structure(lambda tensor: tf.gather(tensor, tf.range(count) % tf.shape(tensor)[0]), inputs)
