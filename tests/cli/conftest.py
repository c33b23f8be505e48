"""Calls saman's command line in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from saman.cli.main import main

# Runs and models that need no training.
sys.path.append(str(Path(__file__).parents[1] / "registry"))


@dataclass(frozen=True)
class Answer:
    """Exit status, standard output and standard error of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


Saman = Callable[..., Answer]


@pytest.fixture
def saman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Saman:
    """The command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def call(*words: str) -> Answer:
        status = 0
        try:
            main(list(words))
        except SystemExit as done:
            status = int(done.code or 0)
        printed = capsys.readouterr()
        return Answer(status, printed.out, printed.err)

    return call
