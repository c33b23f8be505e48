"""A light program with a known optimum: a loss of ``floor(rate, momentum) + exp(-epoch / 3)``, lowest at (0.1, 0.5).

python curve.py RATE MOMENTUM EPOCHS SECONDS_PER_EPOCH; works in its run folder, checkpoints after each epoch.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from pathlib import Path

import saman

CHECKPOINT = Path("curve.json")


def floor(rate: float, momentum: float) -> float:
    """What is left of the loss after many epochs."""
    return (math.log10(rate) + 1) ** 2 + 4 * (momentum - 0.5) ** 2


def main() -> int:
    rate, momentum, epochs, seconds = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    asked: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: asked.append(number))
    done = json.loads(CHECKPOINT.read_text())["epoch"] if CHECKPOINT.exists() else 0
    for epoch in range(done + 1, epochs + 1):
        end = time.monotonic() + seconds
        while not asked and time.monotonic() < end:
            time.sleep(min(0.2, seconds))
        if asked:
            return 85
        saman.report_epoch(epoch, val_loss=floor(rate, momentum) + math.exp(-epoch / 3))
        draft = CHECKPOINT.with_suffix(".draft")
        draft.write_text(json.dumps({"epoch": epoch}))
        draft.rename(CHECKPOINT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
