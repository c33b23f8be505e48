"""Energy of a run by the machine's meters: RAPL for processors, NVML for NVIDIA GPUs. Other work counts too."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from saman.runs.paths.run import RunPaths
from saman.runs.records.energy import EnergyRecord

_POWERCAP = Path("/sys/class/powercap")
# The smallest RAPL counters wrap after 65.5 kJ (2³² units of 15.3 µJ): at 1 kW per package after 65 s.
SAMPLE_SECONDS = 30.0


@dataclass(frozen=True)
class Reading:
    """Counters at a moment: microjoules of each RAPL package with its wrap-around value, millijoules of each GPU."""

    packages: dict[str, tuple[int, int]]
    gpus: dict[str, int]

    @property
    def meters(self) -> tuple[str, ...]:
        """Names of the energy meters of a study's node."""
        return (*sorted(self.packages), *sorted(self.gpus))


def read_meters(powercap: Path = _POWERCAP) -> Reading:
    """Read this machine's energy meters for a study; empty without meters or without permission."""
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
    """The energy of a study's run: joules between two readings, over all meters. A counter may wrap once."""
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


class EnergyMeter:
    """Adds up the energy of this machine while the ``with`` block lasts; a thread reads the counters before they wrap.

    >>> with EnergyMeter(lambda: Reading({}, {})) as meter:
    ...     pass
    >>> meter.joules is None
    True
    """

    def __init__(self, read: Callable[[], Reading] = read_meters, every_seconds: float = SAMPLE_SECONDS) -> None:
        """Prepare the meter.

        Args:
            read: Reads the counters.
            every_seconds: Time between readings; it must be shorter than the time in which a counter wraps.
        """
        self._read, self._every = read, every_seconds
        self._last = Reading({}, {})
        self._first = self._last
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep_reading, name="energy", daemon=True)
        self.joules: float | None = None

    @property
    def meters(self) -> tuple[str, ...]:
        """Names of the meters that count."""
        return self._first.meters

    def __enter__(self) -> EnergyMeter:
        self._first = self._last = self._read()
        if self._first.meters:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._first.meters:
            self.sample()

    def sample(self) -> None:
        """Read the energy counters of a study's node and add the energy since the last reading."""
        with self._lock:
            now = self._read()
            more = joules_between(self._last, now)
            if more is not None:
                self.joules = (self.joules or 0.0) + more
            # a meter that could not be read this time counts from its last value the next time
            self._last = Reading({**self._last.packages, **now.packages}, {**self._last.gpus, **now.gpus})

    def _keep_reading(self) -> None:
        while not self._over.wait(self._every):
            self.sample()

    def record(self, run: Path) -> None:
        """Write the energy into a run folder; without a meter, write nothing."""
        if self.joules is not None:
            EnergyRecord(self.joules, self.meters).write(RunPaths(run).energy_file)


def energy_of(run: Path) -> float | None:
    """The energy of a study's run: its recorded joules; None without a record."""
    record = EnergyRecord.read(RunPaths(run).energy_file)
    return record.joules if record else None
