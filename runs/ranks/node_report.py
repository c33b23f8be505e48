"""The report of a node: records and heartbeats of its ranks, in one file that the node rewrites in place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from saman.runs.files.whole import parse_json
from saman.runs.paths.names import is_number
from saman.runs.ranks.heartbeats import Beat, beat_from_json
from saman.runs.ranks.records import RankRecord
from saman.runs.records.schema import mapping

SCHEMA = 1


@dataclass(frozen=True)
class NodeReport:
    """Records and heartbeats of the processes of a node, by their first ranks."""

    node: str
    records: Mapping[int, RankRecord] = field(default_factory=dict)
    beats: Mapping[int, Beat] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the report as it is written."""
        beats = {
            rank: {name: value for name, value in asdict(beat).items() if value is not None}
            for rank, beat in self.beats.items()
        }
        value = {
            "schema": SCHEMA,
            "node": self.node,
            "records": [record.to_json() for record in self.records.values()],
            "beats": beats,
        }
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> NodeReport | None:
        """Read a report; ``None`` if it is damaged or of another schema. Damaged entries are left out."""
        try:
            value = mapping(parse_json(data))
        except ValueError:
            return None
        if value.get("schema") != SCHEMA:
            return None
        entries = value.get("records")
        records = [RankRecord.from_json(entry) for entry in entries] if isinstance(entries, list) else []
        noted = {rank: beat_from_json(beat) for rank, beat in mapping(value.get("beats")).items() if is_number(rank)}
        return cls(
            node=str(value.get("node", "?")),
            records={record.first_rank: record for record in records if record is not None},
            beats={int(rank): beat for rank, beat in noted.items() if beat is not None},
        )
