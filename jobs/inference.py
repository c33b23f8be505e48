"""Batch inference: a version answers any number of rows on many ranks, resumable, into a Parquet file."""

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
from saman.registry.lifecycle.verify import require_sound
from saman.registry.versions import ModelVersion, find_version
from saman.runs.commands import run_command
from saman.runs.files import disk
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.records.inference import InferencePaths, InferencePlanRecord, InferenceRequestRecord, NamedInput

if TYPE_CHECKING:
    from saman.configs.schemas.cluster import Cluster
    from saman.launcher.supervision.outcome import Outcome
    from saman.slurm.submission.submit import Submission

BATCH_ROWS, CHUNK_BATCHES = 256, 16
ReportProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class InferenceRequest:
    """A checked request. ``job`` is the folder beside the output that all ranks share."""

    model: str
    version: int
    job: Path
    inputs: tuple[Path, ...]
    output: Path


@dataclass(frozen=True)
class BadRow:
    """A row without an answer: its number in all inputs, its file, its position there, and the reason."""

    row: int
    source: str
    position: int
    error: str


@dataclass(frozen=True)
class InferenceResult:
    """A finished inference; ``first_bad`` lists the first of the ``bad`` rows."""

    output: Path
    rows: int
    bad: int
    first_bad: tuple[BadRow, ...]


class RankFailure(UserError):  # noqa: N818  (named like the other refusals)
    """A rank of a correct request failed."""

    exit_code = ExitCode.RUN_FAILED


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
    """Check the request and write the job that the ranks read; an interrupted job of the same request continues.

    Args:
        models_dir: The models folder.
        spec: ``NAME``, ``NAME:VERSION`` or ``NAME:LABEL``; a name alone means the stable version, else the newest.
        inputs: Files, or folders of images.
        output: The Parquet file.
        batch: Rows per call of the model.
        overwrite: Replace an existing output.
        restart: Discard an interrupted job.

    Raises:
        UserError: The version is damaged, or its policy requires a signature that it lacks; an input is missing or does
            not fit the model; or an unfinished job has another request.
    """
    version = find_version(models_dir, spec)
    version.require_visible()
    require_sound(version.folder, version.number)
    record = _make_record(version, inputs, output, batch)
    job = InferencePaths.beside(output)
    _begin(job, record, output, overwrite=overwrite, restart=restart)
    _count_rows(job)
    return InferenceRequest(version.folder.name, version.number, job.path, tuple(inputs), output.absolute())


def _make_record(version: ModelVersion, inputs: Sequence[Path], output: Path, batch: int) -> InferenceRequestRecord:
    model = version.require_visible()
    tensors = version.read_manifest().signature.inputs
    if not tensors:
        problem = "the serving signature of the model has no inputs"
        raise UserError(problem, where=f"{version.folder.name} version {version.number}")
    first, *others = (NamedInput(name, tensor.dtype, tuple(tensor.shape[1:])) for name, tensor in tensors.items())
    if output.suffix not in (".parquet", ".pq"):
        raise UserError("the output must be a Parquet file", where=str(output), remedy="end its name with .parquet")
    if not inputs:
        raise UserError("no input is named", where="--input", remedy="a file or a folder of images")
    if batch < 1:
        raise UserError(f"a batch needs at least 1 row, not {batch}", remedy="--batch 1 or more")
    missing = [UserError("no such file or folder", where=str(path)) for path in inputs if not path.exists()]
    if missing:
        raise UserError(missing[0].problem, where=missing[0].where, others=missing[1:])
    return InferenceRequestRecord(
        model=str(model),
        manifest=version.record.manifest,
        inputs=tuple(str(path.absolute()) for path in inputs),
        output=str(output.absolute()),
        input_name=first.name,
        dtype=first.dtype,
        shape=first.shape,
        batch=batch,
        chunk=batch * CHUNK_BATCHES,
        others=tuple(others),
    )


def _begin(
    job: InferencePaths, record: InferenceRequestRecord, output: Path, *, overwrite: bool, restart: bool
) -> None:
    with explain_write_errors(job.path, "the job", "--output"):
        if restart:
            disk.remove_tree(job.path)
        earlier = InferenceRequestRecord.read(job.request)
        if earlier is not None and (changed := record.differences(earlier)):
            problem = f"an unfinished job with a different {', '.join(changed)} exists"
            raise UserError(problem, where=str(job.path), remedy="--restart discards it")
        if output.exists() and not overwrite:
            raise UserError("the file exists", where=str(output), remedy="--overwrite, or another name")
        job.path.mkdir(parents=True, exist_ok=True)
        disk.remove_tree(job.joining)  # left by a killed process
        record.write(job.request)


def _count_rows(job: InferencePaths) -> None:
    """Count the rows of all inputs in a process, with the code that will read them."""
    command = [sys.executable, "-m", "saman.trainers.infer", "plan", str(job.path)]
    done = run_command(command)
    if done.returncode == 0:
        return
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    try:
        problem = str(json.loads(last)["problem"])
    except (ValueError, KeyError, TypeError):
        problem = last
    if not job.part_count():
        disk.remove_tree(job.path)
        raise UserError(problem, where="--input")
    raise UserError(problem, where="--input", remedy="--restart starts again")


def make_script(request: InferenceRequest, resources: Any) -> Script:
    """The program of a batch-inference job, which every rank runs here or through Slurm."""
    from saman.configs.problems import validated

    values = {
        "name": f"infer-{request.model}"[:64],
        "command": [sys.executable, "-m", "saman.trainers.infer", "work", str(request.job)],
        "directory": str(Path.cwd()),
        "resources": resources,
    }
    return validated(Script, values, "saman infer")


def run(
    request: InferenceRequest, runs_dir: Path, ranks: int = 1, *, progress: ReportProgress | None = None
) -> InferenceResult:
    """Run the inference on this machine; the same request again continues an interrupted job.

    Args:
        request: The prepared request.
        runs_dir: The folder of runs.
        ranks: The number of ranks.
        progress: Receives completed and total chunks, about twice a second.

    Raises:
        RankFailure: A rank failed.
        UserError: ``ranks`` is less than 1.
    """
    from saman.launcher.local import run_script
    from saman.launcher.planning import Options

    if ranks < 1:
        raise UserError(f"{ranks} ranks are too few", where="-np", remedy="1 or more")
    spec = make_script(request, {"nodes": 1, "ranks_per_node": ranks})
    with _report_progress(request.job, progress):
        outcome = run_script(spec, Options(runs_dir=runs_dir))
    _raise_failure(outcome, request)
    result = read_result(request.output)
    shutil.rmtree(request.job, ignore_errors=True)
    return result


def submit(request: InferenceRequest, cluster: Cluster, runs_dir: Path, ranks: int = 1, nodes: int = 1) -> Submission:
    """Submit the inference to Slurm.

    Args:
        request: The prepared request.
        cluster: The cluster.
        runs_dir: The folder of runs.
        ranks: The number of ranks, a multiple of ``nodes``.
        nodes: The number of nodes.

    Raises:
        UserError: The ranks cannot be spread evenly, or the job does not fit the cluster.
    """
    from saman.slurm.submission import planning
    from saman.slurm.submission import submit as slurm

    if ranks % nodes:
        raise UserError(f"{ranks} ranks cannot be spread evenly over {nodes} nodes", where="-np")
    spec = make_script(request, {"nodes": nodes, "ranks_per_node": ranks // nodes})
    return slurm.submit(planning.plan(spec, cluster, runs_dir, None))


def _raise_failure(outcome: Outcome, request: InferenceRequest) -> None:
    if outcome.exit_code == 0 and request.output.is_file() and not InferencePaths(request.job).parts.is_dir():
        return
    problem = outcome.message if outcome.exit_code else "every rank completed, but the parts were not joined"
    raise RankFailure(problem, where=str(outcome.run.path), remedy="the same command continues the job")


def count_chunks(job: Path) -> tuple[int, int]:
    """Count the completed chunks of a job of batch inference, and all of them, for ``saman status``."""
    paths = InferencePaths(job)
    request, plan = InferenceRequestRecord.read(paths.request), InferencePlanRecord.read(paths.plan)
    if request is None or plan is None:
        return 0, 1
    chunks = max(1, -(-sum(plan.rows) // request.chunk))
    return (paths.part_count() if paths.parts.is_dir() else chunks), chunks


@contextmanager
def _report_progress(job: Path, progress: ReportProgress | None) -> Iterator[None]:
    """Report completed chunks from a thread while the body runs."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            if progress is not None:
                progress(*count_chunks(job))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def read_result(output: Path, most: int = 10) -> InferenceResult:
    """Count the rows of a completed batch-inference job, and read its first ``most`` bad rows."""
    import polars as pl

    frame = pl.scan_parquet(output)
    rows, bad = frame.select(pl.len(), pl.col("error").count().alias("bad")).collect().row(0)
    columns = ("row", "source", "position", "error")
    found = frame.filter(pl.col("error").is_not_null()).select(*columns).head(most).collect()
    first = tuple(BadRow(int(row), str(source), int(at), str(why)) for row, source, at, why in found.iter_rows())
    return InferenceResult(output, int(rows), int(bad), first)
