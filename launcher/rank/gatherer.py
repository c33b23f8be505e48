"""Gathers the ranks of a node: a thread of each wrapper waits for the duty, and the first to hold it does the work.

The duty is a lock in the node's private folder: when its holder dies, the kernel releases it, and the next wrapper
takes over. A wrapper that ends requests gathering and waits for it, so its last output is in the run folder before the
start method learns of its end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Sequence

from saman.runs import locks
from saman.runs.gathering.gathering import GatheredNode, NodeGathering, requests
from saman.runs.gathering.node_folder import duty_lock, remove_node_folder, requests_folder

ANSWER_SECONDS = 0.1  # between two checks for requests
DUTY_SECONDS = 60.0  # of a wait for the duty, which is then repeated
UNWRITABLE_SECONDS = 3.0  # of failed writes, after which the run folder counts as unwritable
WAIT_SECONDS = 10.0  # for gathering: an unwritable run folder must not keep a rank from ending
_log = logging.getLogger(__name__)


class NodeGatherer:
    """Gathers a node while it holds the duty.

    Args:
        node: The node.
        every_seconds: Time between two rounds without a request.
    """

    def __init__(self, node: GatheredNode, every_seconds: float) -> None:
        self._node, self._every = node, every_seconds
        self._over = threading.Event()
        self._failing_since: float | None = None
        self._error: OSError | None = None
        threading.Thread(target=self._keep_gathering, name="gatherer", daemon=True).start()

    @property
    def problem(self) -> OSError | None:
        """The error that has kept this process from the run folder for a while; ranks must not continue unrecorded."""
        since = self._failing_since
        return self._error if since is not None and time.monotonic() - since > UNWRITABLE_SECONDS else None

    def flush(self) -> bool:
        """Request gathering and wait for it; returns whether it happened within ``WAIT_SECONDS``."""
        request = requests_folder(self._node.own) / str(os.getpid())
        with contextlib.suppress(OSError):
            request.touch()
            deadline = time.monotonic() + WAIT_SECONDS
            while request.exists():
                if time.monotonic() > deadline:
                    return False
                time.sleep(ANSWER_SECONDS / 5)
        return True

    def _keep_gathering(self) -> None:
        while not self._over.is_set():
            try:
                with locks.hold(duty_lock(self._node.own), wait_seconds=DUTY_SECONDS, mode=0o600, this_machine=True):
                    self._gather_on_duty()
            except locks.LockHeldError:
                continue
            except OSError as error:
                self._error, self._failing_since = error, self._failing_since or time.monotonic()
                _log.info("%s: the ranks of this node are not gathered: %s", self._node.own.path, error)
                time.sleep(1.0)

    def _gather_on_duty(self) -> None:
        gathering = NodeGathering(self._node)
        due = 0.0
        try:
            while self._node.own.rank_folder.is_dir():
                asking = requests(self._node.own)
                if asking or time.monotonic() >= due:
                    due = time.monotonic() + self._every
                    self._round(gathering, asking)
                time.sleep(ANSWER_SECONDS)
            self._over.set()  # every process of the node has ended and is gathered
            remove_node_folder(self._node.own)  # a lock that was taken late has recreated it
        finally:
            gathering.close()

    def _round(self, gathering: NodeGathering, asking: Sequence[str]) -> None:
        """Gather, and answer the requests, even on a full disk, which the supervisor reports."""
        try:
            gathering.gather(everything=bool(asking))
            self._failing_since = None
            if asking and gathering.all_ended:
                remove_node_folder(self._node.own)
        finally:
            for name in asking:
                with contextlib.suppress(OSError):
                    (requests_folder(self._node.own) / name).unlink()
