"""The folder of a batch inference, which all its ranks share: ``job.json`` (request), ``plan.json`` (input), parts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saman.runs.files.whole import write_json
from saman.runs.paths.names import names_in
from saman.runs.records.schema import read_record


@dataclass(frozen=True)
class InferencePaths:
    """Files of a batch inference."""

    path: Path

    @classmethod
    def beside(cls, output: Path) -> InferencePaths:
        """Return the folder of an inference job for the file ``output``.

        >>> InferencePaths.beside(Path("/data/answers.parquet")).path.name
        '.answers.parquet.saman'
        """
        return cls(output.absolute().with_name(f".{output.name}.saman"))

    @property
    def request(self) -> Path:
        """The record of the request for inference."""
        return self.path / "job.json"

    @property
    def plan(self) -> Path:
        """The record of the rows of each input of an inference job."""
        return self.path / "plan.json"

    @property
    def parts(self) -> Path:
        """Folder of an inference job's answers, a file per chunk; it disappears once they are joined."""
        return self.path / "parts"

    @property
    def joining(self) -> Path:
        """Marker folder of the inference rank that joins the parts."""
        return self.path / "joining"

    def part(self, chunk: int) -> Path:
        """Return the file of an inference job's answers to a chunk."""
        return self.parts / f"{chunk:08d}.parquet"

    def part_count(self) -> int:
        """Count the chunks that the inference job has answered."""
        return sum(name.endswith(".parquet") and name[0].isdigit() for name in names_in(self.parts))


@dataclass(frozen=True)
class NamedInput:
    """An input of a model: its name, and dtype and shape of an example."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class InferenceRequestRecord:
    """The request: ``model`` is a version's folder, ``manifest`` its SHA-256, ``chunk`` the rows of a part file.

    ``input_name``, ``dtype`` and ``shape`` are those of the first input, ``others`` the inputs after it.
    """

    model: str
    manifest: str
    inputs: tuple[str, ...]
    output: str
    input_name: str
    dtype: str
    shape: tuple[int | None, ...]
    batch: int
    chunk: int
    others: tuple[NamedInput, ...] = ()

    @property
    def wanted(self) -> tuple[NamedInput, ...]:
        """Every input of the model."""
        return NamedInput(self.input_name, self.dtype, self.shape), *self.others

    def differences(self, other: InferenceRequestRecord) -> list[str]:
        """Name the fields that differ, sorted."""
        mine, theirs = asdict(self), asdict(other)
        return sorted(name for name in mine if mine[name] != theirs[name])

    def write(self, path: Path) -> None:
        """Put the record at ``path``, whole."""
        write_json(path, {"schema": 1, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> InferenceRequestRecord | None:
        """Read the record at ``path``; ``None`` if there is none or it lacks a field. Raises ``NewerSchema``."""
        known = _known(cls, read_record(path))
        try:
            others = tuple(NamedInput(x["name"], x["dtype"], tuple(x["shape"])) for x in known.get("others", ()))
            tuples = {"inputs": tuple(known["inputs"]), "shape": tuple(known["shape"]), "others": others}
            return cls(**{**known, **tuples})
        except (KeyError, TypeError):
            return None


@dataclass(frozen=True)
class InferencePlanRecord:
    """Rows, kind and content mark of each input, in order."""

    rows: tuple[int, ...]
    kinds: tuple[str, ...]
    content: tuple[str, ...]

    def write(self, path: Path) -> None:
        """Put the record at ``path``, whole."""
        write_json(path, {"schema": 1, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> InferencePlanRecord | None:
        """Read the record at ``path``; ``None`` if there is none or it lacks a field. Raises ``NewerSchema``."""
        known = _known(cls, read_record(path))
        try:
            return cls(**{name: tuple(value) for name, value in known.items()})
        except TypeError:
            return None


def _known(kind: Any, value: dict[str, Any] | None) -> dict[str, Any]:
    return {name: item for name, item in (value or {}).items() if name in kind.__dataclass_fields__}
