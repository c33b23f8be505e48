"""The work of a rank: answer its chunks that have no part file; the last rank joins the parts."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saman.runs.ranks.heartbeats import Heartbeat, Phase
from saman.trainers.convert.sample_answers import FIRST
from saman.trainers.infer.job import InferenceJob, load
from saman.trainers.infer.rows import Array, InputSource, InputSpec
from saman.trainers.infer.sources import open_inputs

if TYPE_CHECKING:
    import polars as pl

Answer = Callable[[dict[str, Array]], dict[str, Array]]


def work(folder: Path, rank: int, size: int) -> None:
    """Answer this rank's chunks that are still without answer, then join the parts if all chunks are answered.

    Args:
        folder: The folder of the job.
        rank: This rank; it answers chunks ``rank``, ``rank + size``, …
        size: Number of ranks.
    """
    job = load(folder)
    mine = [number for number in range(rank, job.chunks, size) if not job.paths.part(number).is_file()]
    heartbeat = Heartbeat.from_environment()
    if mine:
        answer = _load_model(job)
        sources = [open_inputs(path, job.wanted) for path in job.inputs]
        for count, number in enumerate(mine, start=1):
            _answer_chunk(job, number, sources, answer)
            if heartbeat is not None:
                heartbeat.beat(Phase.SCRIPT, count, total_steps=len(mine))
    if len(job.done()) == job.chunks:
        join(job)


def _load_model(job: InferenceJob) -> Answer:
    """Load the version with one thread: sums in another order would make the result depend on the machine."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from saman.trainers.convert.predict import caller

    return caller(job.model)


@dataclass
class ChunkAnswers:
    """Rows of a chunk, in order: global row, source, position there, answers, and error (``None`` for a good row).

    ``answers`` are rows of numbers by output, the first output of the model under ``outputs``.
    """

    rows: list[Array] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    positions: list[Array] = field(default_factory=list)
    answers: list[dict[str, Array]] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)

    def frame(self) -> pl.DataFrame:
        """The columns of the part file; a bad row has neither prediction nor outputs."""
        import polars as pl

        found = {name: np.concatenate([part[name] for part in self.answers]) for name in self._outputs}
        first = found[FIRST]
        good = pl.when(pl.Series(values=[error is None for error in self.errors], dtype=pl.Boolean))
        columns = {
            "row": np.concatenate(self.rows) if self.rows else np.zeros(0, "int64"),
            "source": pl.Series(self.sources, dtype=pl.String),
            "position": np.concatenate(self.positions) if self.positions else np.zeros(0, "int64"),
            "prediction": pl.Series(first.argmax(1) if len(first) else [], dtype=pl.Int64),
            FIRST: pl.Series(first).cast(pl.List(pl.Float32)),
            "error": pl.Series(self.errors, dtype=pl.String),
        }
        named = {column_of(name): pl.Series(rows).cast(pl.List(pl.Float32)) for name, rows in found.items()}
        columns |= {name: rows for name, rows in named.items() if name != FIRST}
        blanked = [good.then(name).otherwise(None).alias(name) for name in ("prediction", *named)]
        return pl.DataFrame(columns).with_columns(*blanked)

    @property
    def _outputs(self) -> list[str]:
        return [FIRST, *sorted(set(self.answers[0]) - {FIRST})]


def column_of(output: str) -> str:
    """Return the column of an output: its name, or ``output_`` and its name where a column has that name already.

    >>> column_of("size"), column_of("error")
    ('size', 'output_error')
    """
    return f"output_{output}" if output in ("row", "source", "position", "prediction", "error") else output


def _answer_chunk(job: InferenceJob, number: int, sources: list[InputSource], answer: Answer) -> None:
    """Answer a chunk and make its part file visible by one rename."""
    chunk = ChunkAnswers()
    for index, first, last, start in job.pieces(number):
        for at in range(first, last, job.batch):
            batch = sources[index].read(at, min(last, at + job.batch))
            count = len(batch.errors)
            chunk.answers.append(_answer_rows(answer, batch.values))
            chunk.errors += batch.errors
            chunk.sources += batch.names
            chunk.positions.append(np.arange(at, at + count))
            chunk.rows.append(np.arange(start + at - first, start + at - first + count))
    if not chunk.answers:  # the columns of an empty file are those of any other
        chunk.answers.append(_answer_rows(answer, {name: _no_rows(spec) for name, spec in job.wanted.items()}))
    part = job.paths.part(number)
    temporary = part.with_name(f".{part.name}.{os.getpid()}.tmp")
    chunk.frame().write_parquet(temporary)
    temporary.rename(part)


def _no_rows(spec: InputSpec) -> Array:
    return np.zeros((0, *(size or 1 for size in spec.shape)), spec.dtype)


def _answer_rows(answer: Answer, values: dict[str, Array]) -> dict[str, Array]:
    count = len(next(iter(values.values())))
    if not count:
        return {name: np.zeros((0, 1), "float32") for name in answer(_one_row(values))}
    return {name: np.asarray(found).reshape(count, -1).astype("float32") for name, found in answer(values).items()}


def _one_row(values: dict[str, Array]) -> dict[str, Array]:
    return {name: np.zeros((1, *array.shape[1:]), array.dtype) for name, array in values.items()}


def join(job: InferenceJob) -> None:
    """Stream the part files into the output, in the order of rows; only the first rank to call this does the work."""
    try:
        job.paths.joining.mkdir()
    except FileExistsError:
        return
    import polars as pl

    temporary = job.output.with_name(f".{job.output.name}.{os.getpid()}.tmp")
    try:
        pl.scan_parquet([job.paths.part(number) for number in range(job.chunks)]).sink_parquet(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.rename(job.output)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    shutil.rmtree(job.paths.parts, ignore_errors=True)
