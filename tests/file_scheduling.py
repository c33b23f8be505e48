"""Hands test files out to the workers of pytest-xdist, so that the death of a worker fails its test and no other.

The scheduler of pytest-xdist 3.8 hands files that are finished out again after a death, and a worker that got nothing
but those waits for ever.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController


class FileScheduling(LoadFileScheduling):
    """``--dist loadfile`` that goes on after the death of a worker."""

    def remove_node(self, node: WorkerController) -> str | None:
        """Give a worker's unfinished files to others; returns the test in which it died, which is not run again."""
        work = self.assigned_work.pop(node)
        left = {file: tests for file, tests in work.items() if not all(tests.values())}
        if not left:
            return None
        file, tests = next(iter(left.items()))
        died_in = next(test for test, is_done in tests.items() if not is_done)
        tests[died_in] = True
        if all(tests.values()):
            del left[file]
        self.workqueue.update(left)
        for other in self.assigned_work:
            if other in self.registered_collections:
                self._reschedule(other)
        return died_in

    def _reschedule(self, node: WorkerController) -> None:
        super()._reschedule(node)
        while not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)  # a worker begins a test once it knows the next, or that there is none


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling | None:
    """Replace the scheduler of ``--dist loadfile``."""
    return FileScheduling(config, log) if config.getvalue("dist") == "loadfile" else None
