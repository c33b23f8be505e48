"""Starts small programs on real ranks, as a test or in a process of its own that can be interrupted and killed."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from saman.configs.schemas.experiment import Launch, Resources
from saman.configs.schemas.script import Script
from saman.launcher.local import run_script
from saman.launcher.planning import Options, gather_facts
from saman.launcher.supervision.outcome import Outcome
from saman.runs.folder import RunFolder

# Programs here need no Horovod, so nothing waits for its rendezvous.
PLAIN = replace(gather_facts(), horovod=None)


@dataclass
class Seen:
    """A view that remembers."""

    lines: list[tuple[int, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    steps: list[Any] = field(default_factory=list)

    def progress(self, progress: Any) -> None:
        self.steps.append(progress)

    def line(self, rank: int, text: str) -> None:
        self.lines.append((rank, text))

    def say(self, text: str) -> None:
        self.said.append(text)


@dataclass
class Ranks:
    """A folder for runs, and a mark in the environment of everything that is started from here."""

    folder: Path
    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    def spec(self, program: str, *arguments: str, ranks: int = 2, starter: str = "processes", **launch: Any) -> Script:
        """The spec of a Python program given as text."""
        file = self.folder / "program.py"
        file.write_text(program)
        environment = {"SAMAN_TEST_MARK": self.mark, **launch.pop("environment", {})}
        return Script(
            name="program",
            command=[sys.executable, str(file), *arguments],
            directory=str(self.folder),
            resources=Resources(ranks_per_node=ranks),
            launch=Launch.model_validate({"with": starter, "environment": environment, **launch}),
        )

    def run(self, program: str, *arguments: str, view: Any = None, facts: Any = PLAIN, **spec: Any) -> Outcome:
        """Run a program on ranks to its end."""
        options = Options(runs_dir=self.folder / "runs", facts=facts, all_ranks=True)
        return run_script(self.spec(program, *arguments, **spec), options, view)

    def run_folder(self) -> RunFolder:
        """The newest run."""
        return RunFolder(sorted((self.folder / "runs").glob("*/*"))[-1])

    @contextmanager
    def saman(self, program: str, ranks: int = 2, starter: str = "processes") -> Iterator[subprocess.Popen[str]]:
        """The same in a saman of its own, once every rank has started."""
        spec = self.spec(program, ranks=ranks, starter=starter)
        driver = (
            "import sys, json; sys.path.insert(0, sys.argv[3]); from ranks import PLAIN\n"
            "from saman.launcher.local import *; from saman.launcher.planning import Options\n"
            "from pathlib import Path\n"
            "o = run_script(Script.model_validate(json.loads(sys.argv[1])), Options(Path(sys.argv[2]), facts=PLAIN))\n"
            "print(o.message); sys.exit(o.exit_code)"
        )
        argv = [sys.executable, "-c", driver, json.dumps(spec.resolved()), str(self.folder / "runs")]
        process = subprocess.Popen([*argv, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True)
        try:
            wait_for(lambda: self._started() == ranks or process.poll() is not None)
            yield process
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def _started(self) -> int:
        runs = sorted((self.folder / "runs").glob("*/*"))
        return sum(event.kind == "rank_started" for event in RunFolder(runs[-1]).events()) if runs else 0

    def left(self) -> dict[int, str]:
        """Every live process that carries the mark."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if f"SAMAN_TEST_MARK={self.mark}".encode() in (entry / "environ").read_bytes():
                        found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
                except OSError:
                    continue
        return found

    def nobody_is_left(self, seconds: float = 10.0) -> bool:
        """Whether everything with the mark ends within the time."""
        wait_for(lambda: not self.left(), seconds, must=False)
        left = self.left()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, left
        return True


def wait_for(condition: Any, seconds: float = 30.0, must: bool = True) -> None:
    """Until ``condition()`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            assert not must, "waited in vain"
            return
        time.sleep(0.05)


def read_all(folder: Path) -> list[Mapping[str, Any]]:
    """What every rank left as JSON, in the order of ranks."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob("said-*.json"))]
