"""Writes files atomically and appends lines; readers drop and count torn lines."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from saman.configs.errors import EnvironmentLack


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file by a single rename: a reader sees the old content or the new, never a part of it."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, by a single rename."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append a JSON line by a single write; first ends a line that a killed writer left torn."""
    data = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Any | None:
    """The value of a JSON file; ``None`` if the file is missing or torn."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Every JSON object in a file of lines, in order, and the number of torn lines that were dropped."""
    try:
        text = path.read_bytes()
    except OSError:
        return [], 0
    records, dropped = [], 0
    for line in text.split(b"\n"):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            records.append(value)
        else:
            dropped += 1
    return records, dropped


@contextlib.contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Turn an ``OSError`` while writing ``path`` into an ``EnvironmentLack`` with a remedy."""
    try:
        yield
    except OSError as error:
        remedies = {
            errno.EROFS: "the file system is read-only; choose another folder with --runs-dir",
            errno.EACCES: "choose a writable folder with --runs-dir",
            errno.EPERM: "choose a writable folder with --runs-dir",
            errno.ENOSPC: "the disk is full; free some space or choose another folder with --runs-dir",
            errno.EDQUOT: "your quota is used up; free some space or choose another folder with --runs-dir",
        }
        problem = f"{what} cannot be written: {os.strerror(error.errno) if error.errno else error}"
        raise EnvironmentLack(problem, where=str(path), remedy=remedies.get(error.errno or 0)) from error
