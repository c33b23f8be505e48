"""Gathers the telemetry of a node's ranks: whole lines, in order for each rank."""

from __future__ import annotations

from pathlib import Path

from saman.runs.gathering.appended import AppendedFile, Gathered, free_gathered, new_bytes
from saman.runs.gathering.node_folder import progress_file
from saman.runs.paths.attempt import Attempt
from saman.runs.paths.names import names_in

KIND = "telemetry"


class TelemetryGathering:
    """Appends new lines of the ranks of a node to the node's telemetry, which is created with the first line."""

    def __init__(self, own: Attempt, target: Path) -> None:
        self._own, self._target = own, target
        self._gathered = Gathered.read(progress_file(own, KIND))
        self._file: AppendedFile | None = None

    def gather(self) -> None:
        """Append what is new. Raises ``OSError``; a later call then repeats it."""
        folder, before = self._own.telemetry_folder, self._gathered.taken
        paths = {name: folder / name for name in sorted(names_in(folder)) if name.endswith(".jsonl")}
        block, taken = [], dict(before)
        for name, path in paths.items():
            new = new_bytes(path, taken.get(name, 0))
            whole = new[: new.rfind(b"\n") + 1]
            taken[name] = taken.get(name, 0) + len(whole)
            block.append(whole)
        data = b"".join(block)
        if not data:
            return
        file = self._file = self._file or AppendedFile(self._target)
        at = self._gathered.written
        if at is None:  # no progress is recorded: an earlier start by hand wrote what is there
            at, data = file.size, (b"\n" if file.size else b"") + data
        file.put(data, at)
        self._gathered = Gathered(taken, at + len(data))
        self._gathered.write(progress_file(self._own, KIND))
        free_gathered(paths, before, taken)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
