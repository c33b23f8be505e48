"""A job of batch inference on disk: which rows, which model, in which pieces; read by every rank.

``job.json`` says what was asked, ``plan.json`` what the input holds. The rows are cut into chunks of fixed size,
whatever the number of ranks; each chunk becomes one part file, put there by one rename, so that a job goes on where it
stopped and its result does not depend on who did what.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from saman.runs.records.inference import InferencePaths, InferencePlanRecord, InferenceRequestRecord
from saman.trainers.infer.rows import UnreadableInput, Wanted, open_source


@dataclass(frozen=True)
class InferenceJob:
    """What every rank knows. ``starts`` are the global positions of the inputs' first rows."""

    folder: Path
    inputs: tuple[Path, ...]
    rows: tuple[int, ...]
    model: Path
    output: Path
    input_name: str
    wanted: Wanted
    batch: int
    chunk: int

    @property
    def paths(self) -> InferencePaths:
        """Files of the job."""
        return InferencePaths(self.folder)

    @property
    def total(self) -> int:
        """All rows."""
        return sum(self.rows)

    @property
    def chunks(self) -> int:
        """How many part files there will be; one (empty) for no rows at all."""
        return max(1, -(-self.total // self.chunk))

    def part(self, number: int) -> Path:
        """The file of a chunk's answers."""
        return self.paths.part(number)

    def done(self) -> list[int]:
        """Chunks whose part is there."""
        return [number for number in range(self.chunks) if self.part(number).is_file()]

    def pieces(self, number: int) -> Iterator[tuple[int, int, int, int]]:
        """The rows of a chunk as (input, first and last position in it, global position of the first)."""
        low, high, start = number * self.chunk, (number + 1) * self.chunk, 0
        for index, rows in enumerate(self.rows):
            first, last = max(low, start), min(high, start + rows)
            if first < last:
                yield index, first - start, last - start, first
            start += rows


def load(folder: Path) -> InferenceJob:
    """The planned job in ``folder``."""
    asked, found = _request(folder), InferencePlanRecord.read(InferencePaths(folder).plan)
    if found is None:
        raise UnreadableInput(f"{InferencePaths(folder).plan} is missing or incomplete")
    return InferenceJob(
        folder=folder,
        inputs=tuple(Path(path) for path in asked.inputs),
        rows=found.rows,
        model=Path(asked.model),
        output=Path(asked.output),
        input_name=asked.input_name,
        wanted=Wanted(asked.dtype, asked.shape),
        batch=asked.batch,
        chunk=asked.chunk,
    )


def _request(folder: Path) -> InferenceRequestRecord:
    file = InferencePaths(folder).request
    asked = InferenceRequestRecord.read(file)
    if asked is None:
        raise UnreadableInput(f"{file} is missing or incomplete")
    return asked


def plan(folder: Path) -> None:
    """Look at the inputs and write ``plan.json``; raises ``UnreadableInput`` where they are not what they were."""
    asked, paths = _request(folder), InferencePaths(folder)
    sources = [open_source(Path(path), Wanted(asked.dtype, asked.shape)) for path in asked.inputs]
    found = InferencePlanRecord(
        rows=tuple(source.rows for source in sources),
        kinds=tuple(source.kind for source in sources),
        content=tuple(_mark(source.path) for source in sources),
    )
    earlier = InferencePlanRecord.read(paths.plan)
    if earlier is not None and earlier != found:
        raise UnreadableInput("the input has changed since this job began")
    found.write(paths.plan)
    paths.parts.mkdir(exist_ok=True)


def _mark(path: Path) -> str:
    """Changes when the file, or a file of the folder, is written again."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    state = hashlib.sha256()
    for file in files:
        about = file.stat()
        state.update(f"{file.name} {about.st_size} {about.st_mtime_ns}\n".encode())
    return state.hexdigest()
