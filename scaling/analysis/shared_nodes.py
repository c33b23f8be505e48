"""Finds runs of a study that shared a node, and says where others may have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from saman.scaling.analysis.findings import Finding, FindingKind
from saman.scaling.analysis.run_values import MeasuredRun

_MOST_NAMED = 5  # pairs of runs within a sentence


def shared_pairs(runs: Sequence[MeasuredRun]) -> list[tuple[str, str, str]]:
    """The pairs of runs that ran at the same time on the same node: two ids and the node; a pair is listed once.

    Args:
        runs: Runs with the nodes of their processes; a run without its wall time is left out.
    """
    busy: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for run in runs:
        seconds = run.measured.wall_seconds
        if seconds is not None:
            for node in set(run.measured.node_of.values()):
                busy[node].append((run.facts.started, run.facts.started + seconds, run.facts.id))
    found: dict[tuple[str, str], str] = {}
    for node, spans in sorted(busy.items()):
        present: list[tuple[float, str]] = []
        for begin, end, run_id in sorted(spans):
            present = [(until, other) for until, other in present if until > begin]
            for _, other in present:
                found.setdefault((min(other, run_id), max(other, run_id)), node)
            present.append((end, run_id))
    return [(first, second, node) for (first, second), node in found.items()]


def review_sharing(runs: Sequence[MeasuredRun], on_cluster: int, permitted: bool) -> Iterable[Finding]:
    """A finding about runs of a study that shared nodes, or a note that other jobs may have been beside them.

    Args:
        runs: The measured runs of a study.
        on_cluster: The number of runs that were Slurm jobs.
        permitted: Whether the study lets other jobs on the nodes of its runs (``whole_nodes: false``).
    """
    pairs = shared_pairs(runs)
    if pairs:
        named = ", ".join(f"{first} and {second} on {node}" for first, second, node in pairs[:_MOST_NAMED])
        more = f" and {len(pairs) - _MOST_NAMED} more" if len(pairs) > _MOST_NAMED else ""
        text = f"runs shared a node and slowed each other down: {named}{more}; whole_nodes: true keeps them apart"
        yield Finding(FindingKind.SHARED_NODES, text)
    if permitted and on_cluster:
        text = (
            f"{on_cluster} runs were on nodes that other jobs may share (whole_nodes: false); "
            "what such jobs took from them is not known"
        )
        yield Finding(FindingKind.SHARED_NODES, text, note=True)
