"""The gates a version must pass before it is published or promoted, as the policy of the models folder asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saman.registry.layout import ModelFolder
from saman.registry.manifest import Manifest


def at_publish(folder: ModelFolder, draft: Manifest, staged: Path) -> list[dict[str, Any]]:
    """The findings of the gates that need no approval; raises ``PublishRefused`` where one decides against it."""
    return []


def at_promotion(folder: ModelFolder, number: int, label: str) -> list[dict[str, Any]]:
    """The findings of all gates; raises ``PublishRefused`` where one decides against the version."""
    return []
