"""Runs and models for the registry's tests: exports that look like a trainer's but need no TensorFlow to make."""

from __future__ import annotations

import io
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.schemas.experiment import Experiment
from saman.registry.lifecycle.publish import PublishedVersion, publish
from saman.runs.folder import RunFolder


def experiment(name: str = "tiny", model: str = "digits", **publish_extra: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "name": name,
            "model": {"build": "mlp", "args": {"hidden": [8]}},
            "data": {"source": "digits"},
            "train": {"strategy": "single", "global_batch_size": 8},
            "publish": {"model": model, **publish_extra},
        }
    )


def fake_export(
    run: RunFolder, *, seed: int = 0, accuracy: float = 0.95, weight_bytes: int = 300, **facts: Any
) -> None:
    """What a trainer leaves in ``export/``, with random bytes for a model."""
    noise = random.Random(seed)
    saved_model = run.export / "saved_model"
    (saved_model / "variables").mkdir(parents=True)
    (saved_model / "assets").mkdir()
    (saved_model / "saved_model.pb").write_bytes(noise.randbytes(200))
    (saved_model / "fingerprint.pb").write_bytes(b"\x08\x96\x01\x10" + bytes([7 + seed % 100]))
    (saved_model / "variables" / "variables.index").write_bytes(noise.randbytes(60))
    (saved_model / "variables" / "variables.data-00000-of-00001").write_bytes(noise.randbytes(weight_bytes))
    (saved_model / "assets" / "words.txt").write_text(f"a\nb{seed}\n")
    (run.export / "model.keras").write_bytes(noise.randbytes(250))
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        inputs=rng.integers(0, 17, (12, 8, 8)).astype("float32"),
        labels=rng.integers(0, 10, 12),
        ids=np.arange(12),
    )
    (run.export / "validation.npz").write_bytes(buffer.getvalue())
    about = {
        "schema": 1,
        "checked": True,
        "max_difference": 0.0,
        "signature": {
            "name": "serving_default",
            "inputs": {"inputs": {"dtype": "float32", "shape": [None, 8, 8]}},
            "outputs": {"outputs": {"dtype": "float32", "shape": [None, 10]}},
        },
        "metrics": {"val_accuracy": accuracy, "val_loss": 1 - accuracy},
        "versions": {"tensorflow": "2.21.0", "keras": "3.15.1"},
        "data": {"source": "digits", "seed": 0},
        "statistics": {"mean": 4.9, "std": 6.0},
        **facts,
    }
    (run.export / "export.json").write_text(json.dumps(about))


def finished_run(
    folder: Path, *, model: str = "digits", seed: int = 0, condition: Any = None, **facts: Any
) -> RunFolder:
    """A run that has ended and exported."""
    extra = {"if": condition} if condition else {}
    run = RunFolder.create(folder / "runs", experiment(model=model, **extra))
    fake_export(run, seed=seed, **facts)
    run.append("completed", "supervisor")
    return run


def published(folder: Path, *, model: str = "digits", seed: int = 0, **facts: Any) -> PublishedVersion:
    """The next version of a model in ``folder/models``."""
    return publish(finished_run(folder, model=model, seed=seed, **facts), folder / "models")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under a folder and what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def is_root() -> bool:
    return os.geteuid() == 0
