"""The language of the two ends of a connection: what is sent arrives, and nothing else is understood."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saman.configs.errors import EnvironmentLack
from saman.jobs.remote.wire import (
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
    decode,
    encode,
)

RECORDS = [
    Hello("1.2"),
    Output("two\nlines\x1b[31m\0é"),
    Output("x", error=True),
    Prepared("/scratch/ada", True, ("a/20260101-1", "b/20260101-2")),
    LogText("loss 0.1\n", "attempts/1/ranks/00000.log", 9),
    RequestRefusal("no room", 3, "/scratch", "make room"),
    End(85, ("a/20260101-1",)),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_arrives_as_it_was_sent(record: Record) -> None:
    line = encode(record)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert decode(line) == record


@given(st.binary(max_size=60))
def test_what_a_login_shell_prints_is_no_record(line: bytes) -> None:
    assert decode(line) is None


@pytest.mark.parametrize("name", ["../../etc/x", "a/../b", "/etc/passwd", "a/b/c", "a", "a/.b", "a/-b\n", "a/b\x1b[2J"])
def test_a_run_is_a_name_and_never_a_path(name: str) -> None:
    assert decode(encode(End(0, (name, "good/20260101-1")))) == End(0, ("good/20260101-1",))
    assert decode(encode(Prepared("/x", True, (name,)))) == Prepared("/x", True, ())


@given(st.lists(st.text()), st.dictionaries(st.text(), st.text()))
def test_a_request_arrives_whatever_its_words_hold(words: list[str], environment: dict[str, str]) -> None:
    sent = Request(RequestKind.COMMAND, "/f", arguments=tuple(words), program=("x",), environment=environment)
    line = sent.encode()
    assert line.count(b"\n") == 1
    assert Request.decode(line) == sent


def test_a_request_for_a_log_arrives_with_its_places() -> None:
    sent = Request(RequestKind.LOGS, "/f", log=LogRequest("a/b", follow=True, begin={"x": 7}))
    assert Request.decode(sent.encode()) == sent


@pytest.mark.parametrize(
    "line", [b"", b"hello\n", b"[]\n", b'{"protocol": 1}\n', b'{"protocol": 99, "kind": "logs"}\n']
)
def test_anything_else_is_no_request(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a request"):
        try:
            Request.decode(line)
        except ValueError as error:  # JSON's own words for what is no JSON
            raise ValueError(f"not a request: {error}") from None


def test_a_refusal_is_the_error_for_people_with_its_host() -> None:
    error = RequestRefusal("no room", 3, "/scratch", "make room").error("login")
    assert isinstance(error, EnvironmentLack)
    assert error.one_line() == "login: /scratch: no room (make room)"


@pytest.mark.parametrize("status", [-1, 256, 10**30, True, "0", None, 1.5])
def test_an_end_without_an_exit_status_is_no_end(status: object) -> None:
    assert decode(json.dumps({"record": "End", "status": status}).encode()) is None


def test_the_other_end_names_only_runs_of_the_folder_of_runs() -> None:
    names = ["a/b", "../b", "a/..", "/a", "a/b/c", "a", ".a/b", 3, None]
    ended = decode(json.dumps({"record": "End", "status": 0, "runs": names}).encode())
    assert isinstance(ended, End) and ended.runs == ("a/b",)
