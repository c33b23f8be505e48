"""The identity of a data set: its files with their sizes and hashes, and what its Croissant description says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from saman.runs.records.schema import integer, mapping, text


@dataclass(frozen=True)
class DataFile:
    """A file of a data set; ``sha256`` is ``None`` where the files are too large to be hashed at every change."""

    name: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class DataIdentity:
    """The identity of a data set.

    Attributes:
        digest: SHA-256 (hex) of the names, sizes and hashes of all files.
        files: The number of files.
        bytes: Their size.
        hashed: Whether the digest covers the contents, and not the sizes alone.
        listed: The first files.
        croissant: Name, version, licence and URL from a Croissant description beside the files.
        differing: Files that differ from their hash in the Croissant description.
    """

    digest: str
    files: int
    bytes: int
    hashed: bool
    listed: tuple[DataFile, ...] = ()
    croissant: Mapping[str, str] = field(default_factory=dict)
    differing: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DataIdentity | None:
        """Take the identity out of plain values; ``None`` if they hold no digest."""
        if not value.get("digest"):
            return None
        files = [mapping(item) for item in value.get("listed") or ()]
        return cls(
            digest=str(value["digest"]),
            files=integer(value.get("files")) or 0,
            bytes=integer(value.get("bytes")) or 0,
            hashed=bool(value.get("hashed")),
            listed=tuple(
                DataFile(str(item.get("name")), integer(item.get("size")) or 0, text(item.get("sha256")))
                for item in files
            ),
            croissant={name: str(said) for name, said in mapping(value.get("croissant")).items()},
            differing=tuple(map(str, value.get("differing") or ())),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def digest_of_files(files: list[DataFile]) -> str:
    """Return the SHA-256 (hex) of a data set's files; their order does not matter.

    >>> digest_of_files([DataFile("a", 1), DataFile("b", 2)]) == digest_of_files([DataFile("b", 2), DataFile("a", 1)])
    True
    """
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda item: item.name):
        digest.update(f"{file.name}\0{file.size}\0{file.sha256 or ''}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
