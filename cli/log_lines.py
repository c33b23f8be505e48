"""Lines of a log as the commands print them, and the lines that tell a run's progress meanwhile."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from saman.jobs.status import RunStatus

# TensorFlow prints this at every start, whatever its log level; the rank's log keeps it.
CHATTER = re.compile(
    r"^(WARNING: All log messages before absl::InitializeLog|[I]\d{4} [\d:.]+ +\d+ |To enable the following)"
)


def without_chatter(text: str) -> str:
    """A piece of a log as ``saman logs`` prints it, without TensorFlow's notices."""
    return "".join(line for line in text.splitlines(keepends=True) if not CHATTER.match(line))


def progress_lines(every_seconds: float = 5.0, err: bool = True) -> Callable[[RunStatus], None]:
    """A printer of log lines: a run's state or progress if it changed, progress at most every ``every_seconds``."""
    shown: list[tuple[float, str, str]] = [(0.0, "", "")]  # when, which state, what

    def show(status: RunStatus) -> None:
        text, now = f"{status.state}: {status.detail}".rstrip(": "), time.monotonic()
        at, state, before = shown[-1]
        if text == before or (state == status.state and now - at < every_seconds):
            return
        shown[:] = [(now, str(status.state), text)]
        typer.echo(f"# {text}", err=err)

    return show
