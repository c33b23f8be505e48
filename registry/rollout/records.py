"""Files of a rollout beside the audit log: the evidence of each server, feedback, and the history of judgements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.registry.rollout.evidence import Evidence
from saman.registry.store.layout import ModelFolder, require_own_place
from saman.registry.store.rollouts import RolloutState
from saman.runs.files.whole import append_line, read_json, read_lines, write_json

MOST_HISTORY = 2000  # judgements on a page; later ones are thinned out by their spacing


@dataclass(frozen=True)
class RolloutFiles:
    """The folder of a rollout."""

    path: Path

    @classmethod
    def of(cls, folder: ModelFolder, rollout: RolloutState) -> RolloutFiles:
        """The files of a rollout; raises ``UserError`` where they would lie outside the model's folder."""
        path = folder.own / "rollouts" / rollout.id
        require_own_place(folder, path / "any")
        return cls(path)

    @property
    def history(self) -> Path:
        """The file of a rollout's judgements, a line for each."""
        return self.path / "history.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the server that judges."""
        return self.path / "judge.lock"

    def evidence(self, server: str) -> Path:
        """The rollout's file with the counts of a server."""
        return self.path / f"evidence-{server}.json"

    def feedback(self, server: str) -> Path:
        """Labels that a server received for answers of others."""
        return self.path / f"feedback-{server}.jsonl"

    def all_feedback(self) -> list[Path]:
        """The feedback files of all servers."""
        return sorted(self.path.glob("feedback-*.jsonl")) if self.path.is_dir() else []

    def write_evidence(self, server: str, evidence: Evidence) -> None:
        """Put the counts of a server in place, whole."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.evidence(server), evidence.to_json())

    def read_evidence(self, per_block: int) -> Evidence:
        """The sum of the servers' files of counts of a rollout; a damaged file counts nothing."""
        parts = []
        for file in sorted(self.path.glob("evidence-*.json")) if self.path.is_dir() else []:
            value = read_json(file)
            try:
                parts.append(Evidence.from_json(value if isinstance(value, dict) else {}))
            except ValueError:
                continue
        return Evidence.merged(parts, per_block)

    def append_history(self, facts: dict[str, Any]) -> None:
        """Add a judgement to the rollout's file of judgements."""
        append_line(self.history, facts)

    def read_history(self) -> list[dict[str, Any]]:
        """All judgements, oldest first; torn lines are dropped."""
        return read_lines(self.history)[0] if self.history.is_file() else []
