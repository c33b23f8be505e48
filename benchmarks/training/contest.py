"""Lets trainings share a machine in turn: all are started, and a single training runs while the others are frozen.

Start-up is paid once, and neighbouring blocks see the same disturbances: a ratio of paired blocks is steadier than a
ratio of whole runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from saman.scaling.statistics.intervals import median_estimate

SETTLE_SECONDS = 0.3  # of a block that count for nobody: caches and clocks after a thaw


@dataclass(frozen=True)
class Span:
    """Consecutive steps of a training; ``end`` is Unix time. The last four are known for saman alone."""

    end: float
    steps: int
    seconds: float
    input_wait_seconds: float = 0.0
    exchange_seconds: float = 0.0
    own_seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass
class Contender:
    """A training that runs in blocks.

    Attributes:
        name: Its name in the table.
        process: Its first process, in a session of its own.
        spans: Reads the steps that it has reported so far, without those that compiled graphs.
        log: Where its output goes.
        module: The Python module that the processes to freeze run; empty for all processes. A launcher that was frozen
            would take its ranks for hung.
        blocks: Unix times at which its blocks began and ended.
    """

    name: str
    process: subprocess.Popen[bytes]
    spans: Callable[[], list[Span]]
    log: Path
    module: str = ""
    blocks: list[tuple[float, float]] = field(default_factory=list)

    def freeze(self) -> None:
        """Stop every process of the training where it is."""
        self._signal(signal.SIGSTOP, self.module)

    def thaw(self) -> None:
        """Let every process go on, its session with the priority of this process."""
        raise_sessions(descendants(self.process.pid), os.nice(0))
        self._signal(signal.SIGCONT, self.module)

    def kill(self) -> None:
        """End every process."""
        for _ in range(3):  # processes that were just born
            self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: int, module: str = "") -> None:
        for pid in descendants(self.process.pid):
            with contextlib.suppress(OSError):
                if not module or module in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:3]:
                    os.kill(pid, number)

    def rates(self) -> list[float]:
        """Return steps per second in each block."""
        return [_rate(spans) for spans in self.in_blocks()]

    def in_blocks(self) -> list[list[Span]]:
        """Return the spans that lie in each block."""
        spans = self.spans()
        return [
            [span for span in spans if span.end - span.seconds >= begin and span.end <= end]
            for begin, end in self.blocks
        ]


def start(
    name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path
) -> tuple[Path, subprocess.Popen[bytes]]:
    """Start a training in its own session; return its log and its process."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return log, process


def run_in_turn(
    starts: Iterable[Callable[[], Contender]],
    rounds: int,
    seconds: float,
    keeps_last: bool = False,
    warm_spans: int = 4,
    patience: float = 240.0,
) -> list[Contender]:
    """Warm up each contender alone, then let them run in turn, in alternating order.

    Args:
        starts: Start the contenders.
        rounds: Number of blocks of each contender.
        seconds: Length of a block; a contender whose steps are long gets at least six steps.
        keeps_last: Whether the last contender has the last turn of every round, so that it is never frozen for long.
        warm_spans: The reports of steps that end the warm-up.
        patience: Seconds for the warm-up.

    Returns:
        The contenders; their processes have ended.

    Raises:
        SystemExit: A contender ended before its time, or never began to train.
    """
    contenders: list[Contender] = []
    with contextlib.ExitStack() as stack:
        for begin in starts:
            contender = begin()
            stack.callback(contender.kill)
            _await_steps(contender, warm_spans, patience)
            contender.freeze()
            contenders.append(contender)
        for turn in range(rounds):
            others, last = (contenders[:-1], contenders[-1:]) if keeps_last else (contenders, [])
            for contender in [*(others if turn % 2 == 0 else reversed(others)), *last]:
                _run_block(contender, seconds)
        for contender in contenders:  # reports may be written later than they are made
            contender.thaw()
            time.sleep(1.0)
            contender.freeze()
    return contenders


def _run_block(contender: Contender, seconds: float) -> None:
    if contender.process.poll() is not None:
        raise SystemExit(f"{contender.name} ended early:\n{contender.log.read_text()[-4000:]}")
    spans = contender.spans()[-20:]
    pace = sum(span.seconds for span in spans) / sum(span.steps for span in spans)
    contender.thaw()
    time.sleep(SETTLE_SECONDS)
    begin = time.time()
    time.sleep(max(seconds, 6 * min(pace, 3.0)))
    contender.blocks.append((begin, time.time()))
    contender.freeze()


def _await_steps(contender: Contender, count: int, patience: float) -> None:
    until = time.monotonic() + patience
    while len(contender.spans()) < count:
        if contender.process.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"{contender.name} took no steps:\n{contender.log.read_text()[-4000:]}")
        contender.thaw()
        time.sleep(0.2)


def _rate(spans: Sequence[Span]) -> float:
    """Steps per second; not a number without a span."""
    seconds = sum(span.seconds for span in spans)
    return sum(span.steps for span in spans) / seconds if seconds else float("nan")


def paired(mine: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio of each pair of blocks in which both took steps."""
    return [a / b for a, b in zip(mine, theirs, strict=True) if a == a and b == b]


def describe(ratios: Sequence[float], digits: int = 2) -> str:
    """Return the median with its interval, or with the range where there are too few for one."""
    if not ratios:
        return "–"
    found = median_estimate(ratios)
    low, high = (found.interval.low, found.interval.high) if found.interval else (min(ratios), max(ratios))
    return f"{found.value:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def raise_sessions(pids: Iterable[int], nice: int) -> None:
    """Give the sessions of processes a nice value where the kernel schedules by sessions (autogroup)."""
    for pid in pids if nice else ():
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/autogroup").write_text(str(nice))


def descendants(root: int) -> list[int]:
    """Return ``root`` and all its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for pid, parent in _processes():
        children.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _processes() -> Iterator[tuple[int, int]]:
    """Yield (process, parent) for each process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                yield int(entry.name), int(stat[stat.rindex(")") + 2 :].split()[1])
