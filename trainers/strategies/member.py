"""A rank's connection to the authority of an elastic run, and how it gets out of a world whose peers have died."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from saman.configs.errors import EnvironmentLack, ExitCode
from saman.runs.elastic.messages import MemberReport, Order, OrderKind, ReportKind, World
from saman.runs.elastic.signs_of_life import ask_for_life
from saman.runs.records.rendezvous import RendezvousAddress

STUCK_SECONDS = 2.0  # in which a process gets out of a world that is being formed, many times what forming takes
_LIBC = ctypes.CDLL(None)


class Member:
    """A member of an elastic run: reports, and obeys orders in a thread of its own.

    Attributes:
        address: Where the authority listens.
    """

    def __init__(self, address: RendezvousAddress, slot: int) -> None:
        """Connect to the authority.

        Args:
            address: Where it listens.
            slot: The slot of this process.
        """
        self.address = address
        self._socket = socket.create_connection((address.host, address.port))
        ask_for_life(self._socket)
        self._socket.sendall(f"MEMBER /{address.token}/{slot} HTTP/1.0\r\n\r\n".encode())
        self._changed = threading.Condition()
        self._answer: Order | None = None
        self._generation = 0  # the world that this process is in; 0 for none
        self._left = 0  # the newest world that it was ordered to leave
        self._sockets: list[socket.socket] = []
        self._connecting = False
        self._over = False
        self.save: Callable[[], None] = lambda: None  # writes the state as a checkpoint, from a thread
        self.progress: Callable[[], MemberReport] = lambda: MemberReport(ReportKind.STUCK)  # what this process holds
        threading.Thread(target=self._obey, name="member", daemon=True).start()

    def report(self, kind: ReportKind, step: int = 0, epoch: int = 0, position: str = "") -> None:
        """Report to the authority. If it is gone, this process ends soon."""
        report = MemberReport(kind, self._generation, step, epoch, position)
        with contextlib.suppress(OSError):
            self._socket.sendall(report.line())

    def await_world(self) -> World | None:
        """Wait for the world that this process is to form with others; ``None`` if the run is over."""
        with self._changed:
            while self._answer is None:
                self._changed.wait()
            order, self._answer = self._answer, None
            self._generation = order.generation
        return order.world

    @contextlib.contextmanager
    def connecting(self) -> Iterator[None]:
        """Note the connections to peers that are opened in this context; an order to leave ends them."""
        before = _connections()
        self._connecting = True
        with _no_abort():
            yield
        with self._changed:
            self._connecting = False
            self._changed.notify_all()
            self._sockets = list(_duplicates(_connections() - before))
            must_leave = self._left >= self._generation
        if must_leave:
            self.disconnect()

    @property
    def must_leave(self) -> bool:
        """Whether the authority has ended the world that this process is in."""
        with self._changed:
            return self._left >= self._generation

    def disconnect(self) -> None:
        """End the connections to peers: what waits for a peer fails at once."""
        with self._changed:
            sockets, self._sockets = self._sockets, []
        for peer in sockets:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                peer.close()

    def leave_run(self) -> None:
        """Report the end of the run; after that a closed connection is no failure."""
        self._over = True
        self.report(ReportKind.DONE)

    # ---- the authority's orders, in a thread ---------------------------------------------------------------

    def _obey(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._socket.makefile("rb") as orders:
            for line in orders:
                self._take(Order.from_line(line))
        if not self._over:
            os._exit(ExitCode.RUN_FAILED)  # the supervisor is gone, and nobody decides any more

    def _take(self, order: Order) -> None:
        if order.kind is OrderKind.LEAVE:
            with self._changed:
                self._left = max(self._left, order.generation)
            self.disconnect()
            if self._connecting:
                threading.Thread(target=self._report_stuck, daemon=True).start()
        elif order.kind in (OrderKind.SAVE, OrderKind.END):
            if order.kind is OrderKind.SAVE:
                self.save()
            os.kill(os.getpid(), signal.SIGKILL)  # nothing else ends a process that waits inside Gloo
        else:
            with self._changed:
                self._answer = order
                self._changed.notify_all()

    def _report_stuck(self) -> None:
        """Report if this process cannot leave: a peer died while the world was being formed."""
        with self._changed:
            got_out = self._changed.wait_for(lambda: not self._connecting, STUCK_SECONDS)
        if not got_out:
            progress = self.progress()
            self.report(ReportKind.STUCK, progress.step, progress.epoch, progress.position)


@contextlib.contextmanager
def _no_abort() -> Iterator[None]:
    """Keep the process alive in ``hvd.init``: its thread aborts the process when a peer dies meanwhile.

    The thread waits instead, in the signal's handler, until the authority has decided what becomes of the state.
    """
    set_handler = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(("signal", _LIBC))
    before = set_handler(signal.SIGABRT, ctypes.cast(_LIBC.pause, ctypes.c_void_p))
    try:
        yield
    finally:
        set_handler(signal.SIGABRT, before)


def connect(file: Path, slot: int) -> Member:
    """Connect to the authority whose address is in ``file``; raises ``EnvironmentLack`` if it cannot be reached."""
    address = RendezvousAddress.read(file)
    if address is None:
        raise EnvironmentLack("the supervisor of this elastic run cannot be found", where=str(file), remedy="saman run")
    try:
        return Member(address, slot)
    except OSError as error:
        problem = f"the supervisor of this elastic run cannot be reached: {error.strerror or error}"
        remedy = "check that compute nodes reach the first node by TCP"
        raise EnvironmentLack(problem, where=f"{address.host} port {address.port}", remedy=remedy) from error


def _connections() -> set[int]:
    """Return the descriptors of this process's stream sockets that are connected to a peer over IP."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        number = int(entry.name)
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode) and _is_connected(number):
                found.add(number)
    return found


def _duplicates(numbers: Iterable[int]) -> Iterator[socket.socket]:
    """Duplicate sockets, except those that Gloo has just closed: it asked the rendezvous, or its peer has ended."""
    for number in numbers:
        with contextlib.suppress(OSError):
            yield socket.socket(fileno=os.dup(number))


def _is_connected(number: int) -> bool:
    with socket.socket(fileno=os.dup(number)) as candidate:
        if candidate.family not in (socket.AF_INET, socket.AF_INET6) or candidate.type != socket.SOCK_STREAM:
            return False
        candidate.getpeername()  # OSError where it only listens
        return True
