"""The schema of ``launch.restart``: whether and how often a run starts again by itself after a failure."""

from __future__ import annotations

from pydantic import PositiveInt

from saman.configs.problems import Strict
from saman.configs.units import Span, parse_span


class Restart(Strict):
    """Restarts of a run by itself: at most ``times`` in any ``window``, after a pause.

    The pause before a restart is ``backoff``, doubled with each failure in a row without a new checkpoint, at most
    ``longest_backoff``.
    """

    times: PositiveInt = 5
    window: Span = "1h"
    backoff: Span = "1s"
    longest_backoff: Span = "60s"

    @property
    def window_seconds(self) -> int:
        """Seconds in which ``times`` counts."""
        return parse_span(self.window)

    @property
    def backoff_seconds(self) -> int:
        """Seconds before the first restart in a row."""
        return parse_span(self.backoff)

    @property
    def longest_backoff_seconds(self) -> int:
        """The longest pause, in seconds."""
        return parse_span(self.longest_backoff)
