r"""The messages between the two ends of a connection: a request, then records, each a line of JSON.

The request goes over standard input: no argument of a command shows it to other users of the login node. The laptop
later writes ``interrupt`` on the same channel for Ctrl-C; its end means that the connection is gone.

>>> decode(encode(Output("hello\n")))
Output(text='hello\n', error=False)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from saman.configs.errors import EnvironmentLack, ExitCode, UserError
from saman.configs.names import is_run_name
from saman.runs.files.whole import parse_json
from saman.runs.records.schema import integer, mapping
from saman.runs.records.schema import text as _text

PROTOCOL = 1
COMMAND_NAME = "remote-end"  # of the command that answers
INTERRUPT = b"interrupt\n"
FILE_PREFIX = "saman-file:"  # an argument that stands for a file of the request
LONGEST_LINE = 64 << 20


class RequestKind(str, Enum):
    """What the other end is to do."""

    PREPARE = "prepare"  # make the project's folder
    COMMAND = "command"  # run a command of saman
    LOGS = "logs"  # print a log, piece by piece


@dataclass(frozen=True)
class LogRequest:
    """Which log to read. ``begin``: where an earlier connection stopped; ``outcome``: end with the run's status."""

    run: str
    rank: int = 0
    job: bool = False
    attempt: int | None = None
    follow: bool = False
    outcome: bool = False
    begin: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """A request to the saman on a login node.

    Attributes:
        kind: What to do.
        folder: The project's folder; for ``PREPARE`` as the cluster file names it, with variables.
        project: For ``PREPARE``: the name of the project's folder in ``folder``.
        directory: The working directory, below the synchronised code.
        arguments: The command line; ``saman-file:NAME`` stands for the path of a file of ``files``.
        program: What follows ``--``.
        environment: Variables to which the experiment refers.
        files: Private files of the command, removed after it.
        sent: For ``PREPARE``: the code that will be sent (``slurm.code.files.SentCode``).
        partly: Whether ``sent`` is a part of the code, so that other files stay.
        survives: Whether the command continues if the connection is lost.
        log: For ``LOGS``.
    """

    kind: RequestKind
    folder: str
    project: str = ""
    directory: str = ""
    arguments: tuple[str, ...] = ()
    program: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    sent: Mapping[str, Any] | None = None
    partly: bool = False
    survives: bool = False
    log: LogRequest | None = None

    def encode(self) -> bytes:
        """The request as a line."""
        return json.dumps({"protocol": PROTOCOL, **asdict(self)}).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Request:
        """Read a line of ``encode``; raises ``ValueError`` for anything else."""
        value = parse_json(line)
        if not isinstance(value, dict) or value.pop("protocol", None) != PROTOCOL:
            raise ValueError(f"not a request of protocol {PROTOCOL}")
        log, program = value.get("log"), value.get("program")
        try:
            value |= {
                "kind": RequestKind(value["kind"]),
                "arguments": tuple(value["arguments"]),
                "program": None if program is None else tuple(program),
                "log": None if log is None else LogRequest(**log),
            }
            return cls(**value)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a request: {error}") from None


@dataclass(frozen=True)
class Hello:
    """The first record: who answers."""

    version: str
    protocol: int = PROTOCOL


@dataclass(frozen=True)
class Output:
    """Printed text; ``error``: on standard error."""

    text: str
    error: bool = False


@dataclass(frozen=True)
class Prepared:
    """The project's folder, absolute; whether rsync is there; the project's runs as ``experiment/id``."""

    folder: str
    rsync: bool
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class LogText:
    """A piece of a log, which ends after ``end`` bytes of ``file``."""

    text: str
    file: str
    end: int


@dataclass(frozen=True)
class RequestRefusal:
    """The request was wrong, or the login node lacks something."""

    problem: str
    status: int
    where: str | None = None
    remedy: str | None = None

    @classmethod
    def of(cls, error: UserError) -> RequestRefusal:
        """The record of an error."""
        return cls(error.problem, int(error.exit_code), error.where, error.remedy)

    def error(self, host: str) -> UserError:
        """The error for people on this side."""
        kind = EnvironmentLack if self.status == ExitCode.ENVIRONMENT else UserError
        return kind(self.problem, where=f"{host}: {self.where}" if self.where else host, remedy=self.remedy)


@dataclass(frozen=True)
class End:
    """The last record: the exit status, and the runs that the command created, as ``experiment/id``."""

    status: int
    runs: tuple[str, ...] = ()


Record: TypeAlias = Hello | Output | Prepared | LogText | RequestRefusal | End


def encode(record: Record) -> bytes:
    """A message between the machines as a line."""
    return json.dumps({"record": type(record).__name__, **asdict(record)}).encode() + b"\n"


def decode(line: bytes) -> Record | None:
    """Read a line of ``encode``; ``None`` for anything else, such as what a login shell prints."""
    try:
        value = mapping(parse_json(line))
    except ValueError:
        return None
    kind = str(value.get("record"))
    text = str(value.get("text", ""))
    if kind == "Hello":
        return Hello(str(value.get("version")), integer(value.get("protocol")) or 0)
    if kind == "Output":
        return Output(text, value.get("error") is True)
    if kind == "Prepared":
        return Prepared(str(value.get("folder")), value.get("rsync") is True, _run_names(value))
    if kind == "LogText":
        return LogText(text, str(value.get("file")), integer(value.get("end")) or 0)
    status = integer(value.get("status"))
    status = status if status in range(256) else None  # an exit status, or nothing that this process can pass on
    if kind == "RequestRefusal":
        return RequestRefusal(
            str(value.get("problem")),
            status or ExitCode.BAD_REQUEST,
            _text(value.get("where")),
            _text(value.get("remedy")),
        )
    return End(status, _run_names(value)) if kind == "End" and status is not None else None


def _run_names(value: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of runs, ``experiment/id``; anything else that the other end calls a run is dropped."""
    listed = value.get("runs")
    texts = [str(text) for text in listed] if isinstance(listed, list) else []
    return tuple(filter(is_run_name, texts))
