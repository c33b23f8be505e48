"""The process that judges the active rollouts of a models folder: ``python -m saman.serving.rollout.judging FOLDER``.

A front starts it at low priority and holds its standard input open; it ends with the front. A lock leaves 1 per folder.
"""

from __future__ import annotations

import logging
import os
import select
import sys
from pathlib import Path

from saman.registry.store.layout import list_models
from saman.runs.locks import LockHeldError, hold

LOCK = ".rollouts.lock"
_PERIOD_SECONDS = 1.0
_log = logging.getLogger(__name__)


def main(models_dir: Path) -> None:
    """Judge every second until standard input ends."""
    from saman.registry.rollout.settle import settle_quietly  # fronts import this file; scipy would delay their start

    os.nice(10)
    said: dict[str, str] = {}
    try:
        with hold(models_dir / LOCK):
            while not _is_over(_PERIOD_SECONDS):
                for folder in list_models(models_dir):
                    problem = settle_quietly(folder)
                    if problem and said.get(folder.name) != problem:
                        _log.warning("%s: the rollout is not judged: %s", folder.name, problem)
                    said[folder.name] = problem
    except LockHeldError:
        return  # another front's process judges


def _is_over(seconds: float) -> bool:
    """Wait; whether the front has ended."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready) and not os.read(sys.stdin.fileno(), 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
