"""``provenance.json``: code, versions, machine and environment of an attempt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from saman.runs.files.whole import write_json
from saman.runs.records.schema import integer, mapping, others, read_record, text


@dataclass(frozen=True)
class CodeState:
    """State of the git repository around the working folder. ``diff`` holds uncommitted changes, secrets removed."""

    commit: str
    branch: str = ""
    dirty: bool = False
    diff: str = ""
    diff_is_cut: bool = False
    untracked: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CodeState | None:
        """Take the state out of plain values; ``None`` if they name no commit."""
        if not value.get("commit"):
            return None
        return cls(
            commit=str(value["commit"]),
            branch=str(value.get("branch") or ""),
            dirty=bool(value.get("dirty", value.get("diff"))),
            diff=str(value.get("diff") or ""),
            diff_is_cut=bool(value.get("diff_is_cut")),
            untracked=tuple(map(str, value.get("untracked") or ())),
        )


@dataclass(frozen=True)
class MemoryBandwidth:
    """Bytes per second that the memory of a node moves for ``cores`` at work, measured by a triad; ascending counts."""

    cores: tuple[int, ...]
    bytes_per_second: tuple[float, ...]

    @classmethod
    def from_json(cls, value: Any) -> MemoryBandwidth | None:
        """Take the bandwidth out of plain values; ``None`` if they hold none."""
        if not isinstance(value, Mapping) or not value.get("cores"):
            return None
        pairs = sorted(zip(map(int, value["cores"]), map(float, value["bytes_per_second"]), strict=False))
        return cls(tuple(cores for cores, _ in pairs), tuple(rate for _, rate in pairs))

    def of(self, cores: float) -> float:
        """The recorded bytes per second with so many cores at work, linear between the measured counts."""
        known = list(zip(self.cores, self.bytes_per_second, strict=True))
        if cores <= known[0][0]:
            return known[0][1] * cores / known[0][0]
        for (few, slow), (many, fast) in pairwise(known):
            if cores <= many:
                return slow + (fast - slow) * (cores - few) / (many - few)
        return known[-1][1]


@dataclass(frozen=True)
class Host:
    """The machine that started the ranks."""

    name: str | None = None
    node: str | None = None
    system: str | None = None
    cpu: str | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    gpus: tuple[str, ...] = ()
    memory_bandwidth: MemoryBandwidth | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Host | None:
        """Take the machine out of plain values; ``None`` if there are none."""
        if not value:
            return None
        return cls(
            name=text(value.get("name")),
            node=text(value.get("node")),
            system=text(value.get("system")),
            cpu=text(value.get("cpu")),
            cores=integer(value.get("cores")),
            memory_bytes=integer(value.get("memory_bytes")),
            gpus=tuple(map(str, value.get("gpus") or ())),
            memory_bandwidth=MemoryBandwidth.from_json(value.get("memory_bandwidth")),
        )

    def sentence(self) -> str:
        """Name the processor, cores and GPUs of the provenance.

        >>> Host(cpu="AMD EPYC 7763", cores=64, gpus=("A100",)).sentence()
        'AMD EPYC 7763, 64 cores, A100'
        """
        return ", ".join([str(self.cpu), f"{self.cores} cores", *self.gpus])


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
        """Take the identity out of the provenance's plain values; ``None`` if they hold no digest."""
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
        """Return plain values for the provenance."""
        return asdict(self)


def digest_of_files(files: list[DataFile]) -> str:
    """Return the SHA-256 (hex) of a data set's files for the provenance; their order does not matter.

    >>> digest_of_files([DataFile("a", 1), DataFile("b", 2)]) == digest_of_files([DataFile("b", 2), DataFile("a", 1)])
    True
    """
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda item: item.name):
        digest.update(f"{file.name}\0{file.size}\0{file.sha256 or ''}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


@dataclass(frozen=True)
class Provenance:
    """Origin of an attempt; secrets are removed everywhere.

    ``time`` is ISO 8601. ``mpi`` names the MPI library. ``data`` is added once the ranks have found the data.
    """

    time: str | None = None
    command_line: tuple[str, ...] = ()
    directory: str | None = None
    git: CodeState | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)  # every installed package and its version
    host: Host | None = None
    mpi: str | None = None
    slurm_job: Mapping[str, str] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    start_method: str | None = None
    staged: Mapping[str, str] = field(default_factory=dict)  # environment and data, and their copies on the nodes
    data: DataIdentity | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Provenance:
        """Take the provenance out of plain values; facts of another kind than expected count as unknown."""
        return cls(
            time=text(value.get("time")),
            command_line=tuple(map(str, value.get("command_line") or ())),
            directory=text(value.get("directory")),
            git=CodeState.from_json(mapping(value.get("git"))),
            versions={name: str(version) for name, version in mapping(value.get("versions")).items() if version},
            packages={name: str(version) for name, version in mapping(value.get("packages")).items() if version},
            host=Host.from_json(mapping(value.get("host"))),
            mpi=text(value.get("mpi")),
            slurm_job=value.get("slurm_job"),
            environment=mapping(value.get("environment")),
            start_method=text(value.get("start_method")),
            staged={name: str(copy) for name, copy in mapping(value.get("staged")).items()},
            data=DataIdentity.from_json(mapping(value.get("data"))),
            more=others(value, cls.__dataclass_fields__),
        )

    def to_json(self, with_environment: bool = True) -> dict[str, Any]:
        """Return the values of ``provenance.json``; published versions leave the environment out."""
        plain = asdict(self)
        more = plain.pop("more")
        if not with_environment:
            del plain["environment"]
        return {"schema": 1, **plain, **more}

    def write(self, path: Path) -> None:
        """Put the record at ``path``, whole."""
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Provenance | None:
        """Read the record at ``path``; ``None`` if there is none. Raises ``NewerSchema``."""
        value = read_record(path)
        return None if value is None else cls.from_json(value)

    def software(self) -> str:
        """Name the versions of packages and the MPI library, for a table."""
        parts = [f"{name} {version}" for name, version in self.versions.items() if name != "executable"]
        return ", ".join([*parts, *([self.mpi] if self.mpi else [])]) or "unknown"
