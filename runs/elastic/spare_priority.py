"""The priority of a process that becomes a warm spare: it starts on cores that the ranks need."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from saman.runs import variables

PRIORITY = 10  # about a tenth of the share of a rank on a busy core, and all that is idle
_TRIES, _PAUSE_SECONDS = 40, 0.05


def becomes_spare(environ: Mapping[str, str]) -> bool:
    """Whether a process with these variables joins an elastic run whose free places warm spares take at once."""
    largest = int(environ.get(variables.LARGEST_WORLD) or 0)
    process, processes = (int(environ.get(name) or 0) for name in (variables.PROCESS, variables.PROCESSES))
    is_later = environ.get(variables.REPLACES, "0") != "0" or process >= largest
    return 0 < largest < processes and is_later


def set_session_priority(nice: int, process: int | str = "self", kernel: Path = Path("/proc")) -> None:
    """Set the priority of a process's session, on a kernel that divides the cores among sessions first.

    There a thread's own priority counts within its session only (autogroups, sched(7)), and every slot of a run has a
    session of its own. Any user may lower this priority and raise it to 0 again, unlike a thread's.

    Args:
        nice: From 0 to 19.
        process: The id of the process.
        kernel: The kernel's folder of processes; without autogroups in it nothing is done.
    """
    autogroup = kernel / str(process) / "autogroup"
    for _ in range(_TRIES):
        try:
            if autogroup.read_text().split()[-1:] != [str(nice)]:
                autogroup.write_text(str(nice))
            return
        except BlockingIOError:  # Linux takes ten changes a second from all users together
            time.sleep(_PAUSE_SECONDS)
        except OSError:
            return
