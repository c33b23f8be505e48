"""A label that moves between loaded versions waits for no engine: the same for every engine, however long it loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.registry.registry_kit import finished_run

from saman.registry.lifecycle.promotion import promote
from saman.registry.lifecycle.publish import publish
from saman.registry.lifecycle.rollback import rollback
from saman.registry.store.layout import VersionSpec, find_model
from saman.serving.routing import DefaultTraffic
from saman.serving.supervision.served_model import FollowedModel
from saman.serving.supervision.wanted import WantedModel


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for number in range(4):
        publish(finished_run(tmp_path / str(number), seed=number), tmp_path / "models")
    return tmp_path / "models"


def test_what_is_labelled_newest_or_was_stable_before_moves_in_one_look_at_the_log(models: Path) -> None:
    promote(models, "digits:1")
    promote(models, "digits:2", "canary")
    model = FollowedModel(find_model(models, "digits"), VersionSpec("digits"), WantedModel("digits", None))

    def look() -> tuple[list[int], int | None, list[Any]]:
        """What must be loaded, which version answers, and which leave, after a single look."""
        assert model.follow(DefaultTraffic()) == ""
        leaving = model.settle()
        return model.to_load(), model.served.default, leaving

    assert look() == ([1, 2, 4], None, [])
    model.loaded.update({number: object() for number in (1, 2, 4)})
    assert look() == ([], 1, [])
    promote(models, "digits:2")  # the canary
    assert look() == ([], 2, [])
    rollback(models, "digits")  # the version before stays loaded
    assert look() == ([], 1, [])
    promote(models, "digits:4")  # the newest
    assert look() == ([], 4, [])
    promote(models, "digits:3")  # not loaded: the old version goes on meanwhile
    assert look()[:2] == ([3], 4)
    model.loaded[3] = object()  # type: ignore[assignment]
    assert look()[:2] == ([], 3)
    rollback(models, "digits")
    assert look()[1] == 4
