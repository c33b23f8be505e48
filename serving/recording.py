"""Requests recorded by choice of the policy (``recording``): sampled, bounded, with fields hashed or dropped.

A part is a Parquet file with a row per example. The column ``inputs`` is what `saman infer` reads.
"""

from __future__ import annotations

import hashlib
import io
import random
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.schemas.policy import RecordingPolicy
from saman.registry.store.layout import ModelFolder, require_own_place
from saman.runs.files.whole import write_whole
from saman.serving.routing import AnsweredRequest, Arrays

FOLDER = "requests"
MOST_ROWS = 20_000  # in memory; further rows are counted and dropped
MOST_VALUES = 20_000_000  # in memory, over all rows
FLUSH_SECONDS = 10.0
_KEY_BYTES = 32


def requests_folder(folder: ModelFolder) -> Path:
    """The folder in which the server records a model's requests."""
    return folder.own / FOLDER


class RequestRecording:
    """Records answered requests of a model in a front. Safe to use from the event loop and a thread."""

    def __init__(self, folder: ModelFolder, policy: RecordingPolicy, server: str) -> None:
        self._folder = folder
        self._policy = policy
        self._server = server
        self._key = _read_key(folder) if policy.hash else b""
        self._lock = threading.Lock()
        self._rows: list[dict[str, Any]] = []
        self._values = 0
        self._flushed = time.monotonic()
        self.dropped = 0

    def observe(self, record: AnsweredRequest) -> None:
        """Keep a request if it is drawn and memory allows it; answers that nobody waited for are left out."""
        if record.is_mirror or random.random() >= self._policy.fraction:
            return
        rows = list(self._rows_of(record))
        size = sum(values.size for values in (*record.facts.inputs.values(), *record.outputs.values()))
        with self._lock:
            if len(self._rows) + len(rows) > MOST_ROWS or self._values + size > MOST_VALUES:
                self.dropped += len(rows)
                return
            self._rows += rows
            self._values += size

    def _rows_of(self, record: AnsweredRequest) -> Iterator[dict[str, Any]]:
        facts = record.facts
        head = {"time": record.time, "request_id": facts.request_id, "version": record.version,
                "signature": facts.signature, "seconds": record.seconds, "status": record.status}  # fmt: skip
        headers = {f"header.{name}": facts.metadata.get(name.lower()) for name in self._policy.headers}
        for row in range(_row_count(facts.inputs)):
            sides = {**_columns("inputs", facts.inputs, row), **_columns("outputs", record.outputs, row)}
            yield self._private({**head, "row": row, **headers, **sides})

    def _private(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row without the fields that the policy drops, and with digests of those that it hashes."""
        kept = {name: value for name, value in row.items() if not _is_named(name, self._policy.drop)}
        hidden = {name: self._digest(value) for name, value in kept.items() if _is_named(name, self._policy.hash)}
        return {**kept, **hidden}

    def _digest(self, value: Any) -> str | None:
        if value is None:
            return None
        return hashlib.blake2b(repr(value).encode("utf-8", "replace"), key=self._key, digest_size=16).hexdigest()

    def flush(self, *, now: bool = False) -> Path | None:
        """Write the rows that wait, at most every few seconds unless ``now``; the oldest parts go beyond the limit."""
        with self._lock:
            due = now or time.monotonic() - self._flushed >= FLUSH_SECONDS
            if not self._rows or not due:
                return None
            rows, self._rows, self._values = self._rows, [], 0
            self._flushed = time.monotonic()
        folder = requests_folder(self._folder)
        require_own_place(self._folder, folder / "any")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = folder / f"{time.time_ns():020d}-{self._server}.parquet"
        write_whole(file, _parquet(rows), private=True)
        _bound(folder, self._policy.most_bytes_number)
        return file


def _row_count(inputs: Arrays) -> int:
    sizes = {len(values) for values in inputs.values() if values.ndim}
    return sizes.pop() if len(sizes) == 1 else 1


def _columns(side: str, arrays: Arrays, row: int) -> dict[str, Any]:
    """The values of a row: a list, or text; a single tensor needs no name."""
    found = {}
    for name, values in arrays.items():
        part = np.asarray(values[row] if values.ndim and row < len(values) else values)
        column = side if len(arrays) == 1 else f"{side}.{name}"
        if part.dtype.kind in "biuf":
            found[column] = part.astype("float64").ravel().tolist()
        else:
            found[column] = [_text(item) for item in part.ravel()]
    return found


def _text(item: Any) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)


def _is_named(column: str, names: list[str]) -> bool:
    """Whether a policy names a column, with or without its prefix."""
    return column in names or column.partition(".")[2] in names


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import polars as pl

    names = list(dict.fromkeys(name for row in rows for name in row))
    columns: Mapping[str, list[Any]] = {name: [row.get(name) for row in rows] for name in names}
    stream = io.BytesIO()
    pl.DataFrame({name: pl.Series(name, values, strict=False) for name, values in columns.items()}).write_parquet(
        stream
    )
    return stream.getvalue()


def _bound(folder: Path, most_bytes: int) -> None:
    """Remove the oldest parts beyond the limit."""
    parts = sorted(folder.glob("*.parquet"), reverse=True)
    total = 0
    for part in parts:
        try:
            total += part.stat().st_size
            if total > most_bytes:
                part.unlink()
        except FileNotFoundError:  # another front removed it
            continue


def _read_key(folder: ModelFolder) -> bytes:
    """The key of the digests: without it, a digest of a short field could be found by trial. Made where missing."""
    file = folder.own / "recording.key"
    require_own_place(folder, file)
    if not file.is_file():
        write_whole(file, secrets.token_bytes(_KEY_BYTES), private=True)
    return file.read_bytes()[:64]
