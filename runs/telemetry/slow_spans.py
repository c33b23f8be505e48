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
    """A straggler during the steps ``begin`` to ``end``; ``slower`` is the mean excess over its peers."""

    straggler: Straggler
    begin: int
    end: int


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
    for part, spans in enumerate(zip(*peers.values(), strict=True)):
        busy = {rank: span.seconds for rank, span in zip(peers, spans, strict=True)}
        for straggler in stragglers(busy, nodes):
            found.append((part, SlowSpan(straggler, spans[0].begin, spans[0].end)))
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
                yield SlowSpan(replace(spans[0].straggler, slower=mean), spans[0].begin, spans[-1].end)
