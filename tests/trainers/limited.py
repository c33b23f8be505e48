"""Trains run folders as ``several.py`` does, within LIMIT_BYTES of address space where the environment names them.

Writes how much of it was taken at most to ``address-space-<process>`` in the first run folder.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from several import main

from saman.trainers.worker import _failed, _leave


def most_bytes() -> int:
    """The most address space that this process has taken."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmPeak")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    limit = int(os.environ.get("LIMIT_BYTES", "0"))
    if limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        main(sys.argv[1:])
    except BaseException as error:
        _leave(_failed(None, None, error))
    Path(sys.argv[1], f"address-space-{os.getpid()}").write_text(str(most_bytes()))
