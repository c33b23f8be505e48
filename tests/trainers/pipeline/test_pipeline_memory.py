"""Four stages train a model within a memory limit that is too small for one process, and use the predicted memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rank_starts import HERE, make_run, start

from saman.configs.schemas.experiment import Experiment
from saman.pipeline.chain import Chain, Layer, Link, StageCosts
from saman.pipeline.choose import pipeline_plan
from saman.runs.files.whole import read_lines
from saman.runs.folder import RunFolder

pytestmark = [pytest.mark.ranks, pytest.mark.mpi, pytest.mark.slow]
WIDTH, LAYERS, STAGES = 1900, 24, 4
# Adam: weights, summed gradient, a micro-batch's gradient, two moments
WHOLE_BYTES = 5 * 4 * WIDTH * WIDTH * LAYERS


def wide(strategy: str, width: int = WIDTH) -> Experiment:
    ranks = STAGES if strategy == "pipeline" else 1
    # Stages of as many layers each: the memory limit, not the time, is what is tested.
    cuts = [f"dense_{LAYERS // STAGES * stage}" for stage in range(1, STAGES)]
    return Experiment.model_validate(
        {
            "name": "wide",
            "model": {"build": "mlp", "args": {"hidden": [width] * LAYERS}},
            "data": {
                "source": "synthetic",
                "args": {"shape": [8, 8, 1], "classes": 10, "examples": 16},
                "validation_fraction": 0,
            },
            "train": {
                "strategy": strategy,
                "pipeline": {"stages": STAGES, "cuts": cuts},
                "global_batch_size": 16,
                "micro_batches": 4,
                "optimizer": "adam",
                "epochs": 1,
                "checkpoint": {"every_epochs": None},
            },
            "resources": {"ranks_per_node": ranks},
        }
    )


def trained(run: RunFolder, processes: int, limit: int = 0) -> Any:
    environment = {"LIMIT_BYTES": str(limit), "MALLOC_ARENA_MAX": "2"}
    return start(processes, str(HERE / "train_within_memory.py"), str(run.path), **environment)


def increase(run: RunFolder, stage: int) -> int:
    """Return the peak memory of a stage's process, above its memory before the model was built."""
    last = read_lines(run.attempt(1).telemetry(stage))[0][-1]
    return int(last["memory_bytes"]) - int(last["memory_start_bytes"])


def test_four_stages_train_within_a_limit_in_which_one_process_cannot(tmp_path: Path) -> None:
    small = make_run(tmp_path, wide("pipeline", 8))
    done = trained(small, STAGES)
    assert done.returncode == 0, done.stderr[-3000:]
    own = max(int(file.read_text()) for file in small.path.glob("address-space-*"))
    limit = own + WHOLE_BYTES * 6 // 10

    assert trained(make_run(tmp_path, wide("single")), 1, limit).returncode != 0
    # It failed for the limit: with more memory it trains.
    roomy = trained(make_run(tmp_path, wide("single")), 1, own + 2 * WHOLE_BYTES)
    assert roomy.returncode == 0, roomy.stderr[-3000:]

    run = make_run(tmp_path, wide("pipeline"))
    done = trained(run, STAGES, limit)
    assert done.returncode == 0, done.stderr[-3000:]
    for stage in range(STAGES):
        over_itself = increase(run, stage) - increase(small, stage)
        print(f"stage {stage}: {over_itself >> 20} MiB, predicted {predicted(stage) >> 20} MiB")
        assert over_itself == pytest.approx(predicted(stage), rel=0.2), f"stage {stage}"


def predicted(stage: int) -> int:
    """Return the partitioner's prediction; the activations of these 4 examples are negligible beside the weights."""
    sizes = [4 * WIDTH * (64 if at == 0 else WIDTH) for at in range(LAYERS)]
    here = LAYERS // STAGES
    chain = Chain(
        tuple(Layer(f"dense_{at}", 0, 0, size, 0) for at, size in enumerate(sizes)), (0,) * LAYERS, (0,) * LAYERS, {}
    )
    costs = StageCosts(chain, pipeline_plan(wide("pipeline")), Link())
    return costs.memory_bytes(stage, stage * here, (stage + 1) * here)
