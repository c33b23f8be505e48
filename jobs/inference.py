"""Batch inference: predictions of a version for any number of rows, on many ranks, resumable, in a Parquet file."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saman.configs.errors import ExitCode, UserError
from saman.configs.schemas.script import Script
from saman.registry.store import disk
from saman.registry.versions import find_version
from saman.runs.commands import run_command
from saman.runs.records.inference import InferencePaths, InferencePlanRecord, InferenceRequestRecord

if TYPE_CHECKING:
    from saman.configs.schemas.cluster import Cluster
    from saman.launcher.supervision.outcome import Outcome
    from saman.slurm.submission.submit import Submission

BATCH_ROWS, CHUNK_BATCHES = 256, 16
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class InferenceRequest:
    """A version, inputs and an output. ``job`` is the folder that ranks share, beside the output."""

    model: str
    version: int
    job: Path
    inputs: tuple[Path, ...]
    output: Path


@dataclass(frozen=True)
class InferenceResult:
    """The result. ``first_bad`` are the first bad rows: row, source, position in the source, reason."""

    output: Path
    rows: int
    bad: int
    first_bad: tuple[tuple[int, str, int, str], ...]


def prepare(
    models_dir: Path,
    spec: str,
    inputs: Sequence[Path],
    output: Path,
    *,
    batch: int = BATCH_ROWS,
    overwrite: bool = False,
    restart: bool = False,
) -> InferenceRequest:
    """Check the request and its inputs, and write the job that ranks read; continues an interrupted job.

    Raises ``UserError`` for inputs that are missing or do not fit the model, and for a folder of another job.
    """
    version = find_version(models_dir, spec)
    path = version.require_visible()
    about = version.read_manifest()
    named = about.signature.get("inputs") or {}
    if len(named) != 1:
        problem = f"the model has {len(named)} inputs; batch inference needs exactly 1"
        raise UserError(problem, where=f"{version.folder.name} version {version.number}")
    [(name, takes)] = named.items()
    if output.suffix not in (".parquet", ".pq"):
        raise UserError("the output must be a Parquet file", where=str(output), remedy="end its name with .parquet")
    if not inputs:
        raise UserError("no input is named", where="--input", remedy="a file or a folder of images")
    if batch < 1:
        raise UserError(f"a batch needs at least 1 row, not {batch}", remedy="--batch 1 or more")
    missing = [UserError("no such file or folder", where=str(path)) for path in inputs if not path.exists()]
    if missing:
        raise UserError(missing[0].problem, where=missing[0].where, others=missing[1:])
    asked = InferenceRequestRecord(
        model=str(path),
        manifest=version.record.manifest,
        inputs=tuple(str(path.absolute()) for path in inputs),
        output=str(output.absolute()),
        input_name=name,
        dtype=takes["dtype"],
        shape=tuple(takes["shape"][1:]),
        batch=batch,
        chunk=batch * CHUNK_BATCHES,
    )
    job = InferencePaths.beside(output).path
    _begin(job, asked, output, overwrite=overwrite, restart=restart)
    _look(job)
    return InferenceRequest(version.folder.name, version.number, job, tuple(inputs), output.absolute())


def _begin(job: Path, asked: InferenceRequestRecord, output: Path, *, overwrite: bool, restart: bool) -> None:
    with disk.explained(job, "the job"):
        if restart:
            disk.remove_tree(job)
        paths = InferencePaths(job)
        earlier = InferenceRequestRecord.read(paths.request)
        if earlier is not None and earlier != asked:
            changed = ", ".join(earlier.differences(asked))
            problem = f"an unfinished job with a different {changed} exists"
            raise UserError(problem, where=str(job), remedy="--restart discards it")
        if output.exists() and not overwrite:
            raise UserError("the file exists", where=str(output), remedy="--overwrite, or another name")
        job.mkdir(parents=True, exist_ok=True)
        disk.remove_tree(paths.joining)  # of a process that was killed
        asked.write(paths.request)


def _look(job: Path) -> None:
    """Count the rows of the inputs, by the code that will read them."""
    command = [sys.executable, "-m", "saman.trainers.infer", "plan", str(job)]
    done = run_command(command)
    if done.returncode == 0:
        return
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    try:
        problem = str(json.loads(last)["problem"])
    except (ValueError, KeyError, TypeError):
        problem = last
    if not InferencePaths(job).part_count():
        disk.remove_tree(job)
        raise UserError(problem, where="--input")
    raise UserError(problem, where="--input", remedy="--restart starts again")


def script(request: InferenceRequest, resources: Any) -> Script:
    """The program of every rank, for this machine or Slurm."""
    from saman.configs.problems import validated

    values = {
        "name": f"infer-{request.model}"[:64],
        "command": [sys.executable, "-m", "saman.trainers.infer", "work", str(request.job)],
        "directory": str(Path.cwd()),
        "resources": resources,
    }
    return validated(Script, values, "saman infer")


def run(
    request: InferenceRequest, runs_dir: Path, ranks: int = 1, *, progress: Progress | None = None
) -> InferenceResult:
    """Predict on this machine, on ``ranks`` ranks.

    Raises:
        RanksFailed: a rank failed; the same call continues the job.
    """
    from saman.launcher.local import run_script
    from saman.launcher.planning import Options

    if ranks < 1:
        raise UserError(f"{ranks} ranks cannot predict", where="-np", remedy="1 or more")
    spec = script(request, {"nodes": 1, "ranks_per_node": ranks})
    with _watched(request.job, progress):
        outcome = run_script(spec, Options(runs_dir=runs_dir))
    _raise_failure(outcome, request)
    result = read_result(request.output)
    shutil.rmtree(request.job, ignore_errors=True)
    return result


def submit(request: InferenceRequest, cluster: Cluster, runs_dir: Path, ranks: int = 1, nodes: int = 1) -> Submission:
    """Predict in a job on ``cluster``, on ``ranks`` ranks spread evenly over ``nodes``.

    Raises:
        UserError: the ranks cannot be spread evenly, or the job does not fit the cluster.
    """
    from saman.slurm.submission import planning
    from saman.slurm.submission import submit as slurm

    if ranks % nodes:
        raise UserError(f"{ranks} ranks cannot be spread evenly over {nodes} nodes", where="-np")
    spec = script(request, {"nodes": nodes, "ranks_per_node": ranks // nodes})
    return slurm.submit(planning.plan(spec, cluster, runs_dir, None))


def _raise_failure(outcome: Outcome, request: InferenceRequest) -> None:
    if outcome.exit_code == 0 and request.output.is_file() and not InferencePaths(request.job).parts.is_dir():
        return
    if outcome.exit_code == 0:
        problem = "every rank completed, but the parts were not joined"
    else:
        problem = outcome.message
    raise RanksFailed(problem, where=str(outcome.run.path), remedy="the same command continues the job")


class RanksFailed(UserError):  # noqa: N818  (as the other refusals are called)
    """A rank of a valid request failed."""

    exit_code = ExitCode.RUN_FAILED


def totals(job: Path) -> tuple[int, int]:
    """Number of completed chunks, and of all chunks."""
    paths = InferencePaths(job)
    asked, found = InferenceRequestRecord.read(paths.request), InferencePlanRecord.read(paths.plan)
    if asked is None or found is None:
        return 0, 1
    chunks = max(1, -(-sum(found.rows) // asked.chunk))
    return (paths.part_count() if paths.parts.is_dir() else chunks), chunks


@contextmanager
def _watched(job: Path, progress: Progress | None) -> Iterator[None]:
    """Report the number of completed chunks twice a second."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            if progress is not None:
                progress(*totals(job))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def read_result(output: Path, most: int = 10) -> InferenceResult:
    """Count the rows of a result, and read the first bad ones."""
    import polars as pl

    frame = pl.scan_parquet(output)
    rows, bad = frame.select(pl.len(), pl.col("error").count().alias("bad")).collect().row(0)
    chosen = (
        frame.filter(pl.col("error").is_not_null()).select("row", "source", "position", "error").head(most).collect()
    )
    first = tuple((int(row), str(source), int(position), str(why)) for row, source, position, why in chosen.iter_rows())
    return InferenceResult(output, int(rows), int(bad), first)
