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
    """Records and heartbeats of the processes of a node, by their first ranks.

    Records seldom change and heartbeats always do, so each has a line of its own. ``record_line`` is the line that
    ``records`` were read from.
    """

    node: str
    records: Mapping[int, RankRecord] = field(default_factory=dict)
    beats: Mapping[int, Beat] = field(default_factory=dict)
    record_line: bytes = field(default=b"", compare=False, repr=False)

    def to_bytes(self) -> bytes:
        """Return the report as it is written."""
        records = [record.to_json() for record in self.records.values()]
        beats = {
            rank: {name: value for name, value in asdict(beat).items() if value is not None}
            for rank, beat in self.beats.items()
        }
        return b"\n".join((_line({"schema": SCHEMA, "node": self.node, "records": records}), _line({"beats": beats})))

    @classmethod
    def from_bytes(cls, data: bytes, before: NodeReport | None = None) -> NodeReport | None:
        """Read a report; ``None`` if it is damaged or of another schema. Damaged entries are left out.

        Args:
            data: The report as it was written.
            before: An earlier report of the same node, from which records that did not change are taken.
        """
        first, _, second = data.partition(b"\n")
        try:
            noted = mapping(mapping(parse_json(second)).get("beats"))
            if before is not None and before.record_line == first:
                return cls(before.node, before.records, _beats(noted), first)
            value = mapping(parse_json(first))
        except ValueError:
            return None
        if value.get("schema") != SCHEMA:
            return None
        entries = value.get("records")
        records = [RankRecord.from_json(entry) for entry in entries] if isinstance(entries, list) else []
        found = {record.first_rank: record for record in records if record is not None}
        return cls(str(value.get("node", "?")), found, _beats(noted), first)


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _beats(noted: Mapping[str, object]) -> dict[int, Beat]:
    beats = {rank: beat_from_json(beat) for rank, beat in noted.items() if is_number(rank)}
    return {int(rank): beat for rank, beat in beats.items() if beat is not None}
