"""Shows a running run: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from saman.cli.log_lines import CHATTER
from saman.cli.output import short_number
from saman.cli.terminal import own_stream
from saman.configs.terminal_text import clean_text
from saman.configs.units import format_duration
from saman.runs.ranks.heartbeats import Phase

if TYPE_CHECKING:
    from saman.launcher.supervision.progress import TrainingProgress

METRICS = ("accuracy", "val_loss", "val_accuracy")


class RunView:
    """A ``View`` of a supervised run; a context manager that owns the live line while it is open."""

    def __init__(self, console: Console, title: str, quiet: bool = False) -> None:
        self.console, self.title, self.quiet = console, title, quiet
        self._live = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._file = console.file
        self._task: TaskID | None = None
        self._shown = ""

    def __enter__(self) -> RunView:
        self._file = self.console.file
        self.console.file = own_stream(self._file)
        self._live.start()
        self._task = self._live.add_task(self.title, total=None, text="starting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        self.console.file = self._file

    def progress(self, progress: TrainingProgress) -> None:
        """Move the live line; without a terminal, a line for each epoch."""
        text = progress_text(progress)
        if self._task is not None:
            self._live.update(self._task, completed=progress.step, total=progress.total_steps, text=text)
        epoch = f"epoch {progress.epoch}"
        if not self.quiet and not self.console.is_terminal and progress.metrics and self._shown != epoch:
            self._shown = epoch
            self.console.print(Text(f"{self.title}: {text}"), soft_wrap=True)

    def line(self, rank: int, text: str) -> None:
        """Print a line of a rank, marked unless it is rank 0; leave out TensorFlow's chatter."""
        if not self.quiet and not CHATTER.match(text):
            mark = Text(f"[{rank}] ", style="dim") if rank else Text("")
            self.console.print(mark + Text.from_ansi(clean_text(text)), soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a note on the terminal."""
        if not self.quiet:
            self.console.print(Text("  " + clean_text(text), style="dim"), soft_wrap=True)


def progress_text(progress: TrainingProgress) -> str:
    """The line that ``saman run`` prints: ``epoch 3  step 120/300  5.2k samples/s  loss 0.12  2 s left``."""
    parts = []
    if progress.phase != Phase.TRAIN:
        parts.append(progress.phase)
    if progress.step:
        of = f"/{progress.total_steps}" if progress.total_steps else ""
        parts += [f"epoch {progress.epoch}", f"step {progress.step}{of}"]
    if progress.samples_per_second:
        parts.append(f"{short_number(progress.samples_per_second)} samples/s")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4g}")
    parts += [f"{name} {progress.metrics[name]:.4g}" for name in METRICS if name in progress.metrics]
    if progress.remaining_seconds is not None:
        parts.append(f"{format_duration(progress.remaining_seconds)} left")
    return "  ".join(parts) or progress.phase
