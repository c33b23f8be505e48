"""The profile of a model: its layers as they were measured on a machine. Plain values; needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from saman.configs.schemas.experiment import Experiment
from saman.pipeline.chain import Chain, Layer, Link

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A measured chain of layers.

    Attributes:
        chain: The layers, measured for a micro-batch of ``examples``.
        link: Latency and bandwidth of messages between stages.
        examples: Examples in the measured micro-batch.
        whole_seconds: Time of both passes of the whole model in one process.
        about: What was measured, for readers: the model and the version of TensorFlow.
    """

    chain: Chain
    link: Link
    examples: int
    whole_seconds: float
    about: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the profile as it is written to a file."""
        chain = self.chain
        return {
            "schema": SCHEMA,
            "layers": [asdict(layer) for layer in chain.layers],
            "crossing_bytes": chain.crossing_bytes,
            "gradient_bytes": chain.gradient_bytes,
            "uncuttable": {str(position): reason for position, reason in chain.uncuttable.items()},
            "link": asdict(self.link),
            "examples": self.examples,
            "whole_seconds": self.whole_seconds,
            "about": dict(self.about),
        }

    @classmethod
    def from_json(cls, value: Any) -> Profile | None:
        """Return the profile of a file's content, or ``None`` if it is missing, torn or of another schema."""
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            return None
        try:
            chain = Chain(
                layers=tuple(Layer(**layer) for layer in value["layers"]),
                crossing_bytes=tuple(value["crossing_bytes"]),
                gradient_bytes=tuple(value["gradient_bytes"]),
                uncuttable={int(position): reason for position, reason in value["uncuttable"].items()},
            )
            return cls(
                chain=chain,
                link=Link(**value["link"]),
                examples=value["examples"],
                whole_seconds=value["whole_seconds"],
                about=value["about"],
            )
        except (KeyError, TypeError, ValueError):
            return None


def micro_batch_examples(experiment: Experiment) -> int:
    """Return the number of examples in the micro-batch that a pipeline's profile measures."""
    return max(1, experiment.global_batch_size // max(1, experiment.replicas) // experiment.train.micro_batches)
