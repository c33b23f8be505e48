"""What authority and members say survives the line on which it travels."""

from __future__ import annotations

import pytest

from saman.runs.checkpoints import TrainingPosition
from saman.runs.checkpoints.position_text import position_text, read_position
from saman.runs.elastic.messages import MemberReport, Order, OrderKind, ReportKind, World
from saman.runs.elastic.world_events import WorldFormed
from saman.runs.events import Event


def test_a_report_and_an_order_are_read_as_they_were_written() -> None:
    report = MemberReport(ReportKind.LEFT, generation=3, step=70, epoch=2, position='{"step": 70}')
    order = Order(OrderKind.FORM, 4, World(4, (2, 0, 1), source=0, position="p", spread=True))
    assert MemberReport.from_line(report.line()) == report
    assert Order.from_line(order.line()) == order


def test_a_position_keeps_every_bit_of_its_sums() -> None:
    position = TrainingPosition(
        7, 1, 3, (0.1 + 0.2, 1 / 3, 5.0, 0.0), best=1e-300, metrics={"loss": 2 / 7}, skipped=(3,)
    )
    assert read_position(position_text(position)) == position


@pytest.mark.parametrize("line", [b"", b"[]", b'{"kind": "unheard-of"}', b"{"])
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        MemberReport.from_line(line)


def test_the_event_of_a_world_is_read_as_it_was_written() -> None:
    world = WorldFormed(2, "loss", (0, 2, 3), lost=(1,), step=9, detected=5.5, seconds={"left": 0.1, "stepped": 0.4})
    assert WorldFormed.from_event(Event("world", "supervisor", time=6.0, attempt=1, facts=world.facts())) == world
    assert WorldFormed.from_event(Event("notice", "supervisor", time=6.0, attempt=1, facts={})) is None
