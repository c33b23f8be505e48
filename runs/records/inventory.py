"""Libraries of the ranks: printed as JSON by ``python -m saman.trainers.inventory``, read by the doctor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class LibraryFacts:
    """A library as its import reports it; each field after ``error`` applies to the library in its comment.

    Attributes:
        version: The version of the library.
        missing: Whether the library is not installed.
        error: Why the library does not load.
    """

    version: str = ""
    missing: bool = False
    error: str | None = None
    gpus: tuple[str, ...] = ()  # TensorFlow: names of the usable GPUs
    cuda: bool = False  # TensorFlow: whether it was built with CUDA
    legacy: str | None = None  # Keras: the version of tf_keras
    library: str = ""  # mpi4py: the MPI library
    frameworks: tuple[str, ...] = ()  # Horovod: folders of its libraries
    controllers: tuple[str, ...] = ()  # Horovod: MPI, Gloo
    operations: tuple[str, ...] = ()  # Horovod: NCCL, CCL, MPI, Gloo

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LibraryFacts:
        """Return the facts from plain values; keys of other versions are ignored.

        >>> LibraryFacts.from_json({"version": "0.28.1", "controllers": ["Gloo"]}).controllers
        ('Gloo',)
        """
        known = {key: item for key, item in value.items() if key in cls.__dataclass_fields__}
        typed: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in known.items()}
        return cls(**typed)

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plain values, without those that have their default."""
        default = asdict(LibraryFacts())
        return {name: value for name, value in asdict(self).items() if value != default[name]}


@dataclass(frozen=True)
class Inventory:
    """The libraries by name; a library that was not reached after an earlier failure is not among them."""

    libraries: Mapping[str, LibraryFacts] = field(default_factory=dict)

    def get(self, name: str) -> LibraryFacts | None:
        """Return the facts of a library, or ``None`` if it was not reached."""
        return self.libraries.get(name)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Inventory:
        """Return the inventory from plain values."""
        parts = {name: facts for name, facts in value.items() if isinstance(facts, Mapping)}
        return cls({name: LibraryFacts.from_json(facts) for name, facts in parts.items()})

    def to_json(self) -> dict[str, Any]:
        """Return the inventory as plain values: the schema, and the facts by the name of the library."""
        return {"schema": SCHEMA, **{name: facts.to_json() for name, facts in self.libraries.items()}}
