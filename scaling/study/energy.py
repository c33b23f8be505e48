"""Energy of a run by the machine's meters: RAPL for processors, NVML for NVIDIA GPUs. Other work counts too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from saman.runs.paths import RunPaths
from saman.runs.records.energy import EnergyRecord

_POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Reading:
    """Counters at a moment: microjoules of each RAPL package with its wrap-around value, millijoules of each GPU."""

    packages: dict[str, tuple[int, int]]
    gpus: dict[str, int]

    @property
    def meters(self) -> tuple[str, ...]:
        """Names of the meters."""
        return (*sorted(self.packages), *sorted(self.gpus))


def read_meters(powercap: Path = _POWERCAP) -> Reading:
    """Read the meters of this machine; empty without meters or without permission."""
    packages = {}
    for folder in powercap.glob("intel-rapl:[0-9]*"):
        if folder.name.count(":") != 1:
            continue  # a part of a package, already counted in it
        with contextlib.suppress(OSError, ValueError):
            now = int((folder / "energy_uj").read_text())
            packages[f"rapl {folder.name}"] = (now, int((folder / "max_energy_range_uj").read_text()))
    return Reading(packages, dict(_gpus()))


def _gpus() -> Iterator[tuple[str, int]]:
    try:
        import pynvml  # type: ignore[import-not-found, unused-ignore]

        pynvml.nvmlInit()
    except Exception:  # no library, no driver, no GPU: there is no meter
        return
    for index in range(pynvml.nvmlDeviceGetCount()):
        with contextlib.suppress(pynvml.NVMLError):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            yield f"nvml gpu {index}", int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))


def joules_between(before: Reading, after: Reading) -> float | None:
    """Joules between two readings, over all meters; None without a meter in both. A counter may wrap once."""
    total, found = 0.0, False
    for name, (start, limit) in before.packages.items():
        if name in after.packages:
            found = True
            total += ((after.packages[name][0] - start) % max(limit, 1)) / 1e6
    for name, count in before.gpus.items():
        if name in after.gpus:
            found = True
            total += (after.gpus[name] - count) / 1e3
    return total if found else None


def record_energy(run: Path, before: Reading, after: Reading) -> None:
    """Write the energy between two readings, in joules, into a run folder; without a meter, write nothing.

    Args:
        run: The run folder.
        before: The meters before the run.
        after: The meters after it.
    """
    joules = joules_between(before, after)
    if joules is not None:
        EnergyRecord(joules, before.meters).write(RunPaths(run).energy_file)


def energy_of(run: Path) -> float | None:
    """The recorded joules of a run; None without a record."""
    record = EnergyRecord.read(RunPaths(run).energy_file)
    return record.joules if record else None
