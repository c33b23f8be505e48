"""Compares resource requests with limits: whether jobs fit, wait, or never start. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from saman.slurm.site.limits import Limit, Scope
from saman.slurm.submission.resource_request import MIB, ResourceRequest


class LimitVerdict(str, Enum):
    """The effect of a limit on a request."""

    FITS = "fits"
    TIGHT = "tight"  # usage and request together exceed the threshold
    WAITS = "waits"  # until other jobs end, or a budget is renewed
    REFUSED = "refused"  # as many jobs are submitted as the limit allows
    NEVER = "never"  # the request alone exceeds the limit

    @property
    def forbids(self) -> bool:
        """Whether ``saman submit`` refuses the request."""
        return self in (LimitVerdict.REFUSED, LimitVerdict.NEVER)


@dataclass(frozen=True)
class LimitCheck:
    """A limit and a request that needs ``need`` of its resource."""

    limit: Limit
    need: float
    verdict: LimitVerdict

    def sentence(self) -> str:
        """The limit, its value, its use, and the request."""
        limit = self.limit
        used = "" if not limit.used else f", {format_amount(limit.used, limit.resource)} in use"
        asked = f"this needs {format_amount(self.need, limit.resource)}"
        consequence = {
            LimitVerdict.NEVER: "so it would never start",
            LimitVerdict.WAITS: "so it would wait",
            LimitVerdict.REFUSED: "so Slurm would refuse it now",
            LimitVerdict.TIGHT: f"which makes {100 * ((limit.used or 0) + self.need) / limit.amount:.0f} % of it",
            LimitVerdict.FITS: "which fits",
        }[self.verdict]
        allowed = (
            f"{limit.owner} allows {format_amount(limit.amount, limit.resource)} in {limit.scope.value} ({limit.name})"
        )
        return f"{allowed}{used}; {asked}, {consequence}"


def sum_needs(
    requests: Sequence[ResourceRequest], cores_per_node: int, gpu_type: str | None = None
) -> dict[str, float]:
    """The resources that the jobs of a submission need together if each runs to its time limit.

    Args:
        requests: the request of each job.
        cores_per_node: cores of a node; a job with whole nodes needs all of them.
        gpu_type: Slurm's name for the type of the GPUs.

    Returns:
        The amount of each resource, by its name in ``Limit``: memory in MiB, ``wall`` in minutes (of the longest job),
        ``…-minutes`` in resource-minutes, else a count.
    """
    total: dict[str, float] = {}
    for request in requests:
        minutes = request.seconds / 60
        for name, amount in _tres(request, cores_per_node, gpu_type).items():
            total[name] = total.get(name, 0) + amount
            total[f"{name}-minutes"] = total.get(f"{name}-minutes", 0) + amount * minutes
            total[f"{name}-minutes running"] = total[f"{name}-minutes"]
        total["wall"] = max(total.get("wall", 0), minutes)
    total["jobs"] = total["submit"] = len(requests)
    return total


def _tres(request: ResourceRequest, cores_per_node: int, gpu_type: str | None) -> dict[str, float]:
    per_node = cores_per_node if request.whole_nodes else request.cpus_per_node
    found = {"cpu": float(per_node * request.nodes), "node": float(request.nodes)}
    if request.memory_bytes:
        found["mem"] = request.memory_bytes / MIB * request.nodes
    if request.gpus_per_node:
        found["gres/gpu"] = float(request.gpus_per_node * request.nodes)
        if gpu_type:
            found[f"gres/gpu:{gpu_type}"] = found["gres/gpu"]
    return found


def compare_with_limits(
    limits: Iterable[Limit], requests: Sequence[ResourceRequest], cores_per_node: int, gpu_type: str | None = None,
    threshold: float = 0.8,
) -> list[LimitCheck]:  # fmt: skip
    """Compare the requests of a submission with each limit, worst first.

    Args:
        limits: the limits that apply.
        requests: the request of each job.
        cores_per_node: cores of a node; a job with whole nodes needs all of them.
        gpu_type: Slurm's name for the type of the GPUs.
        threshold: the share of a limit above which it is ``TIGHT``.

    Returns:
        A check for each limit on a resource that the requests need.
    """
    together = sum_needs(requests, cores_per_node, gpu_type)
    each = [sum_needs([request], cores_per_node, gpu_type) for request in requests]
    found = []
    for limit in limits:
        single = max((needs.get(limit.resource, 0.0) for needs in each), default=0.0)
        if limit.scope is Scope.NODE:
            single = max((needs.get(limit.resource, 0.0) / needs["node"] for needs in each), default=0.0)
        counts_alone = limit.scope in (Scope.JOB, Scope.NODE) or (limit.scope is Scope.USER and limit.used is None)
        need = single if counts_alone else together.get(limit.resource, 0.0)
        if need:
            found.append(LimitCheck(limit, need, _verdict(limit, need, single, threshold)))
    order = [LimitVerdict.NEVER, LimitVerdict.REFUSED, LimitVerdict.WAITS, LimitVerdict.TIGHT, LimitVerdict.FITS]
    return sorted(found, key=lambda check: order.index(check.verdict))


def _verdict(limit: Limit, need: float, single: float, threshold: float) -> LimitVerdict:
    if single > limit.amount:
        return LimitVerdict.NEVER
    total = (limit.used or 0.0) + need
    if total > limit.amount:
        return LimitVerdict.REFUSED if limit.resource == "submit" else LimitVerdict.WAITS
    tight = limit.scope not in (Scope.JOB, Scope.NODE) and total > threshold * limit.amount
    return LimitVerdict.TIGHT if tight else LimitVerdict.FITS


def format_amount(amount: float, resource: str) -> str:
    """A requested amount with its unit, for the note of a limit check."""
    if resource == "wall":
        hours, minutes = divmod(int(amount), 60)
        return f"{hours}:{minutes:02d} h"
    if resource == "mem":
        return f"{amount / 1024:.4g} GiB"
    if resource in ("jobs", "submit"):
        return f"{amount:.0f} {'running' if resource == 'jobs' else 'submitted'} jobs"
    if "-minutes" in resource:
        of = resource.split("-minutes")[0]
        return f"{amount / 60:.4g} {_NAMES.get(of, of)[:-1] if of in _NAMES else of}-hours"
    return f"{amount:.10g} {_NAMES.get(resource, resource)}"


_NAMES = {"cpu": "cores", "node": "nodes", "gres/gpu": "GPUs", "billing": "billing units"}
