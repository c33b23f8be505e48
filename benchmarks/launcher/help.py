"""Time of `saman --help`, beside a process that only imports its terminal libraries (typer and rich).

    python benchmarks/launcher/help.py [PAIRS]

Pairs run in turn, after a first run of each that fills the caches. Prints medians, and the median of the ratios within
pairs. The second ratio is to the help page of a small typer program.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from statistics import median

LIBRARIES = "import typer, rich.console, rich.table, rich.markdown, typer.rich_utils"
TINY = """
import typer
app = typer.Typer(rich_markup_mode="markdown")
@app.command()
def run(name: str = "x"): "Do it."
@app.command()
def stop(name: str = "x"): "Stop it."
app(["--help"])
"""
COMMANDS = {
    "saman --help": [sys.executable, "-m", "saman", "--help"],
    "import typer and rich": [sys.executable, "-c", LIBRARIES],
    "help of a tiny typer program": [sys.executable, "-c", TINY],
}


def seconds(command: list[str]) -> float:
    """Return the processor time of a process, which other load on the machine changes little."""
    before = os.times()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def wall(command: list[str]) -> float:
    """Return the elapsed time of a process."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main(pairs: int = 15) -> None:
    """Measure and print."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its byte code
    for command in COMMANDS.values():
        wall(command)
    for how in (wall, seconds):
        rows = [[how(command) for command in COMMANDS.values()] for _ in range(pairs)]
        own, *others = zip(*rows, strict=True)
        print(f"{'by the clock' if how is wall else 'processor time'}: saman --help {median(own) * 1e3:.0f} ms")
        for name, other in zip(list(COMMANDS)[1:], others, strict=True):
            ratio = median(mine / theirs for mine, theirs in zip(own, other, strict=True))
            print(f"  {name}: {median(other) * 1e3:.0f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
