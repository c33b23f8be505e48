"""One run on disk: makes it, finds what it holds, records what happens to it. ``runs.paths`` names its files."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from saman.configs.errors import UserError
from saman.runs.events import SUBMITTER, TRANSITIONS, Event, EventKind, State, state_of
from saman.runs.files.reserve import reserve, write_with_reserve
from saman.runs.files.whole import append_line, read_json, read_lines, write_json, write_whole
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.paths.attempt import Attempt
from saman.runs.paths.run import RunPaths
from saman.runs.records.experiment import WrittenExperiment, read_written
from saman.runs.records.run_events import Creation
from saman.runs.records.summary import Summary

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment
    from saman.configs.schemas.script import Script

__all__ = ["Attempt", "RunFolder"]
_log = logging.getLogger(__name__)


class RunFolder(RunPaths):
    """One run on disk.

    >>> import tempfile
    >>> from saman.configs.schemas.script import Script
    >>> spec = Script.model_validate({"name": "hello", "command": ["echo", "hello"], "directory": "/tmp"})
    >>> run = RunFolder.create(Path(tempfile.mkdtemp()), spec)
    >>> run.state.value, run.is_script, run.attempts()
    ('created', True, [])
    >>> run.new_attempt().number
    1
    >>> event = run.append("attempt_started", "supervisor", 1, ranks=2)
    >>> RunFolder.open(run.path).state.value
    'running'
    """

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    # ---- made and found ----------------------------------------------------------------------------------

    @classmethod
    def create(cls, runs_dir: Path, spec: Experiment | Script, **facts: Any) -> RunFolder:
        """Make the folder of a new run.

        Args:
            runs_dir: The folder of runs; made if missing.
            spec: What the run runs; written to the folder with every default filled in.
            facts: Facts for the run's ``created`` event, such as ``code_path``.

        Raises:
            UserError: The experiment refers to a variable that is not set.
            EnvironmentLack: The folder cannot be written.
        """
        from saman.configs.private_values import set_aside
        from saman.configs.schemas.experiment import digest_of
        from saman.runs import private_values

        public, private = set_aside(spec.resolved())
        is_script = hasattr(spec, "command")
        if not is_script:  # readers of thousands of runs need no YAML
            facts |= {"digest": digest_of(public), "publishes": public.get("publish") is not None}
        kept = private_values.gather(public, private)

        now = datetime.now(timezone.utc)
        name = f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}-{secrets.token_hex(3)}"
        run = cls(runs_dir.absolute() / spec.name / name)
        with explain_write_errors(run.path, "the run folder"):
            run.group.mkdir(parents=True, exist_ok=True)
            # Whatever the umask, nobody else writes here: a run folder names commands that its owner executes.
            for folder in (run.path, run.attempts_folder, run.checkpoints, run.control):
                folder.mkdir(mode=0o755)
            file = run.script_file if is_script else run.experiment_file
            private_values.keep(run, kept)
            write_whole(file, _as_yaml(json.dumps(public)))
            run.append(EventKind.CREATED, SUBMITTER, **facts)
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the run at ``path``. Raises ``UserError`` if that is no run folder."""
        run = cls(path.absolute())
        if not (run.experiment_file.is_file() or run.script_file.is_file()):
            raise UserError("this is not a run folder", where=str(path), remedy="the folder that holds experiment.yaml")
        return run

    @property
    def is_script(self) -> bool:
        """Whether the run starts a user's own program."""
        return self.script_file.is_file()

    def experiment(self) -> Experiment:
        """Read the resolved experiment. Raises ``UserError`` for a run of a user's own program."""
        from saman.configs import yaml12
        from saman.configs.problems import validated
        from saman.configs.schemas.experiment import Experiment

        return validated(Experiment, yaml12.read_written(self.experiment_file), str(self.experiment_file))

    def script(self) -> Script:
        """Read the start of the user's own program. Raises ``UserError`` for a run of an experiment."""
        from saman.configs import yaml12
        from saman.configs.problems import validated
        from saman.configs.schemas.script import Script

        return validated(Script, yaml12.read_written(self.script_file), str(self.script_file))

    def spec(self) -> Experiment | Script:
        """Read what the run runs: its experiment or its script."""
        return self.script() if self.is_script else self.experiment()

    def written_experiment(self) -> WrittenExperiment:
        """Read the experiment as it was written, without validating it: fast over thousands of runs.

        Raises ``UserError`` if the file is missing or no YAML.
        """
        return read_written(self.experiment_file)

    @property
    def code_path(self) -> tuple[Path, ...]:
        """Folders that hold the user's code, last on ``sys.path``."""
        return Creation.find(self.events()).code_path

    # ---- events and state --------------------------------------------------------------------------------

    def append(self, kind: str, who: str, attempt: int | None = None, **facts: Any) -> Event:
        """Record an event, and rewrite ``state.json`` if the event changes the state.

        Args:
            kind: A value of ``EventKind``.
            who: The writer: ``submitter``, ``supervisor``, ``job``, ``rank 3``, …
            attempt: Number of the attempt that the event belongs to.
            facts: Facts of the event, by name.

        Raises:
            ValueError: ``EventKind`` does not list ``kind``.
        """
        event = Event(EventKind(kind).value, who, attempt=attempt, facts=facts)
        if kind in TRANSITIONS:
            write_with_reserve(self.reserve, lambda: append_line(self.events_file, event.to_json()))
            write_with_reserve(self.reserve, self.refresh_state)
        else:
            append_line(self.events_file, event.to_json())
        _log.info("%s: %s by %s", self.id, event.kind, who)
        return event

    def events(self) -> list[Event]:
        """Read every event that was written whole, in order; from memory while the file is the same."""
        seen, kept = self.__dict__.get("_events", (None, []))
        now = _version_of(self.events_file)
        if now is None or seen != now:
            lines = read_lines(self.events_file)[0]
            kept = [event for line in lines if (event := Event.from_json(line)) is not None]
            self.__dict__["_events"] = (now, kept)
        return list(kept)

    @property
    def state(self) -> State:
        """State of the run, derived from its events."""
        return state_of(self.events())

    def refresh_state(self) -> None:
        """Rewrite ``state.json`` if it differs from the events."""
        events = self.events()
        state = state_of(events)
        previous = read_json(self.state_file)
        if not isinstance(previous, dict) or previous.get("state") != state.value:
            last = events[-1].time if events else None
            write_json(self.state_file, {"schema": 1, "state": state.value, "time": last})

    # ---- attempts ----------------------------------------------------------------------------------------

    def new_attempt(self) -> Attempt:
        """Make the folders of the next attempt. Concurrent callers get different numbers."""
        with explain_write_errors(self.path, "the run folder"):
            while True:
                attempt = self.attempt(len(self.attempts()) + 1)
                try:
                    attempt.path.mkdir(parents=True)
                except FileExistsError:
                    continue
                attempt.make_folders()
                reserve(self.reserve)
                return attempt

    def last_attempt(self) -> Attempt | None:
        """Return the newest attempt; ``None`` before the first."""
        attempts = self.attempts()
        return attempts[-1] if attempts else None

    # ---- stop requests and the result --------------------------------------------------------------------

    def request_stop(self, reason: str, who: str) -> None:
        """Ask all ranks for a checkpoint and a clean end."""
        self.control.mkdir(exist_ok=True)
        write_whole(self.stop_request, reason + "\n")
        self.append(EventKind.STOP_REQUESTED, who, reason=reason)

    def withdraw_stop(self) -> None:
        """Withdraw a stop request, before the next attempt."""
        with contextlib.suppress(FileNotFoundError):
            self.stop_request.unlink()

    def summary(self) -> Summary | None:
        """Read the result of the newest attempt, from memory while the file is the same.

        Returns:
            ``None`` before an attempt has ended.

        Raises:
            NewerSchema: A newer saman wrote it.
        """
        now = _version_of(self.summary_file)
        seen, kept = self.__dict__.get("_summary", (None, None))
        if now is not None and seen == now:
            return cast(Summary | None, kept)
        found = None if now is None else Summary.read(self.summary_file)
        self.__dict__["_summary"] = (now, found)
        return found

    def write_summary(self, summary: Summary) -> None:
        """Record the result of an attempt."""
        write_with_reserve(self.reserve, lambda: summary.write(self.summary_file))


@lru_cache(maxsize=2048)  # the repeats of a study's settings
def _as_yaml(plain: str) -> str:
    from saman.configs import yaml12

    return yaml12.dump(json.loads(plain))


def _version_of(file: Path) -> tuple[int, int, int] | None:
    """A value that changes when a file is exchanged or a line is appended; ``None`` if the file is missing."""
    try:
        found = os.stat(file)  # noqa: PTH116  (thousands of files a second)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
