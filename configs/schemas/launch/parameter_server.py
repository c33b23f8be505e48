"""The schema of ``train.parameter_server``: who holds the variables, and whether workers share each step."""

from __future__ import annotations

from pydantic import PositiveInt

from saman.configs.problems import Strict


class ParameterServer(Strict):
    """``train.parameter_server``: rank 0 coordinates, the next ``servers`` hold the variables, the rest are workers.

    Asynchronous: a worker takes whole steps by itself, while others change the weights. Synchronous: a step is the sum
    over all workers, as under every other strategy.
    """

    servers: PositiveInt = 1
    synchronous: bool = False

    def workers(self, ranks: int) -> int:
        """Return the number of workers among ``ranks`` ranks; less than 1 for too few ranks."""
        return ranks - 1 - self.servers

    def replicas(self, ranks: int) -> int:
        """Return the number of ranks that share a step."""
        return max(1, self.workers(ranks)) if self.synchronous else 1
