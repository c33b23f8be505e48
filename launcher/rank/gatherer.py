"""Gathers the ranks of a node: a thread of each wrapper waits for the duty, and the first to hold it does the work.

The duty is a lock among the node's own files: when its holder dies, the kernel releases it, and the next wrapper goes
on. A wrapper that ends asks to be gathered and waits for the answer, so its last words are in the run folder before a
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

ANSWER_SECONDS = 0.1  # between two looks for requests
DUTY_SECONDS = 60.0  # of waiting for the duty, before waiting anew
UNWRITABLE_SECONDS = 3.0  # without success, until the run folder counts as one that cannot be written
WAIT_SECONDS = 10.0  # for an answer: a run folder that cannot be written must not keep a rank
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
        """Why this process cannot write to the run folder, once that has lasted; ranks must not run on unrecorded."""
        since = self._failing_since
        return self._error if since is not None and time.monotonic() - since > UNWRITABLE_SECONDS else None

    def flush(self) -> bool:
        """Ask to be gathered, and wait for it; returns whether it happened within ``WAIT_SECONDS``."""
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
            remove_node_folder(self._node.own)  # a lock that was taken late has made it again
        finally:
            gathering.close()

    def _round(self, gathering: NodeGathering, asking: Sequence[str]) -> None:
        """Gather, and answer; on a full disk too, because the supervisor reports that."""
        try:
            gathering.gather(everything=bool(asking))
            self._failing_since = None
            if asking and gathering.all_ended:
                remove_node_folder(self._node.own)
        finally:
            for name in asking:
                with contextlib.suppress(OSError):
                    (requests_folder(self._node.own) / name).unlink()
