"""Every engine answers a version's stored sample alike, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saman.configs.errors import UserError
from saman.runs.engines.interface import BatchLimits
from saman.serving.supervision.engine_process import EngineFailure, EngineProcess

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]


def test_openvino_and_tensorflow_answer_alike(real_exports: dict[str, Path], tmp_path: Path) -> None:
    with np.load(real_exports["good"] / "validation.npz") as stored:
        inputs = {"inputs": stored["inputs"][:20]}
    answers = []
    for kind in ("openvino", "tensorflow"):
        engine = EngineProcess(kind, tmp_path / kind, 1, BatchLimits(), is_rehearsal=True)
        try:
            engine.load(real_exports["good"] / "saved_model")
            answers.append(engine.ask("serving_default", inputs)["outputs"])
            with pytest.raises(EngineFailure):
                engine.ask("no_signature", inputs)
            with pytest.raises(EngineFailure):
                engine.ask("serving_default", {"other": inputs["inputs"]})
            assert len(engine.ask("serving_default", inputs)["outputs"]) == 20  # it goes on
        finally:
            engine.kill()
    np.testing.assert_allclose(answers[0], answers[1], rtol=0, atol=1e-5)


def test_a_model_that_cannot_be_loaded_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"no model")
    engine = EngineProcess("openvino", tmp_path / "s", 1, BatchLimits())
    try:
        with pytest.raises(UserError, match="openvino"):
            engine.load(tmp_path / "model")
    finally:
        engine.kill()
