"""The tested software stacks that ``saman setup`` can build, and the request for a set-up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Mpi = Literal["wheel", "system"]

HOROVOD_VERSION = "0.28.1"
HOROVOD_SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"

LOCKS = Path(__file__).resolve().parent / "locks"


@dataclass(frozen=True)
class SoftwareStack:
    """A TensorFlow with all other packages, as locked and tested."""

    tensorflow: str
    newest_python: tuple[int, int]
    # Horovod's last release knows TensorFlow up to 2.15; see horovod_source.mend for what a newer TensorFlow needs.
    mend_horovod: bool
    oldest_python: tuple[int, int] = (3, 10)

    @property
    def name(self) -> str:
        """Its name for people: ``2.21``."""
        return ".".join(self.tensorflow.split(".")[:2])

    @property
    def lock(self) -> Path:
        """Exact versions and hashes of every package."""
        return LOCKS / f"tensorflow-{self.name}.lock"

    @property
    def pythons(self) -> str:
        """The range for a sentence: ``3.10 to 3.13``."""
        return "{}.{} to {}.{}".format(*self.oldest_python, *self.newest_python)


CURRENT = SoftwareStack("2.21.0", newest_python=(3, 13), mend_horovod=True)
COMPAT = SoftwareStack("2.15.1", newest_python=(3, 11), mend_horovod=False)
STACKS = {stack.name: stack for stack in (CURRENT, COMPAT)}


@dataclass(frozen=True)
class SetupRequest:
    """The request to ``saman setup``."""

    venv: Path  # absolute
    python: str | None = None  # a path or a name on PATH; None: any suitable Python
    stack: SoftwareStack = CURRENT
    mpi: Mpi = "wheel"
    gpu: bool = False
    in_place: bool = False  # into the environment that saman is installed in, not into an environment of a source tree
