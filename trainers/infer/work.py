"""The work of a rank: answer its chunks that have no part file; the last rank joins the parts."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from saman.runs.ranks.heartbeats import Heartbeat
from saman.trainers.infer.job import InferenceJob, load
from saman.trainers.infer.rows import Array, RowSource
from saman.trainers.infer.sources import open_source


def work(folder: Path, rank: int, size: int) -> None:
    """Answer the chunks ``rank``, ``rank + size``, … of the job in ``folder``, then join if all are answered."""
    job = load(folder)
    mine = [number for number in range(rank, job.chunks, size) if not job.paths.part(number).is_file()]
    heartbeat = Heartbeat.from_environment()
    if mine:
        answer = _load_model(job)
        sources = [open_source(path, job.wanted) for path in job.inputs]
        for count, number in enumerate(mine, start=1):
            _answer_chunk(job, number, sources, answer)
            if heartbeat is not None:
                heartbeat.beat("script", count, total_steps=len(mine))
    if len(job.done()) == job.chunks:
        join(job)


def _load_model(job: InferenceJob) -> Callable[[Array], Array]:
    """Load the version with one thread: sums in another order would make the result depend on the machine."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from saman.trainers.convert.predict import caller

    return caller(job.model)


def _answer_chunk(job: InferenceJob, number: int, sources: list[RowSource], answer: Callable[[Array], Array]) -> None:
    """Answer a chunk and make its part file visible by one rename."""
    rows: list[Array] = []
    answers: list[Array] = []
    errors: list[str | None] = []
    names: list[str] = []
    positions: list[Array] = []
    for index, first, last, start in job.pieces(number):
        for at in range(first, last, job.batch):
            piece = sources[index].read(at, min(last, at + job.batch))
            answers.append(_answered(answer, piece.values))
            errors += piece.errors
            names += piece.names
            positions.append(np.arange(at, at + len(piece.errors)))
            rows.append(np.arange(start + at - first, start + at - first + len(piece.errors)))
    _write(job.paths.part(number), rows, names, positions, answers, errors)


def _answered(answer: Callable[[Array], Array], values: Array) -> Array:
    found = np.asarray(answer(values))
    return found.reshape(len(values), -1).astype("float32")


def _write(
    part: Path,
    rows: list[Array],
    names: list[str],
    positions: list[Array],
    answers: list[Array],
    errors: list[str | None],
) -> None:
    import polars as pl

    found = np.concatenate(answers) if answers else np.zeros((0, 1), "float32")
    good = np.array([error is None for error in errors], bool)
    outputs = pl.Series("outputs", found).cast(pl.List(pl.Float32))
    frame = pl.DataFrame(
        {
            "row": np.concatenate(rows) if rows else np.zeros(0, "int64"),
            "source": pl.Series("source", names, dtype=pl.String),
            "position": np.concatenate(positions) if positions else np.zeros(0, "int64"),
            "prediction": pl.Series("prediction", found.argmax(1) if len(found) else [], dtype=pl.Int64),
            "outputs": outputs,
            "error": pl.Series("error", errors, dtype=pl.String),
            "good": good,
        }
    )
    blank = pl.when(pl.col("good"))
    frame = frame.with_columns(
        blank.then("outputs").otherwise(None).alias("outputs"),
        blank.then("prediction").otherwise(None).alias("prediction"),
    ).drop("good")
    temporary = part.with_name(f".{part.name}.{os.getpid()}.tmp")
    frame.write_parquet(temporary)
    temporary.rename(part)


def join(job: InferenceJob) -> None:
    """Join the parts in the order of rows, as a stream; only the first rank to arrive does it."""
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
