"""Shows the metrics of an attempt while it is supervised."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from saman.configs.home_folder import in_home
from saman.launcher.monitoring.exposition import exposition
from saman.launcher.monitoring.gpus import GpuUse, read_gpus
from saman.launcher.monitoring.series import labels_of, series_of
from saman.launcher.monitoring.vitals import GOODPUT_SECONDS, GOODPUT_SHARE, EventReader, Vitals
from saman.launcher.supervision.progress import TrainingProgress
from saman.launcher.supervision.views import SilentView, View
from saman.runs.events import SUPERVISOR, EventKind
from saman.runs.files.whole import write_whole
from saman.runs.folder import RunFolder
from saman.runs.private_values import read_private
from saman.runs.telemetry.goodput import Goodput, measure_goodput

if TYPE_CHECKING:
    from saman.configs.schemas.monitoring import Metrics
    from saman.launcher.monitoring.endpoint import Endpoint

WRITE_SECONDS = 5.0  # between two writings of the textfile, and two looks at the GPUs
JOB_END = "SLURM_JOB_END_TIME"  # Unix seconds, by Slurm


@contextlib.contextmanager
def monitored(run: RunFolder, metrics: Metrics | None, view: View | None) -> Iterator[View | None]:
    """Show the metrics of an attempt until the block ends.

    Args:
        run: The run folder.
        metrics: How they are shown; ``None`` shows none.
        view: Where people watch.

    Yields:
        The view for the supervisor: it feeds the metrics too.

    Raises:
        UserError: The token of the metrics cannot be read.
    """
    monitor = None if metrics is None else Monitor(run, metrics, view or SilentView())
    try:
        yield view if monitor is None else monitor
    finally:
        if monitor is not None:
            monitor.close()


class Monitor:
    """A ``View`` that shows metrics too: over HTTP, as a file for node_exporter, or both."""

    def __init__(self, run: RunFolder, metrics: Metrics, view: View, environ: Mapping[str, str] = os.environ) -> None:
        """Begin to show metrics; a port that is taken is told, and the run goes on. Raises as ``monitored``."""
        self._run, self._view, self._environ = run, view, environ
        self._events = EventReader(run)
        self._lock = threading.Lock()  # readers over HTTP come from threads of their own
        self._progress: TrainingProgress | None = None
        self._gpus: tuple[GpuUse, ...] = ()
        self._goodput: Goodput | None = None
        self._goodput_at = 0.0
        self._over = threading.Event()
        self._endpoint = self._open(metrics)
        self._textfile = None if metrics.textfile is None else Path(metrics.textfile) / f"saman-{run.id}.prom"
        self._told = False
        self._thread = threading.Thread(target=self._keep_writing, name="textfile", daemon=True)
        self._thread.start()

    # ---- a view ------------------------------------------------------------------------------------------

    def progress(self, progress: TrainingProgress) -> None:
        """Show the progress."""
        self._progress = progress
        self._view.progress(progress)

    def line(self, rank: int, text: str) -> None:
        """Show a line of a rank."""
        self._view.line(rank, text)

    def say(self, text: str) -> None:
        """Show a message."""
        self._view.say(text)

    # ---- metrics -----------------------------------------------------------------------------------------

    def text(self) -> str:
        """Return the metrics now."""
        with self._lock:
            self._events.look()
            now = time.time()
            vitals = Vitals(
                self._run.id, self._run.experiment_name, now, self._events.tally, self._progress,
                limit_seconds_left=_seconds_left(self._environ, now), gpus=self._gpus,
                goodput=None if self._goodput is None else self._goodput.share,
            )  # fmt: skip
            return exposition(series_of(vitals), labels_of(vitals))

    def close(self) -> None:
        """Stop listening; remove the file, which nobody would renew."""
        self._over.set()
        if self._endpoint is not None:
            self._endpoint.close()
        self._thread.join(2 * WRITE_SECONDS)
        if self._textfile is not None:
            with contextlib.suppress(OSError):
                self._textfile.unlink(missing_ok=True)
        self._events.close()

    def _open(self, metrics: Metrics) -> Endpoint | None:
        if metrics.port is None:
            return None
        from saman.launcher.monitoring.endpoint import Endpoint

        token = None
        if metrics.token_file is not None:
            token = read_private(in_home(metrics.token_file), "launch.metrics.token_file")
        try:
            endpoint = Endpoint(metrics.address, metrics.port, self.text, token)
        except OSError as error:
            self._note(f"no metrics: port {metrics.port} of {metrics.address}: {error.strerror}")
            return None
        host = f"[{metrics.address}]" if ":" in metrics.address else metrics.address
        self._note(f"metrics: http://{host}:{endpoint.port}/metrics")
        return endpoint

    def _keep_writing(self) -> None:
        while not self._over.is_set():
            self._gpus = read_gpus()
            self._read_goodput()
            if self._textfile is not None:
                self._write(self._textfile)
            self._over.wait(WRITE_SECONDS)

    def _read_goodput(self) -> None:
        """Read the run's goodput from time to time: it takes longer, the longer the run is."""
        began = time.monotonic()
        if began >= self._goodput_at:
            with contextlib.suppress(OSError, ValueError):
                self._goodput = measure_goodput(self._run, self._run.events(), time.time())
            self._goodput_at = time.monotonic() + GOODPUT_SHARE * (time.monotonic() - began) + GOODPUT_SECONDS

    def _write(self, path: Path) -> None:
        try:
            write_whole(path, self.text())
            path.chmod(0o644)  # node_exporter is another user
        except OSError as error:
            if not self._told:
                self._note(f"no metrics: {path}: {error.strerror}")
            self._told = True

    def _note(self, text: str) -> None:
        self._view.say(text)
        with contextlib.suppress(OSError):
            self._run.append(EventKind.NOTICE, SUPERVISOR, text=text)


def _seconds_left(environ: Mapping[str, str], now: float) -> float | None:
    end = environ.get(JOB_END, "")
    return max(0.0, float(end) - now) if end.isdigit() else None
