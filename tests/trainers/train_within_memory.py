"""Trains run folders as ``train_in_one_start.py`` does, within LIMIT_BYTES of address space if the variable is set.

Writes the largest address space that the process took to ``address-space-<pid>`` in the first run folder.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from train_in_one_start import main

from saman.trainers.worker import exit_at_once, report_failure


def peak_bytes() -> int:
    """Return the largest address space that this process has taken."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmPeak")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    limit = int(os.environ.get("LIMIT_BYTES", "0"))
    if limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        main(sys.argv[1:])
    except BaseException as error:
        exit_at_once(report_failure(None, None, error))
    Path(sys.argv[1], f"address-space-{os.getpid()}").write_text(str(peak_bytes()))
