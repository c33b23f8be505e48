"""Records node failures: nodes of an attempt that left no record of its end, and nodes that start no more job steps."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from saman.launcher.plan.hostlist import expand
from saman.launcher.plan.placement import Placement
from saman.launcher.supervision.outcome import Outcome
from saman.runs.events import JOB, Event
from saman.runs.folder import Attempt, RunFolder
from saman.runs.ranks.attempt_ranks import read_records, signs_of_life
from saman.runs.ranks.rank_events import FailureKind
from saman.runs.records.run_events import NodeLoss
from saman.slurm.job import decisions
from saman.slurm.job.allocation import Allocation
from saman.slurm.replacements.nodes import ReplacementNodes
from saman.slurm.site import client
from saman.slurm.site.probe import answers

WHO = JOB


def account_for_loss(run: RunFolder) -> None:
    """Record the failed nodes of the last attempt, and that it was interrupted."""
    attempt = run.attempts()[-1]
    record_gone(run, attempt)
    run.append("preempted", WHO, attempt.number, reason="the last attempt left no record of its end")


def record_gone(run: RunFolder, attempt: Attempt) -> list[str]:
    """Record and return the failed nodes of an attempt, by Slurm or by their last signs of life."""
    placement = Placement.read(attempt.placement)
    nodes = placement.nodes if placement else ()
    begun = attempt.placement.stat().st_mtime if attempt.placement.exists() else 0.0
    shown = {node: state for node in nodes if (state := client.show_node(node)) is not None}
    gone = sorted(decisions.find_failed_nodes(shown, _last_alive(attempt, placement), begun))
    for node in gone:
        run.append("node_failed", WHO, attempt.number, node=node)
    return gone


def record_dead(run: RunFolder, outcome: Outcome) -> list[str]:
    """Record and return the failed nodes: their ranks left no record of an end, and they start no more job steps."""
    attempt = run.attempt(outcome.attempt)
    placement = Placement.read(attempt.placement)
    if placement is None or (
        outcome.failure and outcome.failure.first[0].kind in (FailureKind.USER_ERROR, FailureKind.MISPLACED)
    ):
        return []
    known = {loss.node for event in run.events() if (loss := _loss_of(event, outcome.attempt)) is not None}
    records = read_records(attempt)
    silent = {
        process.node
        for process in placement.processes
        if (record := records.get(process.first_rank)) is None or not record.has_ended
    }
    dead = [node for node in placement.nodes if node in known or (node in silent and not answers(node))]
    for node in dead:
        if node not in known:
            run.append("node_failed", WHO, outcome.attempt, node=node)
    return dead


def _loss_of(event: Event, attempt: int) -> NodeLoss | None:
    return NodeLoss.from_event(event) if event.attempt == attempt else None


def lost_nodes(run: RunFolder, outcome: Outcome, here: Allocation) -> set[str]:
    """Record the nodes that the failed attempt lost; return all nodes of the allocation that cannot be used now.

    A node that an earlier attempt lost counts again as soon as job steps start on it.
    """
    just_now = set(record_dead(run, outcome))
    earlier = {loss.node for event in run.events() if (loss := NodeLoss.from_event(event)) is not None}
    # With --no-kill, Slurm takes a node that failed out of the job.
    left = set(expand(client.show_job(here.job).get("NodeList", ""))) & set(here.nodes)
    gone = set(here.nodes) - left if left else set()
    return just_now | gone | {node for node in (earlier & set(here.nodes)) - just_now - gone if not answers(node)}


def usable_nodes(
    run: RunFolder, here: Allocation, replacements: ReplacementNodes | None = None
) -> Callable[[Collection[str]], frozenset[str]]:
    """Return a function that finds which of some nodes start job steps now, and records those that do not.

    With ``--no-kill``, Slurm takes a node that failed out of the job: it does not come back to this job. If none of
    the nodes is usable, the function asks for a replacement; once that is there, it is among the usable nodes.

    Args:
        run: The run folder.
        here: The allocation of the job.
        replacements: Asks for replacement nodes; ``None`` for a run that has none.
    """
    lost: set[str] = set()

    def usable(nodes: Collection[str]) -> frozenset[str]:
        left = set(expand(client.show_job(here.job).get("NodeList", ""))) or set(nodes)
        elsewhere = replacements.nodes() if replacements is not None else {}
        fresh = {node for node in elsewhere if replacements is not None and replacements.is_fresh(node)}
        asked = sorted(((left | set(elsewhere)) & set(nodes)) | fresh)
        jobs = [elsewhere.get(node, "") for node in asked]
        with ThreadPoolExecutor(max(1, len(asked))) as pool:
            found = frozenset(node for node, there in zip(asked, pool.map(answers, asked, jobs), strict=True) if there)
        if replacements is not None and not found:
            replacements.ask(sorted(left | set(elsewhere)))
        elif replacements is not None:
            replacements.release()
            for node in found:
                replacements.use(node)
        for node in sorted(set(nodes) - found - lost):
            run.append("node_failed", JOB, run.attempts()[-1].number, node=node)
        lost.update(set(nodes) - found)
        lost.difference_update(found)
        return found

    return usable


def _last_alive(attempt: Attempt, placement: Placement | None) -> dict[str, float]:
    found: dict[str, float] = {}
    seen = signs_of_life(attempt)
    for process in placement.processes if placement else ():
        alive = seen.get(process.first_rank)
        if alive is not None:
            found[process.node] = max(found.get(process.node, 0.0), alive)
    return found
