"""The processor of this machine."""

from __future__ import annotations

import platform
from pathlib import Path


def cpu_model() -> str | None:
    """The model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
