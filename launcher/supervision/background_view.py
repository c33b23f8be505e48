"""Shows a run from a thread of its own: neither a flood of output nor a blocked terminal delays supervision.

Lines of ranks are limited: those beyond the limit are counted, and the count is shown instead.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator

from saman.launcher.supervision.progress import TrainingProgress
from saman.launcher.supervision.views import View

MOST_WAITING = 2000  # lines and messages for the terminal
TELL_SECONDS = 2.0  # between two counts of lines that are not shown
FLUSH_SECONDS = 3.0  # for the terminal to take what waits at the end


class BackgroundView:
    """A ``View`` that forwards to another view from a thread; its calls return at once."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._waiting: deque[tuple[int | None, Callable[[], None]]] = deque()  # rank of a line, or None: a message
        self._progress: TrainingProgress | None = None
        self._left_out: Counter[int] = Counter()
        self._told = time.monotonic()
        self._changed = threading.Condition()
        self._showing = self._over = False
        self._thread = threading.Thread(target=self._show_all, name="view", daemon=True)
        self._thread.start()

    def progress(self, progress: TrainingProgress) -> None:
        """Show the progress; it replaces older progress that still waits."""
        with self._changed:
            self._progress = progress
            self._changed.notify_all()

    def line(self, rank: int, text: str) -> None:
        """Show a line of a rank; if too many wait, the oldest is counted instead, because the newest tell the end."""
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._drop_oldest_line()
            if time.monotonic() - self._told > TELL_SECONDS:
                self._tell_left_out()
            self._put(lambda: self._view.line(rank, text), rank)

    def leave_out(self, rank: int, lines: int) -> None:
        """Count lines of a rank that are not shown."""
        if lines:
            with self._changed:
                self._left_out[rank] += lines

    def say(self, text: str) -> None:
        """Show a message; messages are never left out for lines."""
        with self._changed:
            if len(self._waiting) < 2 * MOST_WAITING:
                self._put(lambda: self._view.say(text))

    def close(self) -> None:
        """Show what waits, within ``FLUSH_SECONDS``; gives up on a blocked terminal."""
        deadline = time.monotonic() + FLUSH_SECONDS
        with self._changed:
            self._tell_left_out()
            while (self._waiting or self._showing) and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            self._over = True
            self._waiting.clear()
            self._changed.notify_all()

    def _put(self, work: Callable[[], None], rank: int | None = None) -> None:
        self._waiting.append((rank, work))
        self._changed.notify_all()

    def _drop_oldest_line(self) -> None:
        for index, (rank, _) in enumerate(self._waiting):
            if rank is not None:
                del self._waiting[index]
                self._left_out[rank] += 1
                return

    def _tell_left_out(self) -> None:
        for rank, lines in self._left_out.items():
            text = f"rank {rank}: {lines} lines are not shown here; saman logs --rank {rank} shows them"
            self._put(lambda text=text: self._view.say(text))  # type: ignore[misc]
        self._left_out.clear()
        self._told = time.monotonic()

    def _show_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting or self._progress or self._over))
                if self._over:
                    return
                work = self._waiting.popleft()[1] if self._waiting else self._take_progress()
                self._showing = True
            with contextlib.suppress(Exception):  # a closed terminal ends the output, not the run
                work()
            with self._changed:
                self._showing = False
                self._changed.notify_all()

    def _take_progress(self) -> Callable[[], None]:
        progress, self._progress = self._progress, None
        return lambda: self._view.progress(progress) if progress is not None else None


@contextlib.contextmanager
def in_background(view: View) -> Iterator[BackgroundView]:
    """Forward to ``view`` from a thread until the block ends."""
    behind = BackgroundView(view)
    try:
        yield behind
    finally:
        behind.close()
