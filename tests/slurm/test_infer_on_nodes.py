"""Batch inference as a Slurm job over several nodes gives what one rank here gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.registry.registry_kit import experiment
from tests.slurm.conftest import Minicluster
from tests.slurm.runs import site, submitted, told, wait_for

from saman.jobs import inference
from saman.registry.lifecycle.publish import publish
from saman.runs.folder import RunFolder

pytestmark = [pytest.mark.slurm, pytest.mark.ranks, pytest.mark.tensorflow, pytest.mark.slow]
_MAKE = Path(__file__).parents[1] / "registry" / "make_export.py"


def test_four_ranks_on_two_nodes_answer_as_one_rank_here(minicluster: Minicluster) -> None:
    shared = minicluster.shared / "infer"
    run = RunFolder.create(shared / "runs", experiment(model="vectors"))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, str(_MAKE), str(run.export), "synthetic", "50", "0"]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    publish(run, shared / "models")
    rows = np.random.default_rng(0).normal(size=(5000, 64)).astype("float32")
    rows[7, 0] = np.nan
    np.save(shared / "rows.npy", rows)

    here = inference.prepare(shared / "models", "vectors", [shared / "rows.npy"], shared / "here.parquet", batch=32)
    assert inference.run(here, shared / "runs").bad == 1
    there = inference.prepare(shared / "models", "vectors", [shared / "rows.npy"], shared / "there.parquet", batch=32)
    wanted = {"nodes": 2, "ranks_per_node": 2, "cpus_per_rank": 1, "memory_per_rank": "1G", "time_limit": "00:05:00"}
    job = submitted(inference.make_script(there, wanted), site(), minicluster.shared).run
    assert wait_for(job, seconds=150).state == "completed", told(job)
    assert {event.facts["node"] for event in job.events() if event.kind == "rank_started"} == {"node1", "node2"}
    assert pl.read_parquet(shared / "there.parquet").equals(pl.read_parquet(shared / "here.parquet"))
