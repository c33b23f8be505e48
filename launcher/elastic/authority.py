"""The authority of an elastic run: a server in the supervisor's process to which every rank stays connected.

The connection is the sign of life: the kernel closes it at once when a process dies, whatever killed it. On the same
port Gloo finds its peers (Horovod's rendezvous: ``GET`` and ``PUT`` of ``/TOKEN/GENERATION/scope/key``).
"""

from __future__ import annotations

import contextlib
import hmac
import http.server
import ipaddress
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from saman.launcher.elastic.membership import Membership, Orders, WorldChange
from saman.runs.elastic.messages import MemberReport, Order, OrderKind, ReportKind
from saman.runs.elastic.signs_of_life import ask_for_life
from saman.runs.elastic.world_events import WorldFormed
from saman.runs.records.rendezvous import RendezvousAddress

_log = logging.getLogger(__name__)

_REQUEST_SECONDS = 10  # in which a request must be complete: strangers cannot hold threads for ever
_PHASES = (ReportKind.FORMED, ReportKind.AGREED, ReportKind.STEPPED)


class Authority:
    """Serves the members of one attempt until it is closed.

    Attributes:
        address: Where members find it.
    """

    def __init__(
        self,
        minimum: int,
        slots: Iterable[int],
        host: str,
        record: Callable[[WorldFormed], None],
        maximum: int | None = None,
    ) -> None:
        """Listen on a free port.

        Args:
            minimum: The smallest number of ranks that may take steps.
            slots: The slots whose processes are about to start.
            host: The address or name by which ranks reach this node.
            record: Called for each world once it has taken a step, or has ended without a step.
            maximum: The largest number of ranks in a world; by default as many as slots.
        """
        self._membership = Membership(minimum, slots, maximum)
        self._lock = threading.Lock()
        self._members: dict[int, BinaryIO] = {}
        self._store: dict[str, bytes] = {}
        self._record = record
        self._began = time.time()  # of what is under way: a loss, a join
        self._reached: dict[ReportKind, float] = {}
        self._untold: WorldChange | None = None  # the newest world, as long as it is not recorded
        self.half_formed = 0  # worlds that a loss left half-formed, so that their members were ended
        token = secrets.token_hex(16)
        self._server = http.server.ThreadingHTTPServer((_bound(host), 0), _handler(self, token))
        self._server.daemon_threads = True
        self.address = RendezvousAddress(host, self._server.server_address[1], os.getpid(), token)
        threading.Thread(target=self._server.serve_forever, name="authority", daemon=True).start()

    @property
    def problem(self) -> str | None:
        """Why no further world can be formed; ``None`` as long as the run can go on."""
        return self._membership.problem

    @property
    def finished(self) -> frozenset[int]:
        """The slots that have finished the run."""
        with self._lock:
            return frozenset(self._membership.finished)

    @property
    def is_over(self) -> bool:
        """Whether members have finished the run and no other member is on its way to the end."""
        with self._lock:
            return self._membership.is_over

    def starts(self, slot: int) -> None:
        """Note that a process for the slot is being started."""
        with self._lock:
            self._membership.starts(slot)

    def ended(self, slot: int) -> None:
        """Note that the process of a slot has ended, whether or not it ever connected."""
        with self._lock:
            if slot not in self._members:
                self._change(lambda: self._membership.lose(slot))

    def close(self) -> None:
        """Stop serving; members take the end of their connection for the end of the run."""
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            self._tell()

    # ---- one member, in the thread of its connection -----------------------------------------------------

    def serve(self, slot: int, reports: BinaryIO, orders: BinaryIO) -> None:
        """Take the reports of a member until its connection ends."""
        with self._lock:
            self._members[slot] = orders
        try:
            for line in reports:
                with self._lock:
                    self._take(slot, MemberReport.from_line(line))
        except (OSError, ValueError) as error:
            _log.debug("member %d: %s", slot, error)
        finally:
            with self._lock:
                if self._members.get(slot) is orders:
                    del self._members[slot]
                    self._change(lambda: self._membership.lose(slot))

    def _take(self, slot: int, report: MemberReport) -> None:
        self._change(lambda: self._membership.take(slot, report))
        for phase in _PHASES if self._membership.is_sound else ():
            if phase not in self._reached and self._membership.reached(phase):
                self._reached[phase] = time.time()
                if phase is ReportKind.STEPPED:
                    self._tell()

    def _change(self, act: Callable[[], Orders]) -> None:
        """Act on the membership; start the clock if that ends a sound world. A member that only waits ends none."""
        members, now = self._membership, time.time()
        before = members.change if members.is_sound else None
        orders = act()
        if before is not None and (members.change is not before or not members.is_sound):
            self._tell()
            self._began, self._reached = now, {}
        self._obey(orders)

    def _obey(self, orders: Orders) -> None:
        if any(order.world is not None for _, order in orders):
            self._tell()
            self._untold = self._membership.change
            self._reached = {ReportKind.LEFT: time.time()}
            self._store.clear()
        if any(order.kind in (OrderKind.SAVE, OrderKind.END) for _, order in orders):
            self.half_formed += 1
        for slot, order in orders:
            self._send(slot, order)

    def _send(self, slot: int, order: Order) -> None:
        stream = self._members.get(slot)
        with contextlib.suppress(OSError, ValueError):  # its connection ends, and its own thread notes it
            if stream is not None:
                stream.write(order.line())
                stream.flush()

    def _tell(self) -> None:
        """Record the newest world, once."""
        change, self._untold = self._untold, None
        if change is None:
            return
        seconds = {phase.value: round(at - self._began, 3) for phase, at in self._reached.items()}
        world = change.world
        self._record(
            WorldFormed(
                generation=world.generation,
                cause=change.cause.value,
                slots=world.slots,
                lost=change.lost,
                joined=change.joined,
                step=change.step,
                detected=self._began,
                seconds=seconds,
            )
        )

    # ---- Gloo's rendezvous -------------------------------------------------------------------------------

    def put(self, key: str, value: bytes) -> None:
        """Keep an address of Gloo."""
        with self._lock:
            self._store[key] = value

    def get(self, key: str) -> bytes | None:
        """Return an address of Gloo; ``None`` as long as nobody has put it."""
        with self._lock:
            return self._store.get(key)


def _bound(host: str) -> str:
    """Return the address to listen on: a name may have several."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return ""
    return host


def _handler(authority: Authority, token: str) -> type[http.server.BaseHTTPRequestHandler]:
    class MemberHandler(http.server.BaseHTTPRequestHandler):
        timeout = _REQUEST_SECONDS

        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            _, given, self.path = (*self.path.split("/", 2), "", "")[:3]
            if hmac.compare_digest(given.partition(":")[0].encode(errors="replace"), token.encode()):
                return True
            self.close_connection = True
            self._answer(403)
            return False

        def do_MEMBER(self) -> None:
            self.close_connection = True
            self.connection.settimeout(None)  # a member reports when it has something to report
            ask_for_life(self.connection)
            authority.serve(int(self.path), self.rfile, self.wfile)  # type: ignore[arg-type]

        def do_GET(self) -> None:
            value = authority.get(self.path)
            self._answer(404) if value is None else self._answer(200, value)

        def do_PUT(self) -> None:
            authority.put(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(200)

        def do_DELETE(self) -> None:
            self._answer(200)  # a new world forgets the addresses of the old one

        def _answer(self, status: int, value: bytes = b"") -> None:
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(value)))
            self.end_headers()
            self.wfile.write(value)

        def log_message(self, format: str, *args: Any) -> None:
            _log.debug(format, *args)

    return MemberHandler
