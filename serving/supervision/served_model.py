"""A model of a server: what the registry wants of it, what is loaded, and what requests reach. No processes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from saman.configs.errors import UserError
from saman.registry.store import audit_log
from saman.registry.store.audit_entry import Entry
from saman.registry.store.layout import ModelFolder, VersionSpec
from saman.registry.store.model_state import replay
from saman.serving.front.table import ServedModel, ServedVersion, VersionLife
from saman.serving.supervision.loader import LoadedVersion
from saman.serving.supervision.wanted import ServedLabels, WantedModel, next_labels, superfluous, wanted_model
from saman.serving.traffic import Traffic

_RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class LoadFailure:
    """Why a version is not served, when to try again (``time.monotonic``), and whether its check took too long."""

    problem: str
    retry_at: float
    was_starved: bool = False


@dataclass
class FollowedModel:
    """A model that the server follows."""

    folder: ModelFolder
    spec: VersionSpec
    wanted: WantedModel
    served: ServedLabels = ServedLabels()
    loaded: dict[int, LoadedVersion] = field(default_factory=dict)
    failed: dict[int, LoadFailure] = field(default_factory=dict)
    busy: set[int] = field(default_factory=set)  # are being checked or loaded, because the registry wants them
    unfit: set[int] = field(default_factory=set)  # cannot be promoted, and nobody has asked for it
    log_problem: str = ""
    _entries: list[Entry] = field(default_factory=list)

    def follow(self, traffic: Traffic) -> str:
        """Read new entries of the audit log; returns a new problem of the log, empty for none."""
        try:
            entries = audit_log.read(self.folder.log, self._entries)
            state = replay(self.folder.name, entries)
        except (UserError, OSError) as error:
            new = str(error) if str(error) != self.log_problem else ""
            self.log_problem = str(error)
            return new
        if len(entries) > len(self._entries):
            self.failed.clear()  # what the entry changed may let a version load
            self.unfit.clear()
        self._entries, self.log_problem = entries, ""
        self.wanted = wanted_model(state, self.spec, traffic.wanted(state))
        return ""

    def to_load(self) -> list[int]:
        """Versions that are wanted and not loaded, the most important first."""
        now = time.monotonic()
        waiting = (n for n in self.wanted.load if n not in self.loaded and n not in self.busy)
        return [n for n in waiting if n not in self.failed or self.failed[n].retry_at <= now]

    def fail(self, number: int, problem: str, *, was_starved: bool = False) -> None:
        """Remember why a version could not be loaded."""
        self.failed[number] = LoadFailure(problem, time.monotonic() + _RETRY_SECONDS, was_starved)

    def settle(self) -> list[LoadedVersion]:
        """Move labels as far as versions are loaded; returns the versions that leave."""
        self.served = next_labels(self.wanted, self.served, self.loaded)
        return [self.loaded.pop(number) for number in superfluous(self.wanted, self.served, self.loaded)]

    def row(self) -> ServedModel:
        """The model in the table of the fronts."""
        versions = {
            number: ServedVersion(
                number, VersionLife.AVAILABLE, each.socket, each.checked.signature_map, files=each.local_files
            )
            for number, each in self.loaded.items()
        }
        for number, failure in self.failed.items():
            versions.setdefault(number, ServedVersion(number, VersionLife.END, problem=failure.problem))
        for number in self.busy:
            versions.setdefault(number, ServedVersion(number, VersionLife.LOADING))
        return ServedModel(self.folder.name, self.served.default, self.served.labels, versions)
