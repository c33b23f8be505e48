"""``rendezvous.json``: where the ranks of an attempt reach Horovod's rendezvous server."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from saman.runs.files.whole import write_json
from saman.runs.records.schema import read_record


@dataclass(frozen=True)
class RendezvousAddress:
    """Host and port of the listening server, the id of its process, and the token that every request must carry.

    Only the run's owner may read the record: who has the token can replace the addresses of ranks.
    """

    host: str
    port: int
    pid: int = 0
    token: str = ""

    def write(self, path: Path) -> None:
        """Write the record to ``path``, whole."""
        write_json(path, {"schema": 1, **asdict(self)}, private=True)

    @classmethod
    def read(cls, path: Path) -> RendezvousAddress | None:
        """Read the record at ``path``; ``None`` if the server has not written it yet. Raises ``NewerSchema``."""
        value = read_record(path)
        if value is None or "port" not in value:
            return None
        return cls(str(value["host"]), int(value["port"]), int(value.get("pid", 0)), str(value.get("token", "")))
