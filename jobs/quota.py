"""A user's limits on a cluster: current use, and the needs of further runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.experiment import Experiment
from saman.slurm.site.user_limits import UserLimits, read_user_limits
from saman.slurm.submission.limit_check import LimitCheck, compare_with_limits
from saman.slurm.submission.resource_request import PartitionChoice, choose_partition


@dataclass(frozen=True)
class Needs:
    """The largest use of the requested runs, by their time limits. ``cost`` is in the cluster file's unit."""

    runs: int
    node_hours: float
    gpu_hours: float
    cost: float


@dataclass(frozen=True)
class QuotaReport:
    """Limits with their use, the needs of the runs asked about, and how these meet the limits."""

    limits: UserLimits
    needs: Needs
    checks: tuple[LimitCheck, ...]

    @property
    def forbidden(self) -> bool:
        """Whether Slurm would refuse the runs, or never start them."""
        return any(check.verdict.forbids for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "account": self.limits.account,
            "qos": list(self.limits.qos),
            "known": self.limits.known,
            "limits": [limit.to_json() for limit in self.limits.limits],
            "needs": asdict(self.needs),
            "findings": [
                {
                    "verdict": check.verdict.value,
                    "need": check.need,
                    "limit": check.limit.to_json(),
                    "sentence": check.sentence(),
                }
                for check in self.checks
            ],
        }


def read_quota(
    cluster: Cluster, experiments: Sequence[Experiment] = (), partition: str | None = None, threshold: float = 0.8
) -> QuotaReport:
    """Read the user's limits on ``cluster``, and compare the needs of ``experiments`` with them.

    Args:
        cluster: the cluster.
        experiments: runs that would be submitted; none shows the limits only.
        partition: the partition; by default the cheapest that fits.
        threshold: share of a limit above which its use is reported.

    Raises:
        UserError: an experiment fits no partition.
        EnvironmentLack: Slurm does not answer.
    """
    choices = [choose_partition(cluster, experiment, partition) for experiment in experiments]
    where = choices[0].partition if choices else cluster.partition(partition) if partition else None
    qos = (where.qos if where else None) or cluster.qos
    mine = read_user_limits(cluster.account, qos, cluster.requested(where) if where else None)
    checks: list[LimitCheck] = []
    if where and choices:
        requests = [choice.request for choice in choices]
        checks = compare_with_limits(mine.limits, requests, where.cores_per_node, where.gpu_type, threshold)
    return QuotaReport(mine, _needs(choices), tuple(checks))


def _needs(choices: Sequence[PartitionChoice]) -> Needs:
    return Needs(
        runs=len(choices),
        node_hours=sum(choice.request.node_hours for choice in choices),
        gpu_hours=sum(choice.request.gpu_hours for choice in choices),
        cost=sum(choice.cost for choice in choices),
    )
