"""All fronts of a server: started, told of changes together, replaced when they end.

A spare front waits with everything imported, so that a killed front is replaced in the time of a message.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from saman.configs.errors import UserError
from saman.serving.front.table import FrontSettings, ServingTable
from saman.serving.supervision.front_process import FrontHandle
from saman.serving.supervision.settings import ServeSettings


def front_settings(settings: ServeSettings, rest_socket: int, grpc_port: int) -> FrontSettings:
    """What a front is told at its start."""
    return FrontSettings(
        rest_socket=rest_socket,
        host=settings.host,
        grpc_port=grpc_port,
        models_dir=str(settings.models_dir.absolute()),
        body_bytes=settings.body_bytes,
        queue=settings.queue,
        timeout_seconds=settings.timeout_seconds,
        certificate=str(settings.certificate or ""),
        key=str(settings.key or ""),
        tokens=str(settings.tokens or ""),
        computes=settings.fronts_compute,
        threads=settings.threads,
        rows=settings.batches.rows,
    )


class Fronts:
    """The fronts and their spare.

    Args:
        settings: What each is told at its start.
        reload: Called from a thread when a client asks for a reload; returns the problem, empty for none.
    """

    def __init__(self, settings: FrontSettings, reload: Callable[[], str]) -> None:
        self._settings, self._reload = settings, reload
        self._fronts: list[FrontHandle] = []
        self._spare: FrontHandle | None = None
        self._drained: dict[int, int] = {}  # front -> the last table that it has drained

    def start(self, count: int) -> None:
        """Start ``count`` fronts; raises ``EnvironmentLack`` if one ends at once."""
        self._fronts = [self._start() for _ in range(count)]
        for front in self._fronts:
            front.wait_until_ready()

    def prepare_spare(self) -> None:
        """Keep a front waiting; later than the others, which do not wait for it."""
        if self._spare is None or self._spare.status() is not None:
            self._spare = self._start()

    def publish(self, table: ServingTable, number: int) -> list[str]:
        """Have all exchange the table: first everyone connects, then everyone moves; returns the problems."""
        waits = [front.prepare(table, number) for front in self._fronts]
        problems = [wait() for wait in waits]
        for front in self._fronts:
            front.use(number)
        return [problem for problem in problems if problem]

    def replace_ended(self, table: ServingTable, number: int) -> list[int]:
        """Replace fronts that ended; returns their exit statuses."""
        statuses = []
        for at, front in enumerate(self._fronts):
            status = front.status()
            if status is not None:
                statuses.append(status)
                self._drained.pop(front.pid, None)
                new = self._fronts[at] = self._take_spare()
                with contextlib.suppress(UserError):  # it is replaced at the next step
                    new.wait_until_ready()
                    new.prepare(table, number)()
                    new.use(number)
        return statuses

    def drained(self) -> int:
        """The newest table that all fronts have drained."""
        return min((self._drained.get(front.pid, 0) for front in self._fronts), default=0)

    def end(self, seconds: float) -> None:
        """Have all answer what has arrived, and end; after ``seconds`` they are killed."""
        everyone = [*self._fronts, *([self._spare] if self._spare is not None else [])]
        for front in everyone:
            front.end()
        for front in everyone:
            front.wait(seconds)

    def _take_spare(self) -> FrontHandle:
        spare, self._spare = self._spare, None
        return spare if spare is not None and spare.status() is None else self._start()

    def _start(self) -> FrontHandle:
        handle: list[FrontHandle] = []
        front = FrontHandle(
            self._settings, self._reload, lambda number: self._drained.__setitem__(handle[0].pid, number)
        )
        handle.append(front)
        return front
