"""The run folder: its layout, and the one place where its files are written and read.

``runs/<experiment>/<run id>/`` holds experiment.yaml (or script.yaml), events.jsonl, state.json, attempts/<n>/,
checkpoints/, export/, control/stop and summary.json.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saman.configs.errors import UserError
from saman.configs.files import append_line, explained, read_json, read_lines, write_json, write_whole
from saman.runs.events import TRANSITIONS, Event, EventKind, State, state_of

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment
    from saman.configs.schemas.script import Script

_FOLDERS = ("attempts", "checkpoints", "control")


@dataclass(frozen=True)
class Attempt:
    """The files of one start of a run. Those of a process are named by the first rank in it."""

    path: Path

    @property
    def number(self) -> int:
        """1 for the first start."""
        return int(self.path.name)

    @property
    def command(self) -> Path:
        """The exact command that started the ranks, as a shell takes it."""
        return self.path / "command.txt"

    @property
    def provenance(self) -> Path:
        """Where the run came from: code, versions, machine, environment."""
        return self.path / "provenance.json"

    @property
    def placement(self) -> Path:
        """The planned placement of every process and rank."""
        return self.path / "placement.json"

    def log(self, rank: int) -> Path:
        """Everything that the process of ``rank`` printed."""
        return self.path / "ranks" / f"{rank:05d}.log"

    def rank_record(self, rank: int) -> Path:
        """The placement that the process found, its exit code or signal."""
        return self.path / "ranks" / f"{rank:05d}.json"

    def heartbeat(self, rank: int) -> Path:
        """Phase, epoch and step of the process, rewritten as it goes on."""
        return self.path / "ranks" / f"{rank:05d}.heartbeat.json"

    def telemetry(self, rank: int) -> Path:
        """One line per window of steps."""
        return self.path / "telemetry" / f"{rank:05d}.jsonl"

    def ranks(self) -> list[int]:
        """First ranks of the processes that have left a record."""
        names = (path.stem for path in (self.path / "ranks").glob("[0-9]*.json"))
        return sorted(int(name) for name in names if name.isdigit())


class RunFolder:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def id(self) -> str:
        """Sorts by time; unique without coordination."""
        return self.path.name

    # ---- made and found ----------------------------------------------------------------------------------

    @classmethod
    def create(cls, runs_dir: Path, spec: Experiment | Script, **facts: Any) -> RunFolder:
        """A new run of ``spec``; ``facts`` go into its ``created`` event.

        Raises ``EnvironmentLack`` where the folder cannot be written.
        """
        from saman.configs import yaml12

        now = datetime.now(timezone.utc)
        name = f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}-{secrets.token_hex(3)}"
        run = cls(runs_dir.absolute() / spec.name / name)
        with explained(run.path, "the run folder"):
            run.path.mkdir(parents=True)
            for folder in _FOLDERS:
                (run.path / folder).mkdir()
            write_whole(run._spec_file(script=hasattr(spec, "command")), yaml12.dump(spec.resolved()))
            run.append("created", "submitter", **facts)
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run at ``path``; raises ``UserError`` where there is none."""
        run = cls(path.absolute())
        if not (run._spec_file(script=False).is_file() or run._spec_file(script=True).is_file()):
            raise UserError("this is not a run folder", where=str(path), remedy="the folder that holds experiment.yaml")
        return run

    def _spec_file(self, script: bool) -> Path:
        return self.path / ("script.yaml" if script else "experiment.yaml")

    @property
    def is_script(self) -> bool:
        """Whether the run starts somebody's own program."""
        return self._spec_file(script=True).is_file()

    def experiment(self) -> Experiment:
        """The resolved experiment; raises ``UserError`` for a run of somebody's own program."""
        from saman.configs import yaml12
        from saman.configs.problems import validated
        from saman.configs.schemas.experiment import Experiment

        file = self._spec_file(script=False)
        return validated(Experiment, yaml12.read(file), str(file))

    def script(self) -> Script:
        """The program that the run starts; raises ``UserError`` for a run of an experiment."""
        from saman.configs import yaml12
        from saman.configs.problems import validated
        from saman.configs.schemas.script import Script

        file = self._spec_file(script=True)
        return validated(Script, yaml12.read(file), str(file))

    def spec(self) -> Experiment | Script:
        """What the run runs."""
        return self.script() if self.is_script else self.experiment()

    @property
    def code_path(self) -> tuple[Path, ...]:
        """Folders in which the user's code is looked for, last on ``sys.path``."""
        created = next((event for event in self.events() if event.kind == "created"), None)
        recorded = created.facts.get("code_path", []) if created else []
        return tuple(Path(folder) for folder in recorded)

    # ---- events and state --------------------------------------------------------------------------------

    @property
    def events_file(self) -> Path:
        """Everything that happened, a line each."""
        return self.path / "events.jsonl"

    def append(self, kind: str, who: str, attempt: int | None = None, **facts: Any) -> Event:
        """Record an event, and rewrite ``state.json`` if the event changes the state.

        Raises ``ValueError`` for a kind that ``EventKind`` does not list.
        """
        event = Event(EventKind(kind).value, who, attempt=attempt, facts=facts)
        append_line(self.events_file, event.to_json())
        if kind in TRANSITIONS:
            self.refresh_state()
        return event

    def events(self) -> list[Event]:
        """Every event that was written whole, in order."""
        return [event for line in read_lines(self.events_file)[0] if (event := Event.from_json(line)) is not None]

    @property
    def state(self) -> State:
        """Where the run stands, by its events."""
        return state_of(self.events())

    def refresh_state(self) -> None:
        """Rewrite ``state.json`` where it differs from what the events say."""
        events = self.events()
        state = state_of(events)
        file = self.path / "state.json"
        previous = read_json(file)
        if not isinstance(previous, dict) or previous.get("state") != state.value:
            write_json(file, {"schema": 1, "state": state.value, "time": events[-1].time if events else None})

    # ---- attempts ----------------------------------------------------------------------------------------

    def new_attempt(self) -> Attempt:
        """The folders of the next start. Two at once get different numbers."""
        with explained(self.path, "the run folder"):
            while True:
                attempt = Attempt(self.path / "attempts" / str(len(self.attempts()) + 1))
                try:
                    attempt.path.mkdir(parents=True)
                except FileExistsError:
                    continue
                (attempt.path / "ranks").mkdir()
                (attempt.path / "telemetry").mkdir()
                return attempt

    def attempt(self, number: int) -> Attempt:
        """The files of one start."""
        return Attempt(self.path / "attempts" / str(number))

    def attempts(self) -> list[Attempt]:
        """Every start so far, oldest first."""
        folders = (self.path / "attempts").glob("[0-9]*")
        return sorted((Attempt(folder) for folder in folders if folder.name.isdigit()), key=lambda one: one.number)

    # ---- the rest ----------------------------------------------------------------------------------------

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def export(self) -> Path:
        """The folder of the exported model."""
        return self.path / "export"

    @property
    def stop_request(self) -> Path:
        """The file whose presence asks for a checkpoint and a clean end."""
        return self.path / "control" / "stop"

    def request_stop(self, reason: str, who: str) -> None:
        """Ask all ranks for a checkpoint and a clean end."""
        self.stop_request.parent.mkdir(exist_ok=True)
        write_whole(self.stop_request, reason + "\n")
        self.append("stop_requested", who, reason=reason)

    def withdraw_stop(self) -> None:
        """Take a stop request back, before the next attempt."""
        with contextlib.suppress(FileNotFoundError):
            self.stop_request.unlink()

    def summary(self) -> dict[str, Any] | None:
        """What the run came to; ``None`` before it ended."""
        value = read_json(self.path / "summary.json")
        return value if isinstance(value, dict) else None

    def write_summary(self, facts: Mapping[str, Any]) -> None:
        """Record what the run came to."""
        write_json(self.path / "summary.json", {"schema": 1, **facts})
