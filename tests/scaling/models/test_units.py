"""Units and hardware lines of published tables: times become rates or are refused, nodes are read in many words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saman.scaling.models.hardware import ranks_per_node
from saman.scaling.models.published import read_table
from saman.scaling.models.units import UnitRefused, to_rate


def _table(path: Path, **series: object) -> Path:
    entry = {"id": "a", "source": "b", "points": [{"gpus": n, "value": 60 / n} for n in (1, 2, 4, 8)], **series}
    path.write_text(json.dumps({"data_parallel": [entry]}))
    return path


def test_seconds_per_epoch_become_a_rate_that_rises(tmp_path: Path) -> None:
    (track,) = read_table(_table(tmp_path / "t.json", unit="s/epoch")).series
    rates = [point.throughput for point in track.points]
    assert rates == sorted(rates)
    assert rates[3] / rates[0] == pytest.approx(8)


def test_the_seconds_of_the_shipped_table_are_rates_too() -> None:
    tracks = {track.id: track for track in read_table().series}
    assert tracks["itwinai-mnist-ddp"].unit == "s/epoch"
    assert all(track.points[0].throughput < track.points[1].throughput for track in tracks.values())


@pytest.mark.parametrize("unit", ["s", "efficiency %", "speed-up", "bananas", "seconds"])
def test_what_is_no_rate_is_left_out_with_the_reason(tmp_path: Path, unit: str) -> None:
    table = read_table(_table(tmp_path / "t.json", unit=unit))
    assert not table.series
    assert unit in table.refused[0].reason


def test_a_step_does_more_work_under_weak_scaling_only() -> None:
    assert to_rate("ms/step", 16, 200.0, "weak") == pytest.approx(16 * to_rate("ms/step", 16, 200.0, "strong"))
    assert to_rate("tokens/s/GPU", 16, 10.0, "weak") == 160
    assert to_rate("days/ns", 4, 2.0, "strong") == 0.5
    with pytest.raises(UnitRefused, match="without its work"):
        to_rate("ms", 4, 2.0, "weak")


def test_strong_scaling_is_read_as_strong(tmp_path: Path) -> None:
    assert read_table(_table(tmp_path / "t.json", scaling="strong")).series[0].scaling == "strong"
    assert read_table(_table(tmp_path / "t.json", global_batch=256)).series[0].scaling == "strong"
    assert read_table(_table(tmp_path / "t.json")).series[0].scaling == "weak"


@pytest.mark.parametrize(
    ("line", "ranks"),
    [
        ("EC2 p2.8xlarge", 8),
        ("EC2 p2.xlarge", 1),
        ("EC2 p2.8xlarge, 8xK80/node", 8),
        ("4 nodes x 8 V100-SXM2-16GB", 8),
        ("8 GPU/node", 8),
        ("four A100 per node", 4),
        ("32 servers with 4 MI250", 4),
        ("GPUs per node: 6", 6),
        ("8-GPU nodes, 400 Gb/s", 8),
        ("DGX-1 8xP100 NVLink, 1 node", 8),
        ("2x EPYC 7763, 128 cores per node", 128),
        ("LUMI-G, 8 GCDs/node", 8),
        ("a cluster with InfiniBand", None),
        ("Piz Daint, Lustre", None),
    ],
)
def test_ranks_per_node_do_not_hang_on_the_words_of_one_table(line: str, ranks: int | None) -> None:
    assert ranks_per_node(line) == ranks


def test_unknown_nodes_are_not_a_single_node(tmp_path: Path) -> None:
    assert not read_table(_table(tmp_path / "t.json", hardware="a cluster")).series[0].nodes_known
    known = read_table(_table(tmp_path / "t.json", hardware="4xA100/node")).series[0]
    assert known.nodes_known
    assert [point.nodes for point in known.points] == [1, 1, 1, 2]
