"""The context of a user's function: all that it sees of saman. Imports no TensorFlow."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Context:
    """What a user's function may ask for with a parameter ``ctx``; a data function gets it as its first argument.

    Data and models must not depend on ``rank`` and ``size``, because saman itself gives each rank its slice.

    Attributes:
        seed: The seed of the run.
        epoch: The epoch, counted from 0.
        rank: The first rank of this process, for messages and caches.
        size: The number of ranks, for messages and caches.
        folder: The run folder's part for the user's own files; ``None`` outside of a run.
    """

    seed: int
    epoch: int
    rank: int
    size: int
    folder: Path | None = None

    @property
    def logger(self) -> logging.Logger:
        """A logger whose messages, from ``INFO`` on, stand in the log of this rank."""
        logger = logging.getLogger(f"user.rank{self.rank}")
        if not logger.handlers:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(logging.Formatter(f"%(asctime)s rank {self.rank} %(levelname)s %(message)s"))
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
            logger.propagate = False
        return logger

    @property
    def artefacts(self) -> Path:
        """The folder for files that the user's functions leave with the run; it exists when it is returned.

        All ranks share it: let rank 0 write, or put ``rank`` into the names.
        """
        folder = self.folder or Path("artefacts")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def at_epoch(self, epoch: int) -> Context:
        """Return the context of another epoch."""
        return replace(self, epoch=epoch)
