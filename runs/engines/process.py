"""Engine processes: a template that has imported its library, and its copies, which serve a model each.

Orders arrive on the template's standard input, a Unix socket: each brings the path of an engine's socket and the
descriptor of a channel to the supervisor. The template forks; the copy has the library at once and shares its memory.
A fork copies no thread but the one that calls it, so a template has only one. Where a library has started others, the
template becomes the engine that was ordered, and the next order needs another template.

An engine tells its number, ``{"pid": …}``, reads a line that names the model, and answers ``{"ready": true}`` or
``{"problem": …}``. The template adds ``{"ended": status}`` when it ends. Both end with the supervisor, which holds the
other ends of orders and channel.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from saman.runs.engines.interface import BatchLimits, EngineKind
from saman.runs.engines.loop import EngineLoop

TEMPLATE_VARIABLES = {"OPENBLAS_NUM_THREADS": "1"}  # of its environment: NumPy would start threads when imported
QUIET_PRIORITY = 5  # a third of the share of what serves on a busy core: a promotion waits for it
_LOWEST_PRIORITY = 19
_LONGEST_ORDER = 1 << 16
_THREADS = Path("/proc/self/task")  # on Linux
_NAME = Path("/proc/self/comm")  # what ``ps -o comm`` shows
_THREAD_END_SECONDS = 1.0


@dataclass(frozen=True)
class EngineOrder:
    """An engine that a template becomes or forks.

    Attributes:
        path: Where the engine listens.
        is_rehearsal: Whether it checks a model.
        is_urgent: Whether requests wait for the check; one that is not runs at the lowest priority.
    """

    path: str
    is_rehearsal: bool = False
    is_urgent: bool = False

    def send(self, template: socket.socket, channel: socket.socket) -> None:
        """Give the order to a template; raises ``OSError`` where it takes no more."""
        socket.send_fds(template, [json.dumps(asdict(self)).encode()], [channel.fileno()])


def template_arguments(threads: int, limits: BatchLimits, *, is_urgent: bool) -> list[str]:
    """The command-line arguments that ``serve_engines`` reads."""
    given = [f"--threads={threads}", f"--rows={limits.rows}", f"--delay={limits.delay_seconds:g}"]
    return [*given, *(["--urgent"] if is_urgent else [])]


def serve_engines(import_kind: Callable[[], EngineKind], given: Sequence[str] | None = None) -> int:
    """Be a template; returns the exit status.

    Args:
        import_kind: Imports the library and returns what loads a model.
        given: The arguments; default: those of the process.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--delay", type=float, required=True)
    parser.add_argument("--urgent", action="store_true", help="import at normal priority")
    options = parser.parse_args(given)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN if number is signal.SIGINT else lambda *_: os._exit(0))
    # Duplicates of standard input, which a library might read.
    orders = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    try:
        kind = _import_aside(import_kind, is_quiet=not options.urgent)
    except Exception as error:  # libraries raise errors of any kind
        return _refuse(orders, error)
    gc.collect()
    gc.freeze()  # the collector would write to the memory that the copies share
    return _Template(orders, kind, options.threads, BatchLimits(options.rows, options.delay)).run()


def _import_aside(import_kind: Callable[[], EngineKind], *, is_quiet: bool) -> EngineKind:
    """Import the library in a thread; a quiet one has the lowest priority, so that running engines do not feel it."""
    found: list[EngineKind] = []
    failed: list[BaseException] = []

    def work() -> None:
        if is_quiet:
            lower_thread_priority(_LOWEST_PRIORITY)
        try:
            found.append(import_kind())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def _refuse(orders: socket.socket, error: Exception) -> int:
    """Answer every order with the reason why there will be no engine."""
    lacks = str(getattr(error, "name", "") or "") if isinstance(error, ImportError) else ""
    while True:
        data, descriptors, _, _ = socket.recv_fds(orders, _LONGEST_ORDER, 1)
        if not data:
            return 3 if lacks else 1
        with socket.socket(fileno=descriptors[0]) as channel:
            _say(channel, {"problem": str(error), "lacks": lacks})


class _Template:
    """A process with the library imported, which forks engines."""

    def __init__(self, orders: socket.socket, kind: EngineKind, threads: int, limits: BatchLimits) -> None:
        self._orders, self._kind, self._threads, self._limits = orders, kind, threads, limits
        self._channels: dict[int, socket.socket] = {}  # of its engines, by their numbers
        self._ends, told = socket.socketpair()  # a byte for each signal
        for end in (self._ends, told):
            end.setblocking(False)
        self._told = told

    def run(self) -> int:
        """Take orders until the supervisor closes them."""
        signal.set_wakeup_fd(self._told.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready, _, _ = select.select([self._orders, self._ends], [], [])
            if self._ends in ready:
                self._ends.recv(1 << 12)
                self._tell_ends()
            if self._orders in ready:
                data, descriptors, _, _ = socket.recv_fds(self._orders, _LONGEST_ORDER, 1)
                if not data:
                    return 0
                self._make(EngineOrder(**json.loads(data)), socket.socket(fileno=descriptors[0]))

    def _make(self, order: EngineOrder, channel: socket.socket) -> None:
        number = os.fork() if _has_one_thread() else 0
        if number:
            self._channels[number] = channel
            return
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for other in (self._orders, self._ends, self._told, *self._channels.values()):
                other.close()
            _be_engine(order, channel, self._kind, self._threads, self._limits)
        finally:
            os._exit(1)

    def _tell_ends(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                with self._channels.pop(ended[0]) as channel, contextlib.suppress(OSError):
                    _say(channel, {"ended": os.waitstatus_to_exitcode(ended[1])})


def _has_one_thread() -> bool:
    """Whether this process may fork; a thread that has been joined may need a moment to end."""
    until = time.monotonic() + _THREAD_END_SECONDS
    while threading.active_count() > 1 or (_THREADS.is_dir() and len(list(_THREADS.iterdir())) > 1):
        if time.monotonic() > until:
            return False
        time.sleep(0.001)
    return True


def _be_engine(
    order: EngineOrder, channel: socket.socket, kind: EngineKind, threads: int, limits: BatchLimits
) -> NoReturn:
    """Load the model that a line names, and serve it until SIGTERM."""
    if order.is_rehearsal and not order.is_urgent:
        os.nice(_LOWEST_PRIORITY)
    with contextlib.suppress(OSError):
        _NAME.write_text("saman-check" if order.is_rehearsal else "saman-engine")
    lines = channel.makefile("rb")
    _say(channel, {"pid": os.getpid()})
    line = lines.readline()
    if not line:
        os._exit(0)
    load, place = json.loads(line), Path(order.path)
    ahead = limits.rows if order.is_rehearsal else 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(order.path)
        place.chmod(0o600)

        def make() -> EngineLoop:
            try:
                engine = kind(Path(load["model"]), threads, ahead=ahead)
            except Exception as error:  # libraries raise errors of any kind
                said = (str(error).strip().splitlines() or [""])[0][:500]
                _say(channel, {"problem": f"{type(error).__name__}: {said}"})
                os._exit(1)
            listener.listen(64)
            return EngineLoop(engine, listener, limits)

        loop = _try_quietly(make, channel, lines) if load["is_quiet"] else make()
        signal.signal(signal.SIGTERM, lambda *_: loop.stop())
        threading.Thread(target=lambda: _end_with(lines.read), daemon=True).start()
        _say(channel, {"ready": True})
        loop.run()
    with contextlib.suppress(OSError):
        place.unlink()
    os._exit(0)  # libraries with threads of their own may hang in their destructors


def _try_quietly(make: Callable[[], EngineLoop], channel: socket.socket, lines: BinaryIO) -> EngineLoop:
    """Load, and answer what the supervisor tries, in a thread of low priority; returns what serves after its word.

    A thread cannot raise its priority again, so another serves.
    """
    made: list[EngineLoop] = []

    def work() -> None:
        lower_thread_priority(QUIET_PRIORITY)
        made.append(make())
        _say(channel, {"ready": True})
        made[0].run()

    thread = threading.Thread(target=work)
    thread.start()
    if not lines.readline():
        os._exit(0)
    made[0].stop()
    thread.join()
    return made[0].successor()


def lower_thread_priority(nice: int) -> None:
    """Lower the priority of the calling thread, and of those that it starts; on Linux."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


def _say(channel: socket.socket, fact: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # the supervisor has gone, or wants no engine any more
        channel.sendall(json.dumps(fact).encode() + b"\n")


def _end_with(read: Callable[[], bytes]) -> None:
    """End when the supervisor closes the channel."""
    with contextlib.suppress(OSError, ValueError):
        read()
    os._exit(0)
