"""The energy of a run holds however often the counters wrap while it lasts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from saman.runs.paths.run import RunPaths
from saman.runs.records.energy import EnergyRecord
from saman.scaling.study.energy import SAMPLE_SECONDS, EnergyMeter, Reading

RANGE_UJ = 262_143_328_850  # of a Xeon's package: it wraps after 29 minutes at 150 W


class Package:
    """A RAPL counter under a constant load; every reading comes ``seconds`` after the last."""

    def __init__(self, watts: float, seconds: float) -> None:
        self.watts, self.seconds, self.readings = watts, seconds, 0
        self.enough = threading.Event()

    def __call__(self) -> Reading:
        used = round(self.watts * self.seconds * self.readings * 1e6)
        self.readings += 1
        if self.readings >= 5:
            self.enough.set()
        return Reading({"rapl intel-rapl:0": ((200_000_000_000 + used) % RANGE_UJ, RANGE_UJ)}, {})


def test_an_hour_at_150_watts_is_540_kilojoules() -> None:
    package = Package(watts=150.0, seconds=SAMPLE_SECONDS)
    with EnergyMeter(package, every_seconds=3600.0) as meter:
        for _ in range(round(3600 / SAMPLE_SECONDS) - 1):
            meter.sample()
    assert meter.joules == pytest.approx(540e3)


def test_the_meter_reads_by_itself_while_the_run_lasts(tmp_path: Path) -> None:
    package = Package(watts=150.0, seconds=1.0)
    with EnergyMeter(package, every_seconds=0.001) as meter:
        assert package.enough.wait(20)
    assert meter.joules == pytest.approx(150.0 * (package.readings - 1))
    meter.record(tmp_path)
    assert EnergyRecord.read(RunPaths(tmp_path).energy_file) == EnergyRecord(meter.joules, ("rapl intel-rapl:0",))


def test_a_counter_that_cannot_be_read_for_a_moment_loses_nothing() -> None:
    readings = iter([Reading({"rapl": (0, 1000)}, {}), Reading({}, {}), Reading({"rapl": (900, 1000)}, {})])
    with EnergyMeter(lambda: next(readings), every_seconds=3600.0) as meter:
        meter.sample()
    assert meter.joules == pytest.approx(900e-6)


def test_without_a_meter_nothing_is_written(tmp_path: Path) -> None:
    with EnergyMeter(lambda: Reading({}, {})) as meter:
        pass
    meter.record(tmp_path)
    assert not RunPaths(tmp_path).energy_file.exists()
