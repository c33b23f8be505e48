"""How busy the GPUs of this node are, as nvidia-smi says."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from saman.runs.commands import COMMAND_ERRORS, run_command

QUERY_SECONDS = 5.0
_COMMAND = ("nvidia-smi", "--query-gpu=index,utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class GpuUse:
    """A GPU: its index, the share of time in which it computed, its memory in bytes."""

    index: int
    utilization: float | None
    used_bytes: int | None
    total_bytes: int | None


def read_gpus() -> tuple[GpuUse, ...]:
    """Ask nvidia-smi for the load of the GPUs, to monitor them; empty where it is missing or does not answer."""
    if shutil.which(_COMMAND[0]) is None:
        return ()
    try:
        done = run_command(_COMMAND, timeout_seconds=QUERY_SECONDS)
    except COMMAND_ERRORS:
        return ()
    return parse_gpus(done.stdout) if done.returncode == 0 else ()


def parse_gpus(text: str) -> tuple[GpuUse, ...]:
    """Parse the load of the GPUs as nvidia-smi prints it; it writes ``[N/A]`` for what a GPU does not tell.

    >>> parse_gpus("0, 87, 1024, 40960\\n1, [N/A], 5, 40960")[1].utilization is None
    True
    """
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 4 and cells[0].isdigit():
            busy, used, total = (float(cell) if cell.replace(".", "", 1).isdigit() else None for cell in cells[1:])
            found.append(
                GpuUse(int(cells[0]), None if busy is None else busy / 100.0, _mebibytes(used), _mebibytes(total))
            )
    return tuple(found)


def _mebibytes(value: float | None) -> int | None:
    return None if value is None else int(value * 2**20)
