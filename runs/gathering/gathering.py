"""Copies what the ranks of a node wrote from the node's private folder to the node's files in the run folder."""

from __future__ import annotations

from dataclasses import dataclass

from saman.runs.files.slots import SlotFile
from saman.runs.gathering.logs import LogGathering
from saman.runs.gathering.node_folder import requests_folder
from saman.runs.gathering.telemetry import TelemetryGathering
from saman.runs.paths.attempt import Attempt
from saman.runs.paths.names import is_number, names_in
from saman.runs.ranks.heartbeats import Beat, read_beat
from saman.runs.ranks.node_report import NodeReport
from saman.runs.ranks.records import RankRecord

FASTEST_SECONDS = 0.5  # between two rounds of a node
SLOWEST_SECONDS = 3.0  # a rank's sign of life (every 5 s) is visible within 10 s
NODES_PER_SECOND = 64


@dataclass(frozen=True)
class GatheredNode:
    """A node of an attempt whose ranks are gathered.

    Attributes:
        own: The node's private folder.
        shared: The attempt in the run folder.
        index: The node's position among the nodes of the attempt.
        name: The node's name.
        processes: The number of its processes; 0 if unknown.
        log_limit: Largest size of a process's log with its older part, in bytes; ``None`` without a limit.
    """

    own: Attempt
    shared: Attempt
    index: int
    name: str
    processes: int = 0
    log_limit: int | None = None


def round_seconds(nodes: int) -> float:
    """Seconds between two rounds of gathering on a node: they grow with the number of nodes.

    >>> round_seconds(1), round_seconds(128), round_seconds(10_000)
    (0.5, 2.0, 3.0)
    """
    return min(SLOWEST_SECONDS, max(FASTEST_SECONDS, nodes / NODES_PER_SECOND))


class NodeGathering:
    """Gathers a node, for the holder of ``duty_lock``. Its files stay open, so a round opens nothing."""

    def __init__(self, node: GatheredNode) -> None:
        self.node = node
        self._report = SlotFile(node.shared.node_state(node.index))
        self._telemetry = TelemetryGathering(node.own, node.shared.node_telemetry(node.index))
        log, older = node.shared.node_log(node.index), node.shared.older_node_log(node.index)
        self._logs = LogGathering(node.own, log, older, node.log_limit)
        self._written = b""
        self.all_ended = False

    def gather(self, everything: bool = True) -> None:
        """Copy what is new to the run folder. Raises ``OSError``.

        Args:
            everything: Copy all printed lines, without the limit of a round.
        """
        report = read_own(self.node)  # first: the processes that it reports as ended have written their last lines
        self._telemetry.gather()
        ended = [record for record in report.records.values() if record.has_ended]
        self.all_ended = 0 < self.node.processes <= len(ended)
        data = report.to_bytes()
        if data != self._written:
            self._report.write(data)
            self._written = data
        self._logs.gather(everything)

    def close(self) -> None:
        """Close the files."""
        self._report.close()
        self._telemetry.close()
        self._logs.close()


def read_own(node: GatheredNode) -> NodeReport:
    """Read the records and heartbeats in a node's private folder."""
    records: dict[int, RankRecord] = {}
    beats: dict[int, Beat] = {}
    for name in sorted(names_in(node.own.rank_folder)):
        stem, _, kind = name.partition(".")
        if not is_number(stem):
            continue
        if kind == "json" and (record := RankRecord.read(node.own.rank_folder / name)) is not None:
            records[record.first_rank] = record
        if kind == "heartbeat.json" and (beat := read_beat(node.own.rank_folder / name)) is not None:
            beats[int(stem)] = beat
    return NodeReport(node.name, records, beats)


def requests(own: Attempt) -> list[str]:
    """The names of the requests of processes that wait for gathering."""
    return names_in(requests_folder(own))
