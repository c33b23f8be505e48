"""The schema of ``launch.tf_config``: roles beside workers."""

from __future__ import annotations

from pydantic import NonNegativeInt

from saman.configs.problems import Strict


class TfConfig(Strict):
    """``launch.tf_config``: TF_CONFIG for a program of the user's own, with these roles in the order of the ranks.

    The first rank is the ``chief``, the next ``servers`` are of the type ``ps``, the last is the ``evaluator``; all
    others are of the type ``worker``.
    """

    chief: bool = False
    servers: NonNegativeInt = 0
    evaluator: bool = False

    @property
    def fewest(self) -> int:
        """The smallest number of ranks: a worker beside the servers, or the chief in its place."""
        alone = self.chief and not self.servers
        return self.chief + self.servers + self.evaluator + (not alone)
