"""``saman remote-end``: carries out the request of another machine, which comes over ssh on standard input.

For saman itself only. It answers with records (``jobs.remote.wire``) on standard output; all other output goes to
standard error.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from saman import __version__
from saman.configs.errors import EnvironmentLack, ExitCode, UserError
from saman.configs.home_folder import in_home
from saman.configs.variables_in_text import expand
from saman.jobs.remote.wire import (
    FILE_PREFIX,
    INTERRUPT,
    End,
    Hello,
    LogRequest,
    LogText,
    Output,
    Prepared,
    Record,
    Request,
    RequestKind,
    RequestRefusal,
    encode,
)
from saman.runs import locks
from saman.runs.files.whole import write_whole
from saman.runs.find import find_runs
from saman.runs.trust.ownership import DubiousFolderError, own_folder

END_SECONDS = 5.0  # for a command to end after the connection is gone
LOCK_SECONDS = 60.0  # for another request of the same project


class _Wire:
    """Sends records; a lost connection is ignored if the command ``survives`` it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self.survives = descriptor, False

    def send(self, record: Record) -> None:
        try:
            data = encode(record)
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            if not self.survives:
                raise


class _Printed(io.TextIOBase):
    """Standard output or standard error of a command, as records."""

    def __init__(self, wire: _Wire, error: bool) -> None:
        self._wire, self._error = wire, error

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError("text only")  # click tries bytes to tell a binary stream
        if text:
            self._wire.send(Output(text, self._error))
        return len(text)


def answer(run: Callable[[list[str]], None]) -> int:
    """Read a request from standard input and carry it out; returns the exit status.

    Args:
        run: Runs a command line of saman, and ends with ``SystemExit``.
    """
    channel, wire = os.dup(0), _Wire(os.dup(1))
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what other programs print must not mix with the records
    wire.send(Hello(__version__))
    try:
        line, rest = _first_line(channel)
        request = Request.decode(line)
    except ValueError as error:
        wire.send(Output(f"error: {error}\n", error=True))
        return _ended(wire, End(ExitCode.BAD_REQUEST))
    wire.survives = request.survives
    threading.Thread(target=_watch, args=(channel, rest, request.survives), daemon=True).start()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Printed(wire, error=False), _Printed(wire, error=True)
    try:
        end = _carry_out(request, wire, run)
    except KeyboardInterrupt:
        end = End(ExitCode.INTERRUPTED)
    finally:
        sys.stdout, sys.stderr = before
    return _ended(wire, end)


def _ended(wire: _Wire, end: End) -> int:
    wire.send(end)
    return end.status


def _first_line(channel: int) -> tuple[bytes, bytes]:
    data = b""
    while b"\n" not in data and (more := os.read(channel, 1 << 16)):
        data += more
    line, _, rest = data.partition(b"\n")
    return line, rest


def _watch(channel: int, data: bytes, survives: bool) -> None:
    """Pass Ctrl-C on; after the connection is lost, end a command that does not survive it."""
    while True:
        if INTERRUPT in data:
            os.kill(os.getpid(), signal.SIGINT)
            data = b""
        more = os.read(channel, 1 << 12)
        if not more:
            break
        data += more
    if not survives:
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(END_SECONDS)
        os._exit(ExitCode.INTERRUPTED)


def _carry_out(request: Request, wire: _Wire, run: Callable[[list[str]], None]) -> End:
    try:
        if request.kind is RequestKind.PREPARE:
            wire.send(_prepare(request))
            return End(ExitCode.DONE)
        if request.kind is RequestKind.LOGS and request.log is not None:
            return End(_logs(Path(request.folder), request.log, wire))
        return _command(request, run)
    except UserError as error:
        refusal = RequestRefusal.of(error)
    except OSError as error:
        where = error.filename and str(error.filename)
        refusal = RequestRefusal.of(EnvironmentLack(error.strerror or str(error), where=where))
    wire.send(refusal)
    return End(refusal.status)


def _prepare(request: Request) -> Prepared:
    """Make the project's folder; note which code will come, and remove what came earlier and no longer exists."""
    from saman.jobs.remote.sent_files import receive_list

    parent = Path.home() / in_home(expand(request.folder, os.environ))
    try:
        parent.mkdir(parents=True, exist_ok=True)
        project = own_folder(parent / request.project, 0o755)
        own_folder(project / "code")  # the user's files may hold private values
        for name in ("runs", "models"):
            (project / name).mkdir(exist_ok=True)
    except DubiousFolderError as error:
        raise UserError(error.doubt.reason, where=str(error.doubt.path), remedy="another access.folder") from None
    except OSError as error:
        problem = f"this folder cannot be written: {error.strerror}"
        raise EnvironmentLack(problem, where=str(parent), remedy="another access.folder in the cluster file") from None
    with _lock(project):
        if request.sent is not None:
            receive_list(project, request.sent, complete=not request.partly)
        return Prepared(str(project), shutil.which("rsync") is not None, tuple(sorted(_runs(project))))


def _command(request: Request, run: Callable[[list[str]], None]) -> End:
    """Run a command of saman in the synchronised code."""
    project = Path(request.folder)
    before = _runs(project)
    with contextlib.ExitStack() as stack:
        if request.survives:
            stack.enter_context(_lock(project))
        folder = stack.enter_context(_private_files(request.files))
        os.environ.update(request.environment)
        directory = (project / "code" / request.directory).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        os.chdir(directory)
        words = [_with_file(word, folder, request.files) for word in request.arguments]
        status = _status_of(run, words + (["--", *request.program] if request.program is not None else []))
    return End(status, tuple(sorted(_runs(project) - before)))


def _status_of(run: Callable[[list[str]], None], words: list[str]) -> int:
    try:
        run(words)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.DONE if end.code is None else ExitCode.RUN_FAILED
    return ExitCode.DONE


def _logs(project: Path, wanted: LogRequest, wire: _Wire) -> int:
    from saman.cli.log_lines import progress_lines, without_chatter
    from saman.jobs.logs import read_logs
    from saman.jobs.reconcile import reconcile
    from saman.runs.folder import RunFolder

    run = RunFolder.open(project / "runs" / wanted.run)
    tell = progress_lines() if wanted.outcome or (wanted.follow and not run.is_script) else None
    try:
        for piece in read_logs(
            run, rank=wanted.rank, job=wanted.job, attempt=wanted.attempt, follow=wanted.follow, tell=tell,
            begin=wanted.begin,
        ):  # fmt: skip
            plain = piece.text if run.is_script or wanted.job else without_chatter(piece.text)
            wire.send(LogText(plain, piece.file, piece.end))
    except UserError:
        if not wanted.outcome:  # else it ended before any rank printed; the status says why
            raise
    if not wanted.outcome:
        return ExitCode.DONE
    (status,) = reconcile([run])
    return ExitCode.DONE if status.succeeded else status.exit_code or ExitCode.RUN_FAILED


def _runs(project: Path) -> set[str]:
    return {f"{run.experiment_name}/{run.id}" for run in find_runs(project / "runs")}


@contextlib.contextmanager
def _lock(project: Path) -> Iterator[None]:
    """Keep other requests of the project from changing its code."""
    try:
        with locks.hold(project / "lock", wait_seconds=LOCK_SECONDS, mode=0o600):
            yield
    except locks.LockHeldError as error:
        raise EnvironmentLack(str(error), where=str(project), remedy="try again when it has ended") from None


@contextlib.contextmanager
def _private_files(files: Mapping[str, str]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="saman-request-") as folder:
        for name, text in files.items():
            write_whole(Path(folder) / Path(name).name, text, private=True)
        yield Path(folder)


def _with_file(word: str, folder: Path, files: Mapping[str, str]) -> str:
    name = word.removeprefix(FILE_PREFIX)
    return str(folder / Path(name).name) if word.startswith(FILE_PREFIX) and name in files else word
