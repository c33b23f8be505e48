"""Sends a request to the saman on a login node, yields the records of the answer, and forwards Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import IO

from saman import __version__
from saman.configs.errors import EnvironmentLack
from saman.jobs.remote import ssh
from saman.jobs.remote.wire import (
    INTERRUPT,
    LONGEST_LINE,
    PROTOCOL,
    End,
    Hello,
    Output,
    Record,
    Request,
    RequestRefusal,
    decode,
)
from saman.runs.commands import CommandLog
from saman.runs.remote.remote_runs import RemoteProject
from saman.slurm.site.backoff import Backoff

INTERRUPT_SECONDS = 10.0  # for the other end to finish after Ctrl-C
MOST_MESSAGES = 1 << 16  # bytes of ssh's messages that are read, the last
UNSENT_TRIALS = 3  # of a request that did not go out: the shared connection may be dead since this machine slept
SSH_FAILED = 255  # exit status of ssh for its own failures; saman has no such status
_PASSING = (ssh.SshFailure.UNREACHABLE, ssh.SshFailure.NO_HOST)  # of a connection that was there before
NOT_FOUND = (126, 127)  # exit statuses of the login shell
_INSTALL = "access.saman in the cluster file names it; pip install saman installs it there"


class ConnectionLost(EnvironmentLack):
    """The connection ended before the answer did; ``sent``: after the request went out."""

    def __init__(self, host: str, sent: bool) -> None:
        super().__init__("the connection was lost", where=host, remedy="try again")
        self.sent = sent


class Session:
    """A request under way; use it once.

    Args:
        project: Where to; its ``host`` and ``saman`` count.
        request: What to do.
        note: Receives a remark if the version of saman differs there.
    """

    def __init__(self, project: RemoteProject, request: Request, note: Callable[[str], None]) -> None:
        self._project, self._request, self._note = project, request, note
        self._buffer = bytearray()
        self._greeted = self._ended = False
        self._ends_by: float | None = None

    def records(self) -> Iterator[Record]:
        """Yield the records of the answer; the last is ``End``.

        Ctrl-C is forwarded once; the second ends the connection.

        Raises:
            ConnectionLost: The connection ended before the answer did.
            EnvironmentLack: There is no connection, or no suitable saman on the other side.
        """
        host = self._project.host
        socket = ssh.connect(host)
        command = ssh.session_command(host, socket, ssh.remote_command(self._project.saman))
        with tempfile.TemporaryFile() as messages:
            # A session of its own: Ctrl-C reaches this process alone, which forwards it.
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages, start_new_session=True
            )
            log = CommandLog(command, process.pid)
            try:
                yield from self._answer(process)
            finally:
                _end(process)
                log.end(process.returncode)
            if self._ended:
                return
            if self._ends_by is not None:
                raise KeyboardInterrupt
            if process.returncode == SSH_FAILED or process.returncode < 0:
                raise ConnectionLost(host, self._greeted)
            raise self._no_saman(process.returncode, _text(messages))

    def _answer(self, process: subprocess.Popen[bytes]) -> Iterator[Record]:
        """The records until ``End``; returns early if the channel closes."""
        while True:
            try:
                line = self._line(process)
            except KeyboardInterrupt:
                if self._ends_by is not None:
                    raise
                self._ends_by = time.monotonic() + INTERRUPT_SECONDS
                _send(process, INTERRUPT)
                continue
            if line is None:
                return
            record = decode(line)
            if not self._greeted:  # what the login shell prints comes before
                self._greeted = isinstance(record, Hello)
                if isinstance(record, Hello):
                    self._check_version(record)
                    _send(process, self._request.encode())  # only now: what was not greeted did not begin
            elif record is not None:
                yield record
                if isinstance(record, End):
                    self._ended = True
                    return

    def _line(self, process: subprocess.Popen[bytes]) -> bytes | None:
        """The next line; ``None`` at the end. Not by a buffered reader: Ctrl-C would lose what it holds."""
        assert process.stdout is not None
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            wait = None if self._ends_by is None else max(0.0, self._ends_by - time.monotonic())
            ready, _, _ = select.select([process.stdout], [], [], wait)
            data = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not data:
                return None
            self._buffer += data
            if len(self._buffer) > LONGEST_LINE:
                problem = f"the answer has a line of more than {LONGEST_LINE >> 20} MiB"
                raise EnvironmentLack(problem, where=self._project.host)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _check_version(self, hello: Hello) -> None:
        host = self._project.host
        if hello.protocol != PROTOCOL:
            problem = f"saman {hello.version} there and saman {__version__} here use different protocols"
            raise EnvironmentLack(problem, where=host, remedy="install the same version on both machines")
        if hello.version != __version__:
            self._note(f"saman {hello.version} on {host}, {__version__} here")

    def _no_saman(self, status: int, said: str) -> EnvironmentLack:
        host, words = self._project.host, self._project.saman
        lines = [line for line in said.splitlines() if line.strip()]
        if status in NOT_FOUND:
            return EnvironmentLack(f"no saman there: {lines[-1] if lines else words}", where=host, remedy=_INSTALL)
        problem = f"{words} does not answer (exit status {status}): {lines[-1] if lines else 'it printed nothing'}"
        return EnvironmentLack(problem, where=host, remedy="install the same version of saman there as here")


def run_request(
    project: RemoteProject,
    request: Callable[[], Request],
    take: Callable[[Record], None],
    note: Callable[[str], None],
    again: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> End:
    """Carry out a request that came over the remote session.

    Args:
        project: Where to.
        request: Makes the request, anew for each connection.
        take: Receives every record but the last.
        note: Receives remarks for users, such as a lost connection.
        again: Whether to connect and ask again after a lost connection, with growing waits, until it works. A request
            that did not go out is repeated in any case.
        pause: Waits for so many seconds.

    Raises:
        ConnectionLost: The connection was lost after the request went out, and ``again`` is false.
        EnvironmentLack: There is no connection, or no suitable saman on the other side.
        UserError: The other side refuses the request.
    """
    wait, connected, unsent = Backoff(), False, 0
    while True:
        try:
            for record in Session(project, request(), note).records():
                if isinstance(record, End):
                    return record
                if isinstance(record, RequestRefusal):
                    raise record.error(project.host)
                connected, wait = True, Backoff()
                take(record)
        except ConnectionLost as lost:
            unsent += not lost.sent
            if not again and (lost.sent or unsent > UNSENT_TRIALS):
                raise
            connected = True
        except ssh.NoConnection as lack:
            if not (again and connected and lack.failure in _PASSING):
                raise
        note(f"the connection to {project.host} is lost; next trial in {wait.seconds:.0f} s (Ctrl-C ends)")
        pause(wait.seconds)
        wait = wait.grown()


def print_output(record: Record, out: Callable[[str], None], error: Callable[[str], None]) -> None:
    """Pass printed text on; other records are ignored."""
    if isinstance(record, Output):
        (error if record.error else out)(record.text)


def _send(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # the end of its output tells why
        process.stdin.write(data)
        process.stdin.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let ssh end; it must not outlive the request."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _text(messages: IO[bytes]) -> str:
    messages.seek(max(0, messages.seek(0, os.SEEK_END) - MOST_MESSAGES))  # the login node decides how much there is
    return messages.read().decode(errors="replace")
