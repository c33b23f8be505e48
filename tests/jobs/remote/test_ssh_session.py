"""A request and its answer over a pretended ssh: output, exit status, lost connections, missing software."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.jobs.remote.pretended_ssh import PretendedSsh

from saman import __version__
from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.schemas.script import Script
from saman.jobs.remote.session import ConnectionLost, run_request
from saman.jobs.remote.wire import End, LogRequest, LogText, Output, Prepared, Record, Request, RequestKind
from saman.runs.folder import RunFolder

HELLO = f"""'{{"record": "Hello", "version": "{__version__}", "protocol": 1}}'"""


def answers_with(network: PretendedSsh, status: int) -> None:
    """Let a saman that is no more than its answer stand there."""
    end = f"""'{{"record": "End", "status": {status}}}'"""
    network.project = replace(network.project, saman=f"printf %s\\\\n {HELLO} {end} #")


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedSsh]:
    made = PretendedSsh(tmp_path, monkeypatch)
    yield made
    made.close()


def ask(network: PretendedSsh, request: Request, again: bool = False) -> tuple[End, list[Record], list[str]]:
    records: list[Record] = []
    notes: list[str] = []
    end = run_request(network.project, lambda: request, records.append, notes.append, again, pause=lambda seconds: None)
    return end, records, notes


def printed(records: list[Record], error: bool = False) -> str:
    return "".join(record.text for record in records if isinstance(record, Output) and record.error == error)


def test_a_project_is_made_and_a_command_runs_in_it_with_hostile_words(network: PretendedSsh) -> None:
    wanted = Request(RequestKind.PREPARE, "$HOME/my folder", project="p-1", sent={"names": ["a.py"]})
    _, records, _ = ask(network, wanted)
    (prepared,) = records
    assert isinstance(prepared, Prepared)
    assert prepared.folder == str(network.folder / "home" / "my folder" / "p-1")
    assert (Path(prepared.folder) / "code").stat().st_mode & 0o077 == 0
    words = ("status", "--json", "--runs-dir", "$(touch x); `id` 'it''s' \"q\" *\n\\")
    end, records, _ = ask(network, Request(RequestKind.COMMAND, prepared.folder, arguments=words))
    assert (end, printed(records)) == (End(0), "[]\n")
    assert "touch" not in network.calls()  # the words went over standard input


def test_the_exit_status_and_standard_error_are_those_of_the_command(network: PretendedSsh) -> None:
    words = ("status", "no-such-run", "--runs-dir", "nothing")
    end, records, _ = ask(network, Request(RequestKind.COMMAND, network.project.folder, arguments=words))
    assert end.status == 2
    assert "there are no runs" in printed(records, error=True) and not printed(records)


def test_a_folder_that_cannot_be_written_is_named(network: PretendedSsh) -> None:
    wanted = Request(RequestKind.PREPARE, "/proc/nowhere", project="p-1")
    with pytest.raises(EnvironmentLack, match="cannot be written") as refused:
        ask(network, wanted)
    assert refused.value.where == "login: /proc/nowhere" and "access.folder" in str(refused.value.remedy)


def test_a_log_goes_on_where_the_lost_connection_left_it(network: PretendedSsh) -> None:
    spec = Script.model_validate({"name": "x", "command": ["true"], "directory": "/"})
    run = RunFolder.create(Path(network.project.folder) / "runs", spec)
    log = run.new_attempt().log(0)
    log.write_text("first\n")
    places: dict[str, int] = {}
    texts: list[str] = []

    def request() -> Request:
        return Request(RequestKind.LOGS, network.project.folder, log=LogRequest(f"x/{run.id}", begin=dict(places)))

    def take(record: Record) -> None:
        if isinstance(record, LogText):
            texts.append(record.text)
            places[record.file] = record.end
            log.write_text("first\nsecond\n")

    (network.folder / "cut").write_text("2")  # the greeting and the first piece
    notes: list[str] = []
    end = run_request(network.project, request, take, notes.append, again=True, pause=lambda seconds: None)
    assert (end.status, "".join(texts)) == (0, "first\nsecond\n")
    assert len(notes) == 1 and "lost" in notes[0]


def test_a_command_that_must_not_be_repeated_tells_its_caller_about_the_loss(network: PretendedSsh) -> None:
    answers_with(network, 0)
    (network.folder / "cut").write_text("1")  # the greeting alone
    with pytest.raises(ConnectionLost, match="lost"):
        ask(network, Request(RequestKind.COMMAND, network.project.folder, arguments=("cancel", "x"), survives=True))


def test_a_request_that_did_not_go_out_is_repeated(network: PretendedSsh) -> None:
    answers_with(network, 2)
    (network.folder / "cut").write_text("0")
    request = Request(RequestKind.COMMAND, network.project.folder, arguments=("cancel", "x"), survives=True)
    end, _, notes = ask(network, request)
    assert end.status == 2 and len(notes) == 1


def test_a_host_that_is_down_is_waited_for_only_after_a_connection(network: PretendedSsh) -> None:
    refused = "ssh: connect to host login port 22: Connection refused\n"
    answers_with(network, 0)
    (network.folder / "down").write_text(refused)
    request = Request(RequestKind.COMMAND, network.project.folder, arguments=("status", "--json"))
    with pytest.raises(EnvironmentLack, match="cannot be reached"):
        ask(network, request, again=True)
    ask(network, request, again=True)


def test_a_missing_saman_is_named_with_the_key_that_finds_it(network: PretendedSsh) -> None:
    network.project = replace(network.project, saman="/no/such/saman")
    with pytest.raises(EnvironmentLack, match="no saman there") as lack:
        ask(network, Request(RequestKind.COMMAND, "/", arguments=("status",)))
    assert "access.saman" in str(lack.value.remedy)


def test_a_saman_that_answers_otherwise_is_too_old(network: PretendedSsh) -> None:
    network.project = replace(network.project, saman="bash -c 'echo no such command >&2; exit 2' --")
    with pytest.raises(EnvironmentLack, match="no such command"):
        ask(network, Request(RequestKind.COMMAND, "/", arguments=("status",)))


def test_another_version_is_told_once(network: PretendedSsh) -> None:
    hello = """'{"record": "Hello", "version": "9.9", "protocol": 1}'"""
    end = """'{"record": "End", "status": 7}'"""
    network.project = replace(network.project, saman=f"printf %s\\\\n {hello} {end} #")
    end_record, _, notes = ask(network, Request(RequestKind.COMMAND, "/", arguments=("status",)))
    assert end_record.status == 7
    assert len(notes) == 1 and "9.9 on login" in notes[0]


def test_another_protocol_is_refused(network: PretendedSsh) -> None:
    hello = """'{"record": "Hello", "version": "9.9", "protocol": 2}'"""
    network.project = replace(network.project, saman=f"printf %s\\\\n {hello} #")
    with pytest.raises(UserError, match="use different protocols"):
        ask(network, Request(RequestKind.COMMAND, "/", arguments=("status",)))


def test_ctrl_c_ends_the_command_there(network: PretendedSsh) -> None:
    spec = Script.model_validate({"name": "x", "command": ["true"], "directory": "/"})
    run = RunFolder.create(Path(network.project.folder) / "runs", spec)
    run.new_attempt().log(0).write_text("first\n")
    wanted = Request(RequestKind.LOGS, network.project.folder, log=LogRequest(f"x/{run.id}", follow=True))

    main = threading.get_ident()  # where a terminal's Ctrl-C is handled

    def take(record: Record) -> None:
        if isinstance(record, LogText):  # it follows; now the user types Ctrl-C
            threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()

    assert run_request(network.project, lambda: wanted, take, lambda text: None).status == 130
