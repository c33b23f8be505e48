"""Steps that a resumed attempt repeats count once, in both readers of telemetry, however attempts begin and end."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as some

from saman.runs.files.whole import append_line
from saman.runs.folder import RunFolder
from saman.runs.telemetry.reader import read_telemetry
from saman.runs.telemetry.window import Window, read_windows

# attempts: the checkpoint that each resumes from, in windows, and how many windows it gets to write
ATTEMPTS = some.lists(some.tuples(some.integers(0, 12), some.integers(0, 8)), min_size=1, max_size=5)


@given(ATTEMPTS, some.integers(1, 3))
def test_the_windows_that_count_are_the_newest_of_each_step(attempts: list[tuple[int, int]], ranks: int) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        run = RunFolder(folder)
        newest: dict[int, int] = {}  # step -> attempt that took it last, drawn up by replaying the run
        for number, (resumed, written) in enumerate(attempts, 1):
            attempt = run.new_attempt()
            if written:
                newest = {step: taken for step, taken in newest.items() if step <= 10 * resumed}
            for index in range(resumed + 1, resumed + written + 1):
                newest[10 * index] = number
                for rank in range(ranks):
                    window = Window(rank, 1, ranks, 10 * index, 10, number, 80, 1.0, 0.0)
                    append_line(attempt.telemetry(rank), window.to_json())
        listed, dropped, repeated = read_windows(run, 0)
        columns = read_telemetry(folder, ranks)
        assert [(window.step, window.epoch) for window in listed] == list(newest.items())
        assert columns.last_step.tolist() == sorted(newest)
        assert columns.left_out.repeated == repeated * ranks
        assert dropped == 0 and repeated == sum(written for _, written in attempts) - len(newest)
    finally:
        shutil.rmtree(folder)
