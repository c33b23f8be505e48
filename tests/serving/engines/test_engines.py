"""Every engine answers a version's stored sample alike, in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from saman.configs.errors import UserError
from saman.runs.engines.interface import COMPILED, BatchLimits
from saman.serving.supervision.engine_process import EngineFailure, EnginePool, EngineProcess, twice

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[EnginePool]:
    pool = EnginePool(tmp_path, 1, BatchLimits())
    yield pool
    pool.close()


def loaded(engines: EnginePool, model: Path) -> EngineProcess:
    engine = engines.take("openvino")
    engine.load(model)
    return engine


def images(export: Path) -> dict[str, np.ndarray]:
    """Twenty of the images that the version stores."""
    with np.load(export / "validation.npz") as stored:
        return {"inputs": stored["inputs"][:20]}


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_openvino_and_tensorflow_answer_alike(real_exports: dict[str, Path], engines: EnginePool) -> None:
    inputs = images(real_exports["good"])
    answers = []
    for kind in ("openvino", "tensorflow"):
        engine = engines.take(kind, is_rehearsal=True)
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


def test_only_a_check_that_nothing_waits_for_has_the_lowest_priority(
    real_exports: dict[str, Path], engines: EnginePool
) -> None:
    found = []
    for is_rehearsal, is_urgent in ((True, False), (True, True), (False, False)):
        engine = engines.take("openvino", is_rehearsal=is_rehearsal, is_urgent=is_urgent)
        engine.load(real_exports["good"] / "saved_model")
        found.append(os.getpriority(os.PRIO_PROCESS, engine.pid) - os.getpriority(os.PRIO_PROCESS, 0))
        engine.kill()
    assert found == [19, 0, 0]


def test_a_model_that_cannot_be_loaded_is_a_message(engines: EnginePool, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(UserError, match="openvino"):
        engines.take("openvino").load(tmp_path / "model")


@pytest.mark.parametrize("kind", ["openvino", "tensorflow"])
def test_engines_of_one_template_answer_alike_whoever_of_them_is_killed(
    real_exports: dict[str, Path], engines: EnginePool, kind: str
) -> None:
    inputs = images(real_exports["good"])
    stays = engines.take(kind)
    stays.load(real_exports["good"] / "saved_model")
    right = stays.ask("serving_default", inputs)["outputs"]
    for which in ("poor", "good", "poor"):
        other = engines.take(kind)
        other.load(real_exports[which] / "saved_model")
        answer = other.ask("serving_default", inputs)["outputs"]
        assert np.array_equal(answer, right) == (which == "good")
        os.kill(other.pid, signal.SIGKILL)
        with pytest.raises(EngineFailure):
            other.ask("serving_default", inputs)
        other.kill()  # waits until it is known
        assert other.status() == -signal.SIGKILL
    assert np.array_equal(stays.ask("serving_default", inputs)["outputs"], right)


def test_the_end_of_a_template_leaves_its_engines_and_is_made_good(
    real_exports: dict[str, Path], engines: EnginePool, tmp_path: Path
) -> None:
    stays = engines.take("openvino")
    stays.load(real_exports["good"] / "saved_model")
    inputs = images(real_exports["good"])
    right = stays.ask("serving_default", inputs)["outputs"]
    os.kill(parent_of(stays.pid), signal.SIGKILL)
    other = twice(lambda: loaded(engines, real_exports["good"] / "saved_model"))
    assert parent_of(other.pid) not in (parent_of(stays.pid), os.getpid())
    for engine in (stays, other):
        assert np.array_equal(engine.ask("serving_default", inputs)["outputs"], right)
        engine.kill()
        assert engine.status() is not None


def test_what_a_rehearsal_compiled_serves_later_and_answers_the_same(
    real_exports: dict[str, Path], engines: EnginePool, tmp_path: Path
) -> None:
    answers, blobs = {}, {}
    inputs = images(real_exports["good"])
    for which in ("good", "poor"):
        model = shutil.copytree(real_exports[which] / "saved_model", tmp_path / which)
        (model / COMPILED).mkdir()
        for is_rehearsal in (True, False):
            engine = engines.take("openvino", is_rehearsal=is_rehearsal)
            engine.load(model)
            answers[which, is_rehearsal] = engine.ask("serving_default", inputs)["outputs"]
            blobs[which, is_rehearsal] = sorted(file.name for file in (model / COMPILED).iterdir())
            engine.kill()
        assert np.array_equal(answers[which, True], answers[which, False])
        # One of a variable batch size, and one for each size of batches that a front computes.
        assert len(blobs[which, True]) == 6 and blobs[which, True] == blobs[which, False]
    assert not np.array_equal(answers["good", False], answers["poor", False])
