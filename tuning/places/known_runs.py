"""The runs that a study has made, by key: found again after the study itself was killed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from saman.configs.errors import EnvironmentLack, UserError
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import Creation
from saman.tuning.places.place import Place, Seen
from saman.tuning.plan import RunSpec


class KnownRuns:
    """Starts runs at most once per key, also over several lives of the study.

    The key is in the run's ``created`` event, written with the folder: there is no moment in which a run exists and its
    study does not find it.

    Args:
        place: Where runs are started.
        runs_dir: The folder of runs.
        name: The study.
        token: Identifies the study's storage: runs of an earlier storage of the same name are left alone.
    """

    def __init__(self, place: Place, runs_dir: Path, name: str, token: str) -> None:
        self._place, self._token, self._runs_dir, self._name = place, token, runs_dir, name
        self._runs: dict[str, RunFolder] = {}
        self._find_all()

    def _find_all(self) -> None:
        for run in find_runs(self._runs_dir, self._name):
            self._add(run)

    def _add(self, run: RunFolder) -> None:
        trial = Creation.find(run.events()[:1]).trial
        if trial is not None and trial.startswith(f"{self._token}/"):
            self._runs.setdefault(trial.removeprefix(f"{self._token}/"), run)

    def find(self, key: str) -> RunFolder | None:
        """The run with a key; ``None`` before it was made."""
        return self._runs.get(key)

    def all(self) -> list[RunFolder]:
        """Every run of the study, oldest first."""
        return sorted(self._runs.values(), key=lambda run: run.id)

    def start(self, specs: Sequence[RunSpec]) -> None:
        """Make and start the runs that do not exist, those for which there is room.

        Raises:
            UserError: A run does not fit the place; others may have been started.
            EnvironmentLack: The place does not answer.
        """
        missing = [replace(each, key=f"{self._token}/{each.key}") for each in specs if each.key not in self._runs]
        try:
            for run in self._place.start(missing) if missing else ():
                self._add(run)
        except UserError:
            self._find_all()  # those that were started before
            raise

    def start_each(self, specs: Sequence[RunSpec]) -> dict[str, UserError]:
        """Start runs as ``start``; if they do not all fit the place, one by one. Returns why, by key."""
        try:
            self.start(specs)
        except EnvironmentLack:
            raise
        except UserError as error:
            if len(specs) == 1:
                return {specs[0].key: error}
            return {key: why for each in specs for key, why in self.start_each([each]).items()}
        return {}

    def restart(self, run: RunFolder) -> None:
        """Start a run again in its own folder."""
        self._place.restart(run)

    def look(self, runs: Sequence[RunFolder]) -> list[Seen]:
        """Look at runs."""
        return self._place.look(runs)

    def close(self) -> None:
        """Let go of the runs."""
        self._place.close()
