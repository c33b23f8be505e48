"""Published versions of real models, for servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving_kit import LiveServer, live_server

from saman.registry.lifecycle.promotion import promote
from saman.registry.lifecycle.publish import publish
from saman.runs.folder import RunFolder


@pytest.fixture(scope="session")
def served_models(tmp_path_factory: pytest.TempPathFactory, real_run: Callable[..., RunFolder]) -> Path:
    """``images``: version 1 is stable, version 2 (poor) canary."""
    folder = tmp_path_factory.mktemp("served")
    for which in ("good", "poor"):
        publish(real_run(folder, which), folder / "models")
    promote(folder / "models", "images:1")
    promote(folder / "models", "images:2", "canary")
    return folder / "models"


@pytest.fixture(scope="session")
def server(served_models: Path) -> Iterator[LiveServer]:
    """A server of ``served_models``; tests leave its registry as it is."""
    with live_server(served_models, "images", "--engine", "openvino") as started:
        yield started
