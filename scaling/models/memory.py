"""What the memory of a node bounds: bytes per sample, from the CPU seconds that a sample costs more on full nodes.

A core that only moves memory needs b(few) ÷ b(many) times the CPU seconds on a fuller node, where b is the measured
bandwidth of a node ÷ its cores at work. A sample whose CPU seconds grow by part of that spends that part of its time on
memory, and so moves CPU seconds × part × b(few) bytes. Hardware counters would tell it directly, but need root.
"""

from __future__ import annotations

from dataclasses import dataclass

from saman.runs.records.provenance import MemoryBandwidth

LEAST_FALL = 0.05  # of bandwidth per core, below which memory cannot explain that samples cost more
SATURATED = 0.9  # of the bandwidth per core that the fullest measured node had


@dataclass(frozen=True)
class MemoryTraffic:
    """The memory traffic of a sample.

    Attributes:
        share: Of the CPU seconds of a sample on the emptiest measured node.
        bytes_per_sample: What it moves.
        fall: Loss of bandwidth per core from the emptiest to the fullest measured node, as a share.
        node_bytes_per_second: The most that a node moves.
    """

    share: float
    bytes_per_sample: float
    fall: float
    node_bytes_per_second: float

    @property
    def samples_per_second(self) -> float:
        """The rate that the memory of a node cannot exceed."""
        return self.node_bytes_per_second / self.bytes_per_sample


def memory_traffic(
    bandwidth: MemoryBandwidth, few_cores: int, many_cores: int, cpu_seconds: float, growth: float
) -> MemoryTraffic | None:
    """Infer the memory traffic of a sample.

    Args:
        bandwidth: Of a node, by cores at work.
        few_cores: Cores at work on the emptiest measured node.
        many_cores: On the fullest.
        cpu_seconds: CPU seconds of a sample on the emptiest node.
        growth: Growth of the CPU seconds to the fullest node, as a share.

    Returns:
        The traffic; None where samples cost no more, or bandwidth per core hardly falls.

    >>> node = MemoryBandwidth((1, 4), (10e9, 20e9))  # a core of four has half the bandwidth of a single core
    >>> found = memory_traffic(node, 1, 4, 0.002, 0.5)
    >>> found.share, found.bytes_per_sample, found.samples_per_second
    (0.5, 10000000.0, 2000.0)
    """
    alone, beside = bandwidth.of(few_cores) / few_cores, bandwidth.of(many_cores) / many_cores
    fall = 1 - beside / alone
    if growth <= 0 or fall < LEAST_FALL:
        return None
    share = min(1.0, growth / (alone / beside - 1))
    return MemoryTraffic(share, share * cpu_seconds * alone, fall, max(bandwidth.bytes_per_second))


def saturates(bandwidth: MemoryBandwidth, measured_cores: int, wanted_cores: int) -> bool:
    """Whether a core of a node with more cores at work has clearly less bandwidth than on any measured node."""
    if wanted_cores <= measured_cores:
        return False
    return bandwidth.of(wanted_cores) / wanted_cores < SATURATED * bandwidth.of(measured_cores) / measured_cores
