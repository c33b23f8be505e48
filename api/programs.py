"""What the user's own program calls while saman runs it."""

from __future__ import annotations

import os
from pathlib import Path


def report_epoch(epoch: int, /, *, step: int | None = None, **metrics: float) -> bool:
    """Record the metrics of an epoch in the run folder; a tuning study prunes by them and compares trials.

    Only rank 0 writes. Outside saman, nothing happens, so that the program runs alone too.

    Args:
        epoch: The epoch that has ended, from 1.
        step: Steps taken so far; default: ``epoch``.
        **metrics: Values by name.

    Returns:
        Whether they were recorded: on rank 0 of a run.

    Example:
        >>> import saman
        >>> saman.report_epoch(1, val_loss=0.4)  # outside a run
        False
    """
    from saman.runs import variables
    from saman.runs.events import EventKind
    from saman.runs.folder import RunFolder
    from saman.runs.ranks.training_events import EpochEnd

    folder, rank = os.environ.get(variables.RUN), os.environ.get(variables.FIRST_RANK, "0")
    if folder is None or rank != "0":
        return False
    finite = {name: _finite(value) for name, value in metrics.items()}
    ended = EpochEnd(epoch, epoch if step is None else step, finite)
    attempt = os.environ.get(variables.ATTEMPT, "")
    number = int(attempt) if attempt.isdigit() else None
    RunFolder(Path(folder)).append(EventKind.EPOCH, "rank 0", number, **ended.facts())
    return True


def _finite(value: float) -> float | None:
    import math

    return float(value) if math.isfinite(value) else None
