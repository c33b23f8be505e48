"""A process that becomes a warm spare imports at low priority, and trains at that of the others."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from saman.runs.elastic.spare_priority import PRIORITY
from saman.trainers.quiet_import import import_quietly


def test_the_import_leaves_the_thread_that_trains_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import os, threading\npriority = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())\n"
    (tmp_path / "imported_quietly.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    import_quietly("imported_quietly")
    assert sys.modules["imported_quietly"].priority >= min(before + 1, PRIORITY)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
    with pytest.raises(ImportError):
        import_quietly("no_such_module_at_all")
