"""``python -m saman.runs.confinement OPTIONS -- COMMAND``: confines this process, then becomes the command."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from saman.runs.confinement.confined import Confinement, write_lacking


def main() -> None:
    """Confine this process, report what could not be done, and execute the command."""
    parser = argparse.ArgumentParser(prog="python -m saman.runs.confinement", description=__doc__)
    parser.add_argument("--memory", type=int, required=True, help="bytes of memory of each process")
    parser.add_argument("--seconds", type=float, required=True, help="seconds on every processor")
    parser.add_argument("--writable", type=Path, action="append", default=[], help="a folder to write to")
    parser.add_argument("--report", type=Path, required=True, help="what could not be enforced, as JSON")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    confinement = Confinement(given.memory, given.seconds, (*given.writable, given.report.parent))
    write_lacking(given.report, confinement.apply())
    os.execvp(given.command[0], given.command)


if __name__ == "__main__":
    main()
