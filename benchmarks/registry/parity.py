"""Prints the parity of every format with a model trained on real images, and infers a million rows on 1 and 2 ranks.

``python benchmarks/registry/parity.py [FOLDER WITH FASHION-MNIST'S IDX FILES]``; digits without a folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "registry")]

from registry_kit import experiment  # noqa: E402
from rich.console import Console  # noqa: E402

from saman.jobs.inference import prepare, run  # noqa: E402
from saman.registry.formats.conversion import FORMATS, export_all  # noqa: E402
from saman.registry.formats.parity import parity_table  # noqa: E402
from saman.registry.lifecycle.publish import publish  # noqa: E402
from saman.runs.folder import RunFolder  # noqa: E402

ROWS = 1_000_000


def trained(folder: Path, source: str, steps: int, model: str) -> None:
    """Train and publish a small model of ``source``."""
    made = RunFolder.create(folder / "runs", experiment(model=model))
    command = [sys.executable, str(ROOT / "tests/registry/make_export.py"), str(made.export), source, str(steps), "0"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})
    publish(made, folder / "models")


def million(folder: Path) -> None:
    """One million rows of 64 features on 1 and on 2 ranks; seconds include starting TensorFlow in every rank."""
    values = np.lib.format.open_memmap(folder / "rows.npy", mode="w+", dtype="float32", shape=(ROWS, 64))
    rng = np.random.default_rng(0)
    for start in range(0, ROWS, 100_000):
        values[start : start + 100_000] = rng.standard_normal((100_000, 64), dtype="float32")
    del values
    taken = {}
    for ranks in (1, 2):
        start_time = time.perf_counter()
        request = prepare(folder / "models", "vectors", [folder / "rows.npy"], folder / f"{ranks}.parquet", batch=2048)
        result = run(request, folder / "runs", ranks)
        taken[ranks] = time.perf_counter() - start_time
        print(json.dumps({"ranks": ranks, "rows": result.rows, "bad": result.bad}))
    print(json.dumps({"seconds of 1 rank / seconds of 2 ranks": round(taken[1] / taken[2], 2)}))


def main() -> None:
    source = sys.argv[1] if len(sys.argv) > 1 else "digits"
    with tempfile.TemporaryDirectory(prefix="saman-") as scratch:
        folder = Path(scratch)
        trained(folder, source, 900, "images")
        trained(folder, "synthetic", 300, "vectors")
        names = [name for name in FORMATS if name != "keras"]  # its Keras file takes normalised inputs
        rows = [convert()[1] for convert in export_all(folder / "models", "images:1", names, tolerance=0.02)]
        Console(width=150).print(parity_table(rows))
        million(folder)


if __name__ == "__main__":
    main()
