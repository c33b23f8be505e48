"""A check takes the lowest priority only while requests are answered, and not for ever where others have the cores."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from tests.registry.registry_kit import finished_run

from saman.configs.errors import UserError
from saman.registry.lifecycle.publish import publish
from saman.registry.store.layout import ModelFolder, VersionSpec, find_model
from saman.serving.supervision import served_model
from saman.serving.supervision.arrivals import Arrivals
from saman.serving.supervision.engine_process import EngineFailure, EngineStarved
from saman.serving.supervision.served_model import FollowedModel
from saman.serving.supervision.wanted import WantedModel


class Stand:
    """A checker and loader that fails as told, and remembers which attempts were urgent."""

    def __init__(self, *failures: UserError) -> None:
        self.failures, self.urgent = list(failures), list[bool]()

    def load(self, folder: ModelFolder, number: int, *, is_urgent: bool) -> Any:
        self.urgent.append(is_urgent)
        if self.failures:
            raise self.failures.pop(0)
        return self

    def holds(self, model: str, number: int) -> bool:
        return False

    def keep(self, model: str, numbers: object) -> None:
        pass

    kind = "openvino"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FollowedModel:
    monkeypatch.setattr(served_model, "_RETRY_SECONDS", 0.0)
    publish(finished_run(tmp_path), tmp_path / "models")
    return FollowedModel(
        find_model(tmp_path / "models", "digits"), VersionSpec("digits"), WantedModel("digits", 1, load=(1,))
    )


def attempts(stand: Any, model: FollowedModel, count: int) -> list[bool]:
    """Which of the next attempts to load version 1 are urgent."""
    arrivals = Arrivals(stand, stand, lambda event: None)
    deadline = time.monotonic() + 30
    while len(stand.urgent) < count or model.busy:
        assert time.monotonic() < deadline, stand.urgent
        arrivals.start([model])
    return stand.urgent


def test_before_the_server_answers_a_check_is_urgent(model: FollowedModel) -> None:
    stand: Any = Stand()
    Arrivals(stand, stand, lambda event: None).load_now(model, 1)
    assert stand.urgent == [True] and 1 in model.loaded


def test_a_check_that_was_starved_is_urgent_the_next_time(model: FollowedModel) -> None:
    stand = Stand(EngineStarved("the engine did not answer within 120 s"))
    assert attempts(stand, model, 2) == [False, True] and 1 in model.loaded and not model.failed


def test_a_check_that_failed_for_another_reason_stays_at_the_lowest_priority(model: FollowedModel) -> None:
    assert attempts(Stand(EngineFailure("no model")), model, 2) == [False, False]
