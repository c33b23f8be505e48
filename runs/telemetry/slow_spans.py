"""Ranks that become stragglers while a run lasts, and when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from saman.runs.telemetry.processes import BusySpan, ProcessTimes
from saman.runs.telemetry.stragglers import Straggler, stragglers

FEWEST_SPANS = 2  # of a run's tenths in a row; a shorter delay is a stall of a moment


@dataclass(frozen=True)
class SlowSpan:
    """A straggler during the steps ``begin`` to ``end``; ``slower`` is the mean excess over its peers.

    Attributes:
        lost: Seconds per step by which it was over its peers, in each part of the run.
    """

    straggler: Straggler
    begin: int
    end: int
    lost: tuple[float, ...]

    @property
    def words(self) -> str:
        """The straggler and its steps, in words."""
        return f"{self.straggler.words} in steps {self.begin} to {self.end}"


def seconds_lost(found: Sequence[SlowSpan]) -> float:
    """Seconds per step for which the others wait for the slowest straggler, the mean over the parts of a run."""
    parts = [max(each) for each in zip(*(slow.lost for slow in found), strict=True)]
    return sum(parts) / len(parts) if parts else 0.0


def slow_spans(processes: Sequence[ProcessTimes], nodes: Mapping[int, str]) -> list[SlowSpan]:
    """Find stragglers in the parts of a run whose exchange was measured; without it all ranks look alike.

    Args:
        processes: Of the run.
        nodes: Node of each process, by its first rank.
    """
    return [slow for peers in _peers(processes) for slow in _joined(_by_part(peers, nodes))]


def _peers(processes: Sequence[ProcessTimes]) -> Iterable[dict[int, tuple[BusySpan, ...]]]:
    """The spans of ranks that do the same work; in a pipeline the replicas of a stage."""
    groups: dict[int | None, dict[int, tuple[BusySpan, ...]]] = defaultdict(dict)
    for process in processes:
        groups[process.stage][process.rank] = process.busy_spans
    for group in groups.values():
        if len({len(spans) for spans in group.values()}) == 1:  # a rank with fewer windows would be compared late
            yield group


def _by_part(peers: Mapping[int, tuple[BusySpan, ...]], nodes: Mapping[int, str]) -> list[tuple[int, SlowSpan]]:
    found = []
    parts = list(zip(*peers.values(), strict=True))
    for part, spans in enumerate(parts):
        busy = {rank: span.seconds for rank, span in zip(peers, spans, strict=True)}
        for straggler in stragglers(busy, nodes):
            over = busy[straggler.rank] * straggler.slower / (1 + straggler.slower)
            lost = tuple(over if other == part else 0.0 for other in range(len(parts)))
            found.append((part, SlowSpan(straggler, spans[0].begin, spans[0].end, lost)))
    return found


def _joined(found: Sequence[tuple[int, SlowSpan]]) -> Iterable[SlowSpan]:
    """Join the parts in a row in which a rank is slow."""
    by_rank: dict[int, list[list[tuple[int, SlowSpan]]]] = defaultdict(list)
    for part, slow in found:
        rows = by_rank[slow.straggler.rank]
        if rows and rows[-1][-1][0] == part - 1:
            rows[-1].append((part, slow))
        else:
            rows.append([(part, slow)])
    for rows in by_rank.values():
        for row in rows:
            if len(row) >= FEWEST_SPANS:
                spans = [slow for _, slow in row]
                mean = sum(slow.straggler.slower for slow in spans) / len(spans)
                lost = tuple(map(sum, zip(*(slow.lost for slow in spans), strict=True)))
                yield SlowSpan(replace(spans[0].straggler, slower=mean), spans[0].begin, spans[-1].end, lost)
