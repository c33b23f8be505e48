"""Memory bandwidth: measured by a process of its own, kept for the machine, and part of a run's provenance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saman.launcher.node import bandwidth
from saman.launcher.node.bandwidth import known_bandwidth, measure_bandwidth
from saman.launcher.node.provenance import provenance
from saman.launcher.node.triad import core_counts, measure
from saman.runs import variables
from saman.runs.records.provenance import Host, MemoryBandwidth


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without anything in it."""
    monkeypatch.setenv(variables.CACHE_DIR, str(tmp_path))
    return tmp_path


def test_every_count_of_cores_moves_something() -> None:
    found = measure([1, 2], array_bytes=1 << 20, repeats=2, least_share=0.0)
    assert set(found) == {1, 2}
    assert all(rate > 0 for rate in found.values())


def test_a_count_without_cores_of_its_own_is_not_measured() -> None:
    assert measure([1], array_bytes=1 << 20, repeats=2, least_share=2.0) == {}


def test_counts_double_up_to_all_cores() -> None:
    assert [core_counts(cores) for cores in (1, 2, 3, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8]]


def test_it_is_measured_once_and_then_known(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def child(command: list[str], **_: object) -> object:
        started.append(command)
        Path(command[-1]).write_text(json.dumps({"cores": [1, 2], "bytes_per_second": [4e9, 6e9]}))
        return type("Done", (), {"returncode": 0, "stderr": ""})

    assert known_bandwidth() is None
    monkeypatch.setattr(bandwidth, "run_command", child)
    assert measure_bandwidth() == measure_bandwidth() == MemoryBandwidth((1, 2), (4e9, 6e9))
    assert len(started) == 1
    assert started[0][1:3] == ["-m", "saman.launcher.node.triad"]
    host = provenance(["saman"], cache).host
    assert host is not None
    assert host.memory_bandwidth == MemoryBandwidth((1, 2), (4e9, 6e9))


def test_a_failed_measurement_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def child(command: list[str], **_: object) -> object:
        raise OSError("no such file")

    monkeypatch.setattr(bandwidth, "run_command", child)
    assert measure_bandwidth() is None


def test_bandwidth_between_measured_counts_is_interpolated() -> None:
    node = MemoryBandwidth((1, 4), (10e9, 20e9))
    assert [node.of(cores) for cores in (1, 2.5, 4, 16)] == [10e9, 15e9, 20e9, 20e9]


def test_hosts_of_older_runs_have_none() -> None:
    old = Host.from_json({"cpu": "x", "cores": 2})
    assert old is not None
    assert old.memory_bandwidth is None
