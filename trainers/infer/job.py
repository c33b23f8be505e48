"""A job of batch inference on disk: which rows, which model, in which pieces; read by every rank.

``job.json`` says what was asked, ``plan.json`` what the input holds. The rows are cut into chunks of fixed size,
whatever the number of ranks; each chunk becomes one part file, put there by one rename, so that a job goes on where it
stopped and its result does not depend on who did what.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.files import read_json, write_json
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
    def total(self) -> int:
        """All rows."""
        return sum(self.rows)

    @property
    def chunks(self) -> int:
        """How many part files there will be; one (empty) for no rows at all."""
        return max(1, -(-self.total // self.chunk))

    def part(self, number: int) -> Path:
        """The file of a chunk's answers."""
        return self.folder / "parts" / f"{number:08d}.parquet"

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
    asked, found = json.loads((folder / "job.json").read_text()), json.loads((folder / "plan.json").read_text())
    return InferenceJob(
        folder=folder,
        inputs=tuple(Path(one) for one in asked["inputs"]),
        rows=tuple(found["rows"]),
        model=Path(asked["model"]),
        output=Path(asked["output"]),
        input_name=asked["input_name"],
        wanted=_wanted(asked),
        batch=asked["batch"],
        chunk=asked["chunk"],
    )


def _wanted(asked: dict[str, Any]) -> Wanted:
    return Wanted(asked["dtype"], tuple(asked["shape"]))


def plan(folder: Path) -> None:
    """Look at the inputs and write ``plan.json``; raises ``UnreadableInput`` where they are not what they were."""
    asked = json.loads((folder / "job.json").read_text())
    sources = [open_source(Path(path), _wanted(asked)) for path in asked["inputs"]]
    facts = {
        "rows": [one.rows for one in sources],
        "kinds": [one.kind for one in sources],
        "content": [_mark(one.path) for one in sources],
    }
    earlier = read_json(folder / "plan.json")
    if isinstance(earlier, dict) and earlier != facts:
        raise UnreadableInput("the input has changed since this job began")
    write_json(folder / "plan.json", facts)
    (folder / "parts").mkdir(exist_ok=True)


def _mark(path: Path) -> str:
    """Changes when the file, or a file of the folder, is written again."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    state = hashlib.sha256()
    for file in files:
        about = file.stat()
        state.update(f"{file.name} {about.st_size} {about.st_mtime_ns}\n".encode())
    return state.hexdigest()
