"""``notebook.json``: how its user reaches the Jupyter server of a run. Only the user may read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from saman.runs.files.whole import write_json
from saman.runs.records.schema import integer, read_record


@dataclass(frozen=True)
class NotebookRecord:
    """A Jupyter server: its node, the address and port on which it listens, and its token."""

    node: str
    address: str
    port: int
    token: str

    def __repr__(self) -> str:
        return f"NotebookRecord({self.node!r}, {self.address!r}, {self.port})"  # no token in a log

    def write(self, path: Path) -> None:
        """Put the record at ``path``, readable by its owner only."""
        write_json(path, {"schema": 1, **asdict(self)}, private=True)

    @classmethod
    def read(cls, path: Path) -> NotebookRecord | None:
        """Read the record at ``path``; ``None`` before the server listens."""
        value = read_record(path)
        port = integer(value.get("port")) if value else None
        if value is None or port is None:
            return None
        return cls(str(value.get("node")), str(value.get("address")), port, str(value.get("token")))
