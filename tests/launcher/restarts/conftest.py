"""The ranks that the supervisor's tests start."""

from __future__ import annotations

from pathlib import Path

import pytest
from ranks import Ranks


@pytest.fixture
def ranks(tmp_path: Path) -> Ranks:
    return Ranks(tmp_path)
