"""The learning rate is a function of the step alone."""

from __future__ import annotations

import pytest

from saman.configs.schemas.training import LearningRate
from saman.trainers.loop.rates.by_step import Rates


def rates(batch: int = 256, per_epoch: int = 10, steps: int = 100, **spec: object) -> Rates:
    return Rates(LearningRate.model_validate({"base": 0.1, **spec}), batch, per_epoch, steps)


@pytest.mark.parametrize(("scale", "peak"), [("linear", 0.4), ("sqrt", 0.2), ("none", 0.1)])
def test_the_peak_follows_the_global_batch(scale: str, peak: float) -> None:
    assert rates(1024, scale=scale, base_batch_size=256)(50) == pytest.approx(peak)


def test_warm_up_rises_in_equal_steps_and_ends_at_the_peak() -> None:
    found = [rates(warmup_epochs=0.5)(step) for step in range(6)]
    assert found == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])


def test_a_cosine_falls_from_the_peak_to_its_fraction_at_the_last_step() -> None:
    found = rates(warmup_epochs=1, schedule={"name": "cosine", "final_fraction": 0.1})
    assert (found(10), found(99)) == (pytest.approx(0.1), pytest.approx(0.01))
    assert all(found(step) > found(step + 1) for step in range(10, 99))


def test_steps_and_exponential_decay_count_epochs() -> None:
    steps = rates(schedule={"name": "step", "at_epochs": [2, 4], "factor": 0.5})
    assert [steps(step) for step in (19, 20, 39, 40)] == pytest.approx([0.1, 0.05, 0.05, 0.025])
    assert rates(schedule={"name": "exponential", "factor": 0.5})(25) == pytest.approx(0.1 * 0.5**2.5)
