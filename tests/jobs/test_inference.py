"""Batch inference: every row answered once, in order, the same for any number of ranks, and after an interruption."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from saman.configs.errors import UserError
from saman.jobs.inference import InferenceRequest, count_chunks, prepare, run
from saman.registry.lifecycle.publish import publish
from saman.runs.folder import RunFolder

MakeRun = Callable[..., RunFolder]
pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, real_run: MakeRun) -> Path:
    folder = tmp_path_factory.mktemp("infer")
    publish(real_run(folder, "synthetic", "vectors"), folder / "models")
    return folder / "models"


def _inputs(folder: Path, rows: int = 3000) -> tuple[list[Path], Any]:
    """Two files, with bad rows at 5 and at the first of the second file."""
    values = np.random.default_rng(3).normal(size=(rows, 64)).astype("float32")
    values[5, 3], values[1000, 0] = np.nan, np.inf
    np.save(folder / "a.npy", values[:1000])
    np.savez_compressed(folder / "b.npz", inputs=values[1000:])
    return [folder / "a.npy", folder / "b.npz"], values


def _digest(output: Path) -> str:
    return hashlib.sha256(pl.read_parquet(output).write_json().encode()).hexdigest()


def _direct(models: Path, values: Any) -> Any:
    import tensorflow as tf

    serve = tf.saved_model.load(str(models / "vectors" / "1")).signatures["serving_default"]
    return serve(inputs=tf.constant(values))["outputs"].numpy()


def test_results_are_the_same_for_any_number_of_ranks(models: Path, tmp_path: Path) -> None:
    files, values = _inputs(tmp_path)
    found = {}
    for ranks in (1, 3):
        output = tmp_path / f"{ranks}.parquet"
        request = prepare(models, "vectors:1", files, output, batch=64)
        seen: list[tuple[int, int]] = []
        result = run(request, tmp_path / "runs", ranks, progress=lambda *done, seen=seen: seen.append(done))
        assert (result.rows, result.bad) == (3000, 2)
        assert [(bad.row, bad.source, bad.position) for bad in result.first_bad] == [
            (5, "a.npy", 5),
            (1000, "b.npz", 0),
        ]
        assert seen and seen[-1][1] == 3
        assert not request.job.exists()
        found[ranks] = _digest(output)
    assert found[1] == found[3]
    frame = pl.read_parquet(tmp_path / "3.parquet")
    assert frame["row"].to_list() == list(range(3000))
    good = frame.filter(pl.col("error").is_null())
    kept = np.delete(values, [5, 1000], 0)
    assert np.allclose(np.array(good["outputs"].to_list()), _direct(models, kept), atol=1e-6)
    assert good["prediction"].to_list() == _direct(models, kept).argmax(1).tolist()
    assert frame.filter(pl.col("error").is_not_null())["outputs"].null_count() == 2


def _start(request: InferenceRequest, rank: int, size: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {"SAMAN_FIRST_RANK": str(rank), "SAMAN_SIZE": str(size)}
    command = [sys.executable, "-m", "saman.trainers.infer", "work", str(request.job)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def test_a_killed_job_goes_on_where_it_stopped_also_on_another_number_of_ranks(models: Path, tmp_path: Path) -> None:
    files, _ = _inputs(tmp_path, 60_000)
    whole, output = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    run(prepare(models, "vectors", files, whole, batch=32), tmp_path / "runs", 1)
    request = prepare(models, "vectors", files, output, batch=32)
    process = _start(request, 0, 3)
    deadline = time.monotonic() + 60
    while count_chunks(request.job)[0] < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in (request.job / "parts").glob("*.parquet")}
    assert 2 <= len(done) < count_chunks(request.job)[1] and not output.exists()
    with pytest.raises(UserError, match="different batch"):
        prepare(models, "vectors", files, output, batch=64)
    again = prepare(models, "vectors", files, output, batch=32)
    assert {path.name: path.stat().st_mtime_ns for path in (again.job / "parts").glob("*.parquet")} == done
    run(again, tmp_path / "runs", 2)
    assert _digest(output) == _digest(whole)
    with pytest.raises(UserError, match="the file exists"):
        prepare(models, "vectors", files, output)


def test_what_cannot_be_answered_is_refused_before_anything_starts(models: Path, tmp_path: Path) -> None:
    files, _ = _inputs(tmp_path)
    np.save(tmp_path / "wrong.npy", np.zeros((3, 5)))
    for inputs, output, problem in (
        ([tmp_path / "none.npy"], "o.parquet", "no such file"),
        ([tmp_path / "wrong.npy"], "o.parquet", r"shape \[5\], the model takes \[64\]"),
        (files, "o.csv", "Parquet"),
        ([], "o.parquet", "no input is named"),
    ):
        with pytest.raises(UserError, match=problem):
            prepare(models, "vectors", inputs, tmp_path / output)
    for spec in ("vectors:7", "vectors:stable", "none", "../vectors"):
        with pytest.raises(UserError):
            prepare(models, spec, files, tmp_path / "o.parquet")
    assert not list(tmp_path.glob(".*.saman"))


def test_input_that_changed_under_an_unfinished_job_is_noticed(models: Path, tmp_path: Path) -> None:
    files, values = _inputs(tmp_path)
    prepare(models, "vectors", files, tmp_path / "o.parquet")
    (tmp_path / ".o.parquet.saman" / "parts" / "00000000.parquet").write_bytes(b"")
    np.save(files[0], values[:999])
    with pytest.raises(UserError, match="changed since this job began"):
        prepare(models, "vectors", files, tmp_path / "o.parquet")
    prepare(models, "vectors", files, tmp_path / "o.parquet", restart=True)


def test_no_rows_give_an_empty_file(models: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", np.zeros((0, 64), "float32"))
    request = prepare(models, "vectors", [tmp_path / "none.npy"], tmp_path / "o.parquet")
    assert run(request, tmp_path / "runs").rows == 0


def _peak_bytes(request: InferenceRequest) -> int:
    """The most memory that one rank, joining included, ever held."""
    process = _start(request, 0, 1)
    peak = 0
    while process.poll() is None:
        # Not wait4's ru_maxrss, which begins with what the forking parent held.
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            peak = int(line.split()[1]) * 1024 if line.startswith("VmHWM") else peak
        time.sleep(0.02)
    assert process.returncode == 0
    return peak


def test_memory_does_not_grow_with_the_input(models: Path, tmp_path: Path) -> None:
    peaks = {}
    for rows in (100_000, 1_000_000):
        path = tmp_path / f"{rows}.npy"
        stored = np.lib.format.open_memmap(path, mode="w+", dtype="float32", shape=(rows, 64))
        rng = np.random.default_rng(0)
        for start in range(0, rows, 100_000):
            stored[start : start + 100_000] = rng.standard_normal((100_000, 64), dtype="float32")
        del stored
        request = prepare(models, "vectors", [path], tmp_path / f"{rows}.parquet", batch=2048)
        peaks[rows] = _peak_bytes(request)
        assert pl.scan_parquet(request.output).select(pl.len()).collect().item() == rows
        path.unlink()
    print(f"peak memory: {peaks}")
    assert peaks[1_000_000] - peaks[100_000] < 0.5 * 1_000_000 * 64 * 4  # half of what the input holds
