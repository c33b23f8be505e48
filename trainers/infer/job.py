"""A batch inference as every rank reads it: the request, the rows of the inputs, and their chunks.

Chunks have a fixed size for any number of ranks. Each becomes a part file, made visible by one rename. So a job
continues after an interruption, and its result does not depend on the ranks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from saman.runs.records.inference import InferencePaths, InferencePlanRecord, InferenceRequestRecord
from saman.trainers.infer.rows import InputSpec, UnreadableInput
from saman.trainers.infer.sources import open_inputs


@dataclass(frozen=True)
class InferenceJob:
    """The job.

    ``wanted`` are the model's inputs by name, ``rows`` the rows of each file, ``batch`` the rows per call, ``chunk``
    the rows per part file.
    """

    paths: InferencePaths
    inputs: tuple[Path, ...]
    rows: tuple[int, ...]
    model: Path
    output: Path
    wanted: Mapping[str, InputSpec]
    batch: int
    chunk: int

    @property
    def total(self) -> int:
        """Rows of all inputs."""
        return sum(self.rows)

    @property
    def chunks(self) -> int:
        """The number of part files; 1 (empty) for no rows."""
        return max(1, -(-self.total // self.chunk))

    def done(self) -> list[int]:
        """Chunks with a part file."""
        return [number for number in range(self.chunks) if self.paths.part(number).is_file()]

    def pieces(self, number: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield the rows of a chunk as (input, first and last position there, global position of the first)."""
        low, high, start = number * self.chunk, (number + 1) * self.chunk, 0
        for index, rows in enumerate(self.rows):
            first, last = max(low, start), min(high, start + rows)
            if first < last:
                yield index, first - start, last - start, first
            start += rows


def load(folder: Path) -> InferenceJob:
    """Read the planned job in ``folder``; raises ``UnreadableInput`` where it has no request or plan."""
    paths = InferencePaths(folder)
    request, plan = _read_request(paths), InferencePlanRecord.read(paths.plan)
    if plan is None:
        raise UnreadableInput(f"{paths.plan} is missing or damaged")
    return InferenceJob(
        paths=paths,
        inputs=tuple(Path(path) for path in request.inputs),
        rows=plan.rows,
        model=Path(request.model),
        output=Path(request.output),
        wanted=_wanted(request),
        batch=request.batch,
        chunk=request.chunk,
    )


def _read_request(paths: InferencePaths) -> InferenceRequestRecord:
    request = InferenceRequestRecord.read(paths.request)
    if request is None:
        raise UnreadableInput(f"{paths.request} is missing or damaged")
    return request


def _wanted(request: InferenceRequestRecord) -> dict[str, InputSpec]:
    return {each.name: InputSpec(each.dtype, each.shape) for each in request.wanted}


def write_plan(folder: Path) -> None:
    """Count the rows of the inputs; raises ``UnreadableInput`` where an input has changed since an earlier plan."""
    paths = InferencePaths(folder)
    request = _read_request(paths)
    sources = [open_inputs(Path(path), _wanted(request)) for path in request.inputs]
    found = InferencePlanRecord(
        rows=tuple(source.rows for source in sources),
        kinds=tuple(source.kind for source in sources),
        content=tuple(_content_mark(source.path) for source in sources),
    )
    earlier = InferencePlanRecord.read(paths.plan)
    if earlier is not None and earlier != found:
        raise UnreadableInput("the input has changed since this job began")
    found.write(paths.plan)
    paths.parts.mkdir(exist_ok=True)


def _content_mark(path: Path) -> str:
    """A digest that changes when the file, or a file of the folder, is rewritten."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    state = hashlib.sha256()
    for file in files:
        found = file.stat()
        state.update(f"{file.name} {found.st_size} {found.st_mtime_ns}\n".encode())
    return state.hexdigest()
