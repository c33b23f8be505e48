"""The ONNX Runtime engine, live: a model of 82 bytes that doubles its input."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from saman.runs.engines.interface import BatchLimits
from saman.serving.supervision.engine_process import EngineFailure, EnginePool, EngineProcess

pytest.importorskip("onnxruntime")
# y = x · 2 for x of shape [any, 2], opset 17; written by onnx.helper.
DOUBLING = (
    "CAg6SAoOCgF4CgFrEgF5IgNNdWwSAWcqDQgBEAEiBAAAAEBCAWtaEQoBeBIMCgoIARIGCgAKAggCYhEKAXkSDAoKCAESBgoACgIIAkIECgAQEQ=="
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    pool = EnginePool(tmp_path, 1, BatchLimits())
    yield pool.take("onnx")
    pool.close()


def test_onnx_runtime_computes_in_a_process_of_its_own(engine: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(base64.b64decode(DOUBLING))
    engine.load(tmp_path)
    for rows in (1, 3):
        given = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
        [(name, found)] = engine.ask("serving_default", {"x": given}).items()
        assert name == "y" and found.dtype == np.float32
        np.testing.assert_array_equal(found, 2 * given)
    good = np.zeros((1, 2), np.float32)
    for signature, inputs in (("other", {"x": good}), ("serving_default", {"z": good}),
                              ("serving_default", {"x": np.zeros((1, 3), np.float32)})):  # fmt: skip
        with pytest.raises(EngineFailure):
            engine.ask(signature, inputs)
    assert engine.status() is None  # a refused request ends nothing


def test_a_file_that_is_no_model_is_refused(engine: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(EngineFailure, match="onnx"):
        engine.load(tmp_path)
