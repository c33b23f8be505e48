"""The picture that ``saman watch`` draws: vital signs, the course of the loss, the newest events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from saman.cli.output import short_number
from saman.configs.terminal_text import clean_text
from saman.configs.units import format_duration
from saman.launcher.monitoring.vitals import Vitals
from saman.runs.events import Event, State
from saman.runs.ranks.event_words import event_words

if TYPE_CHECKING:
    from rich.console import RenderableType

    from saman.jobs.status import RunStatus

MOST_EVENTS = 6
MOST_POINTS = 240  # of the line of the loss
_BARS = "▁▂▃▄▅▆▇█"


class RunPicture:
    """The picture of a run: its newest vital signs, the course of its loss, its newest events."""

    def __init__(self) -> None:
        self._vitals: Vitals | None = None
        self._status: RunStatus | None = None
        self._losses: deque[tuple[int, float]] = deque(maxlen=MOST_POINTS)
        self._events: deque[str] = deque(maxlen=MOST_EVENTS)

    @property
    def ended(self) -> bool:
        """Whether the events say that the run has ended."""
        return self._vitals is not None and self._vitals.tally.state.ended

    def take(self, vitals: Vitals, events: Iterable[Event], status: RunStatus) -> None:
        """Take a new look at the run."""
        self._vitals, self._status = vitals, status
        for event in events:
            if (words := event_words(event)) is not None:
                self._events.append(f"{time.strftime('%H:%M:%S', time.localtime(event.time))}  {words}")
        progress = vitals.progress
        if progress is None or progress.loss is None:
            return
        if not self._losses or self._losses[-1][0] != progress.step:
            self._losses.append((progress.step, progress.loss))

    def render(self) -> RenderableType:
        """Return the picture, which fits itself into the width of the terminal when it is printed."""
        from rich.console import Group
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        if self._vitals is None or self._status is None:
            return Text("reading the run")
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows_of(self._vitals, self._status):
            table.add_row(name, Text(clean_text(value)))
        if len(self._losses) > 1:
            table.add_row("loss so far", Text(spark_line([loss for _, loss in self._losses], 40)))
        parts: list[RenderableType] = [table]
        if self._events:
            parts += [Text(""), *(Text(clean_text(line), style="dim", overflow="fold") for line in self._events)]
        title = Text(clean_text(f"{self._vitals.experiment}/{self._vitals.run}"))
        return Panel(Group(*parts), title=title, title_align="left")


def rows_of(vitals: Vitals, status: RunStatus) -> list[tuple[str, str]]:
    """Return the rows of the picture: a name and a value; what is not known has no row."""
    tally, progress = vitals.tally, vitals.progress
    rows = [("state", f"{status.state}" + (f": {status.detail}" if status.over and status.detail else ""))]
    if progress is not None and tally.state is State.RUNNING:
        of = f" of {progress.total_steps}" if progress.total_steps else ""
        left = f", {format_duration(progress.remaining_seconds)} left" if progress.remaining_seconds is not None else ""
        rows.append(("progress", f"{progress.phase}, epoch {progress.epoch}, step {progress.step}{of}{left}"))
    if progress is not None:
        rows += _training_rows(vitals)
    age = vitals.checkpoint_age_seconds
    if tally.checkpoint is not None and age is not None:
        rows.append(("checkpoint", f"step {tally.checkpoint[1]}, {format_duration(age)} ago"))
    if tally.ranks is not None:
        restarts = f", {tally.restarts} restart{'s' if tally.restarts > 1 else ''}" if tally.restarts else ""
        survived = f", went on from {tally.recoveries} failure{'s' if tally.recoveries > 1 else ''}"
        rows.append(
            ("ranks", f"{tally.ranks}, attempt {tally.attempt}{restarts}{survived if tally.recoveries else ''}")
        )
    if vitals.goodput is not None:
        rows.append(("goodput", f"{vitals.goodput:.1%}"))
    rows += [("slow", each.words) for each in tally.slow.values()]
    if tally.nonfinite_steps:
        rows.append(("not finite", f"{tally.nonfinite_steps} steps, rolled back {tally.rollbacks} times"))
    if tally.stalled:
        rows.append(("stalled", "the ranks make no progress"))
    if vitals.silent_seconds is not None and vitals.silent_seconds > 20.0 and not status.over:
        rows.append(("silent", f"no sign of life for {format_duration(vitals.silent_seconds)}"))
    return rows


def _training_rows(vitals: Vitals) -> list[tuple[str, str]]:
    progress = vitals.progress
    assert progress is not None
    rows = []
    if progress.samples_per_second:
        rows.append(("throughput", f"{short_number(progress.samples_per_second)} samples/s"))
    if (steps := progress.steps) is not None:
        rows.append(("step", f"{_ms(steps.median)} median, {_ms(steps.p95)} p95, {_ms(steps.longest)} longest"))
        exchange = "" if steps.exchange is None else f", {_ms(steps.exchange)} exchange"
        rows.append(("of a step", f"{_ms(steps.own)} own work{exchange}, {_ms(steps.input_wait)} input wait"))
    values = {**({"loss": progress.loss} if progress.loss is not None else {})}
    values |= {name: value for name, value in {**vitals.tally.metrics, **progress.metrics}.items() if name != "loss"}
    if values:
        rows.append(("metrics", ", ".join(f"{name} {value:.4g}" for name, value in values.items())))
    if progress.memory_bytes is not None:
        rows.append(("memory", f"{progress.memory_bytes / 2**30:.2f} GiB, rank 0"))
    return rows


def spark_line(values: Sequence[float], width: int) -> str:
    """Return values as bars, the newest last; each bar is the mean of as many values.

    >>> spark_line([0, 1, 2, 3], 4)
    '▁▃▆█'
    """
    size = -(-len(values) // width)
    means = [sum(values[at : at + size]) / len(values[at : at + size]) for at in range(0, len(values), size)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
