"""``placement.json``: small at any number of ranks, and a rank reads its own seat without the rest."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from saman.launcher.plan import placement as placement_module
from saman.launcher.plan.placement import Placement, Process, Seat
from saman.runs.files.whole import write_json


def _even(nodes: int, per_node: int, name: str = "compute-{:05d}") -> Placement:
    processes = (
        Process(index, name.format(index // per_node), index % per_node, index, 1, (index % per_node,), (), 1)
        for index in range(nodes * per_node)
    )
    return Placement(tuple(processes), 1, notes=("auto",))


ODD = (
    Placement((Process(0, 'a"ü,\n x', 0, 0, 2), Process(1, "b", 0, 2, 2), Process(2, "b", 1, 4, 2, (1,), (0,))), 1),
    Placement((Process(0, "n", 0, 0, 1), Process(1, "m", 0, 1, 1), Process(2, "n", 1, 2, 1)), 1),  # not by node
    Placement((Process(0, "n", 0, 5, 1),), 1),  # does not begin at rank 0
    Placement(tuple(Process(i, f"n{i}", 0, i, 1, (0,) * (i % 2)) for i in range(7)), 1, True),  # layouts alternate
)


@pytest.mark.parametrize("placement", [_even(1, 1), _even(3, 4), *ODD], ids=range(2 + len(ODD)))
def test_a_placement_and_every_seat_are_read_as_written(tmp_path: Path, placement: Placement) -> None:
    path = tmp_path / "placement.json"
    placement.write(path)
    assert json.loads(path.read_text())["schema"] in (1, 2)
    assert Placement.read(path) == placement
    for index in range(len(placement.processes) + 1):  # one too many: the message names the planned number
        assert Seat.read(path, index) == Seat.of(placement, index)


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "placement.json"
    listed = [asdict(process) for process in _even(2, 2).processes]
    head = {"schema": 1, "cores_per_rank": 1, "cores_shared": False, "notes": ["auto"]}
    write_json(path, {**head, "processes": listed})
    assert Placement.read(path) == _even(2, 2)
    assert Seat.read(path, 3) == Seat.of(_even(2, 2), 3)


def test_a_rank_reads_a_few_kilobytes_of_a_large_placement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "placement.json"
    _even(4000, 8).write(path)
    made: list[Process] = []
    monkeypatch.setattr(placement_module, "Process", lambda *values, **_: made.append(Process(*values)) or made[-1])
    before = _bytes_read()
    seat = Seat.read(path, 31_999)
    assert _bytes_read() - before < 40_000
    assert seat is not None and (seat.node_index, seat.nodes, seat.size, len(seat.here)) == (3999, 4000, 32_000, 8)
    assert len(made) == 8


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema":2}', '{"schema":2,"groups":[]}', '{"schema":2,"groups":[{"nodes":"a"}]}']
)
def test_a_damaged_file_has_no_seat(tmp_path: Path, text: str) -> None:
    (tmp_path / "placement.json").write_text(text)
    assert Seat.read(tmp_path / "placement.json", 0) is None


def _bytes_read() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar")))
