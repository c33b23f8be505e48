"""The authority knows at once who died, wakes the others, and serves nobody without the token."""

from __future__ import annotations

import http.client
import queue
import socket
from collections.abc import Iterator

import pytest

from saman.launcher.elastic.authority import Authority
from saman.runs.elastic.messages import MemberReport, Order, OrderKind, ReportKind
from saman.runs.elastic.world_events import WorldFormed

Worlds = queue.SimpleQueue[WorldFormed]


class Rank:
    """A member of its own, as a rank's process connects."""

    def __init__(self, authority: Authority, slot: int, token: str | None = None) -> None:
        address = authority.address
        self.socket = socket.create_connection((address.host, address.port), timeout=60)
        self.socket.sendall(f"MEMBER /{token or address.token}/{slot} HTTP/1.0\r\n\r\n".encode())
        self.orders = self.socket.makefile("rb")

    def report(self, kind: ReportKind, **facts: int | str) -> None:
        self.socket.sendall(MemberReport(kind, **facts).line())  # type: ignore[arg-type]

    def order(self) -> Order:
        return Order.from_line(self.orders.readline())

    def die(self) -> None:
        """Lose the connection, as the kernel ends it when a process is killed."""
        self.orders.close()
        self.socket.close()


@pytest.fixture
def worlds() -> Worlds:
    return queue.SimpleQueue()


@pytest.fixture
def authority(worlds: Worlds) -> Iterator[Authority]:
    served = Authority(1, range(3), "127.0.0.1", worlds.put)
    yield served
    served.close()


def formed(authority: Authority) -> list[Rank]:
    """Three ranks in a world that has taken its first step."""
    ranks = [Rank(authority, slot) for slot in range(3)]
    for rank in ranks:
        rank.report(ReportKind.READY)
    for rank in ranks:
        assert rank.order().kind is OrderKind.FORM
        for kind in (ReportKind.FORMED, ReportKind.AGREED, ReportKind.STEPPED):
            rank.report(kind, generation=1)
    return ranks


def test_the_end_of_a_connection_wakes_the_survivors_and_they_form_the_next_world(
    authority: Authority, worlds: Worlds
) -> None:
    first, lost, other = formed(authority)
    assert worlds.get(timeout=60).slots == (0, 1, 2)
    lost.die()
    assert first.order().kind is OrderKind.LEAVE
    assert other.order().kind is OrderKind.LEAVE
    for rank in (first, other):
        rank.report(ReportKind.LEFT, generation=1, step=5, position="p")
    for rank in (first, other):
        world = rank.order().world
        assert world is not None
        assert world.slots == (0, 2)
        for kind in (ReportKind.FORMED, ReportKind.AGREED, ReportKind.STEPPED):
            rank.report(kind, generation=2)
    told = worlds.get(timeout=60)
    assert (told.cause, told.lost, told.step) == ("loss", (1,), 5)
    phases = [told.seconds[name] for name in ("left", "formed", "agreed", "stepped")]
    assert phases == sorted(phases)


def test_a_loss_while_a_world_is_being_formed_is_counted_for_the_run_to_say_so(authority: Authority) -> None:
    first, lost, other = formed(authority)
    lost.die()
    for rank in (first, other):
        assert rank.order().kind is OrderKind.LEAVE
        rank.report(ReportKind.LEFT, generation=1, step=5, position="p")
    assert first.order().world is not None and authority.half_formed == 0
    other.die()
    assert first.order().kind is OrderKind.LEAVE
    first.report(ReportKind.STUCK, step=5, position="p")
    assert first.order().kind is OrderKind.SAVE and authority.half_formed == 1


def test_a_spare_that_comes_and_goes_disturbs_no_world_on_its_way_to_its_first_step(worlds: Worlds) -> None:
    authority = Authority(1, range(3), "127.0.0.1", worlds.put, maximum=2)
    ranks = [Rank(authority, slot) for slot in range(2)]
    for rank in ranks:
        rank.report(ReportKind.READY)
    for rank in ranks:
        assert rank.order().kind is OrderKind.FORM
        for kind in (ReportKind.FORMED, ReportKind.AGREED):
            rank.report(kind, generation=1)
    spare = Rank(authority, 2)
    spare.report(ReportKind.READY)
    spare.socket.sendall(b"nonsense\n")
    assert spare.orders.readline() == b""  # both are taken note of
    for rank in ranks:
        rank.report(ReportKind.STEPPED, generation=1)
    told = worlds.get(timeout=60)
    assert set(told.seconds) == {"left", "formed", "agreed", "stepped"}
    authority.close()


def test_nobody_joins_or_reads_addresses_without_the_token(authority: Authority) -> None:
    stranger = Rank(authority, 0, token="guessed")
    assert b"403" in stranger.orders.readline()
    connection = http.client.HTTPConnection(authority.address.host, authority.address.port, timeout=60)
    connection.request("PUT", "/guessed/1/global_/0", b"me")
    assert connection.getresponse().status == 403


def test_it_holds_the_addresses_by_which_gloo_connects(authority: Authority) -> None:
    token = authority.address.token
    connection = http.client.HTTPConnection(authority.address.host, authority.address.port, timeout=60)

    def ask(method: str, path: str, value: bytes | None = None) -> tuple[int, bytes]:
        connection.close()
        connection.request(method, path, value)
        answer = connection.getresponse()
        return answer.status, answer.read()

    assert ask("GET", f"/{token}/1:80/global_/0")[0] == 404
    assert ask("PUT", f"/{token}/1:80/global_/0", b"\x00address")[0] == 200
    assert ask("GET", f"/{token}/1:80/global_/0") == (200, b"\x00address")
    assert ask("GET", f"/{token}/2:80/global_/0")[0] == 404  # of another generation


def test_nonsense_from_a_member_ends_its_connection_alone(authority: Authority) -> None:
    first, second, third = formed(authority)
    second.socket.sendall(b"nonsense\n")
    assert first.order().kind is OrderKind.LEAVE
    assert third.order().kind is OrderKind.LEAVE
